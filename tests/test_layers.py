"""Imports run downward only, and what is heavy or foreign stays where it belongs."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each part may import from itself and from those named, all of which come before it: so there is no circle.
ALLOWED = {
    "seqbraid.announced": set(),
    "seqbraid.errors": set(),
    "seqbraid.text": set(),
    "seqbraid.files": {"seqbraid.errors"},
    "seqbraid.progress": set(),
    "seqbraid.options": {"seqbraid.errors"},
    "seqbraid.comm": {"seqbraid.announced", "seqbraid.errors", "seqbraid.options"},
    "seqbraid.cells": set(),
    "seqbraid.kernels": {"seqbraid.cells", "seqbraid.errors"},
    "seqbraid.mgrit": {"seqbraid.comm", "seqbraid.options"},
    "seqbraid.solve": {"seqbraid.comm", "seqbraid.mgrit", "seqbraid.options"},
    "seqbraid.rnn": {
        "seqbraid.cells",
        "seqbraid.comm",
        "seqbraid.kernels",
        "seqbraid.mgrit",
        "seqbraid.options",
        "seqbraid.solve",
    },
    "seqbraid.data": {"seqbraid.comm", "seqbraid.errors", "seqbraid.files", "seqbraid.options"},
    "seqbraid.messages": {"seqbraid.announced", "seqbraid.comm"},
    "seqbraid.launching": {
        "seqbraid.announced",
        "seqbraid.comm",
        "seqbraid.errors",
        "seqbraid.messages",
        "seqbraid.text",
    },
    "seqbraid.threads": {"seqbraid.comm", "seqbraid.errors"},
    "seqbraid.version": set(),
    "seqbraid.installation": {
        "seqbraid.comm",
        "seqbraid.kernels",
        "seqbraid.launching",
        "seqbraid.text",
        "seqbraid.version",
    },
    "seqbraid.verify": {
        "seqbraid.cells",
        "seqbraid.comm",
        "seqbraid.mgrit",
        "seqbraid.options",
        "seqbraid.rnn",
    },
    "seqbraid.train": {
        "seqbraid.cells",
        "seqbraid.comm",
        "seqbraid.data",
        "seqbraid.errors",
        "seqbraid.files",
        "seqbraid.messages",
        "seqbraid.mgrit",
        "seqbraid.options",
        "seqbraid.progress",
        "seqbraid.rnn",
        "seqbraid.solve",
        "seqbraid.threads",
        "seqbraid.version",
    },
    "seqbraid.runs": {
        "seqbraid.errors",
        "seqbraid.options",
        "seqbraid.rnn",
        "seqbraid.text",
        "seqbraid.train",
    },
    "seqbraid.plots": {
        "seqbraid.data",
        "seqbraid.errors",
        "seqbraid.files",
        "seqbraid.runs",
        "seqbraid.text",
        "seqbraid.verify",
    },
    "seqbraid.bench": {
        "seqbraid.cells",
        "seqbraid.comm",
        "seqbraid.kernels",
        "seqbraid.mgrit",
        "seqbraid.options",
        "seqbraid.plots",
        "seqbraid.rnn",
        "seqbraid.text",
    },
    "preprocess": {
        "seqbraid.comm",
        "seqbraid.data",
        "seqbraid.errors",
        "seqbraid.files",
        "seqbraid.options",
        "seqbraid.progress",
    },
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def part_of(module):
    words = module.split(".")
    return words[0] if words[0] == "preprocess" else ".".join(words[:2])


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_run_downward(part):
    place = ROOT / part.replace(".", "/")
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert files
    for path in files:
        for module in imports(path):
            if module.split(".")[0] in ("seqbraid", "preprocess"):
                assert part_of(module) in ALLOWED[part] | {part}, f"{path.relative_to(ROOT)} imports {module}"


def test_every_part_is_listed():
    names = {path.stem for path in (ROOT / "seqbraid").iterdir() if path.suffix in ("", ".py")}
    parts = {f"seqbraid.{name}" for name in names - {"__init__", "__pycache__", "cli"}}
    assert parts == set(ALLOWED) - {"preprocess"}


def test_parts_build_on_those_before_them():
    before = set()
    for part, allowed in ALLOWED.items():
        assert allowed <= before, f"{part} may import {allowed - before}, which come after it"
        before.add(part)


def test_the_solver_knows_no_model():
    models = {"seqbraid.cells", "seqbraid.kernels", "seqbraid.rnn", "seqbraid.data", "seqbraid.train"}

    def reachable(part):
        return {part}.union(*map(reachable, ALLOWED[part]))

    for part in ("seqbraid.mgrit", "seqbraid.solve"):
        assert not reachable(part) & models


def test_no_module_imports_itself_by_way_of_others():
    paths = [path for name in ("seqbraid", "preprocess") for path in (ROOT / name).rglob("*.py")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    graph = {
        name: {module for module in imported_modules(path, names) if module != name}
        for name, path in names.items()
        if path.name != "__init__.py"  # whose imports are the public names of what lies beside it
    }
    done, under_way = set(), []

    def visit(name):
        assert name not in under_way, " -> ".join([*under_way[under_way.index(name) :], name])
        if name not in done:
            under_way.append(name)
            for module in graph.get(name, ()):
                visit(module)
            under_way.pop()
            done.add(name)

    for name in graph:
        visit(name)
    assert len(done) > 100


def imported_modules(path, names):
    """Yield the files that a file imports, within functions too, but for those of type annotations alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            within = [f"{node.module}.{name.name}" for name in node.names]
            yield from [module for module in within if module in names] or [node.module] * (
                node.module in names
            )
