"""Small matrix products that stay in registers: the inner tiles of every compiled sweep.

A tile is R rows by P panels of columns of `out = bias + rows @ weights`. Its accumulators are vectors that
live in registers for the whole sum over K, so each multiply-add costs a fraction of a load; a loop that a
compiler vectorises on its own reaches half of that. Weights come packed in panels of 64 bytes' worth of
columns, so that a tile reads them as one stream.

Written as LLVM vectors of 256 bits, which every target lowers to what it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from seqbraid.kernels.jit import compiled

__all__ = ["PANEL_BYTES", "ROWS", "product"]

# Rows that go past a panel while it is in the nearest cache: a multiple of the tallest tile.
ROWS = 96
# Two vectors: 16 columns in float32, 8 in float64.
PANEL_BYTES = 64
_CONTRACT = ("contract",)


def _tile_code(builder: Any, arguments: Any, element: Any, lanes: int, rows: int, panels: int) -> None:
    """Emit the tile: one loop over K with all accumulators as its variables."""
    into, row_pointer, row_stride, weights, panel_stride, bias, out, out_stride, depth = arguments
    del into
    index = ir.IntType(64)
    lane = ir.IntType(32)
    vector = ir.VectorType(element, lanes)
    size = 32 // lanes
    panel_columns = PANEL_BYTES // size
    per_panel = 2
    columns = per_panel * panels

    def constant(value: int) -> Any:
        return ir.Constant(index, value)

    def address(base: Any, offset: Any) -> Any:
        return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())

    def column_offset(column: int) -> Any:
        """Return where a vector of the current k lies within the packed panels, without k's own share."""
        panel, within = divmod(column, per_panel)
        return builder.add(builder.mul(panel_stride, constant(panel)), constant(within * lanes))

    pointer = element.as_pointer()
    row_pointer, weights, bias, out = (
        builder.inttoptr(each, pointer) for each in (row_pointer, weights, bias, out)
    )
    starts = [builder.load(address(bias, constant(column * lanes)), align=size) for column in range(columns)]
    offsets = [column_offset(column) for column in range(columns)]
    row_offsets = [builder.mul(row_stride, constant(row)) for row in range(rows)]
    before = builder.block
    loop = builder.append_basic_block("sum")
    after = builder.append_basic_block("store")
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(index)
    k.add_incoming(constant(0), before)
    sums = [[builder.phi(vector) for _ in range(columns)] for _ in range(rows)]
    k_offset = builder.mul(k, constant(panel_columns))
    loaded = [builder.load(address(weights, builder.add(k_offset, offset)), align=size) for offset in offsets]
    undefined = ir.Constant(vector, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(lane, lanes), [0] * lanes)
    added = []
    for row in range(rows):
        value = builder.load(builder.gep(row_pointer, [builder.add(row_offsets[row], k)]), align=size)
        value = builder.insert_element(undefined, value, ir.Constant(lane, 0))
        value = builder.shuffle_vector(value, undefined, zeros)
        added.append(
            [
                builder.fadd(
                    builder.fmul(value, loaded[column], flags=_CONTRACT), sums[row][column], flags=_CONTRACT
                )
                for column in range(columns)
            ]
        )
    following = builder.add(k, constant(1))
    k.add_incoming(following, loop)
    for row in range(rows):
        for column in range(columns):
            sums[row][column].add_incoming(starts[column], before)
            sums[row][column].add_incoming(added[row][column], loop)
    builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

    builder.position_at_end(after)
    for row in range(rows):
        base = builder.mul(out_stride, constant(row))
        for column in range(columns):
            where = builder.add(base, constant(column * lanes))
            builder.store(added[row][column], address(out, where), align=size)


def _tile(rows: int, panels: int) -> Callable[..., None]:
    """Return an intrinsic for a tile of `rows` rows by `panels` panels, of the dtype of its first argument.

    Its arguments: any array of that dtype; the address of the first row and the elements between rows; of the
    first panel, and the elements between panels; of the bias; of the output, and the elements between its
    rows; K, at least 1.
    """

    @intrinsic
    def tile(
        typing: Any,
        like: Any,
        row_pointer: Any,
        row_stride: Any,
        weights: Any,
        panel_stride: Any,
        bias: Any,
        out: Any,
        out_stride: Any,
        depth: Any,
    ) -> Any:
        single = like.dtype == types.float32
        place, number = types.uintp, types.intp
        signature = types.void(like, place, number, place, number, place, place, number, number)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            element = ir.FloatType() if single else ir.DoubleType()
            _tile_code(builder, arguments, element, 8 if single else 4, rows, panels)
            return context.get_dummy_value()

        return signature, generate

    return tile


_tile_1x4 = _tile(1, 4)
_tile_1 = _tile(1, 1)
_tile_2x2 = _tile(2, 2)
_tile_2 = _tile(2, 1)
_tile_3 = _tile(3, 1)
_tile_4 = _tile(4, 1)
_tile_5 = _tile(5, 1)
_tile_6 = _tile(6, 1)


@compiled
def product(rows: np.ndarray, count: int, panels: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Fill out[:count] with bias + rows[:count] @ weights.

    rows (at least count, K); panels (N / W, K, W) of width W; bias (N); out (at least count, N).
    """
    depth = rows.shape[1]
    width = out.shape[1]
    item = rows.itemsize
    row_address, out_address = rows.ctypes.data, out.ctypes.data
    panel_address, bias_address = panels.ctypes.data, bias.ctypes.data
    panel_count = panels.shape[0]
    columns = panels.shape[2]
    stride = depth * columns
    if count < 3:
        # One or two rows leave few accumulators: several panels at once keep the arithmetic units busy.
        wide = 4 if count == 1 else 2
        panel = 0
        while count > 0 and panel < panel_count:
            weights = panel_address + panel * stride * item
            start = bias_address + panel * columns * item
            target = out_address + panel * columns * item
            if panel + wide > panel_count:
                wide = 1
            if count == 1 and wide == 4:
                _tile_1x4(rows, row_address, depth, weights, stride, start, target, width, depth)
            elif count == 1:
                _tile_1(rows, row_address, depth, weights, stride, start, target, width, depth)
            elif wide == 2:
                _tile_2x2(rows, row_address, depth, weights, stride, start, target, width, depth)
            else:
                _tile_2(rows, row_address, depth, weights, stride, start, target, width, depth)
            panel += wide
        return
    # Each panel stays in the nearest cache while a block of rows, which the next one holds, goes past it.
    for first in range(0, count, ROWS):
        last = min(first + ROWS, count)
        if count - last < 3:
            last = count
        for panel in range(panel_count):
            weights = panel_address + panel * stride * item
            start = bias_address + panel * columns * item
            row = first
            while row < last:
                left = last - row
                # 7 and 8 rows are 4 + 3 and 4 + 4, not 6 + 1 and 6 + 2.
                height = left if left < 6 else (4 if left == 7 or left == 8 else 6)
                here = row_address + row * depth * item
                target = out_address + (row * width + panel * columns) * item
                if height == 6:
                    _tile_6(rows, here, depth, weights, stride, start, target, width, depth)
                elif height == 5:
                    _tile_5(rows, here, depth, weights, stride, start, target, width, depth)
                elif height == 4:
                    _tile_4(rows, here, depth, weights, stride, start, target, width, depth)
                else:
                    _tile_3(rows, here, depth, weights, stride, start, target, width, depth)
                row += height
        if last == count:
            return
