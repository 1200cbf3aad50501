"""The main job on data of its own: videos of moving figures become features, and a sequence-parallel GRU
learns to tell the motions apart on several MPI ranks; the serial solver does the same from the same start.

Every step is a command that works on other data too, and is shown before it runs. A second run keeps the
videos and the features that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BACKBONE, LAYER, FRAMES, SIZE = "resnet18", "pool", 16, 64
TRAINING = "--cell implicit --num-layers 2 --hidden-size 64 --epochs 10 --batch-size 16 --lr 2e-3 --seed 0"
MGRIT = "--solver mgrit --coarsening 4"
REQUIRED_ACCURACY, ALLOWED_GAP = 0.8, 0.03


def run(command: str, ranks: int = 1) -> str:
    """Show a command, run it on so many ranks, and return its standard output; a failure ends the script."""
    words = shlex.split(command)
    if ranks > 1:
        words = ["mpiexec", "-n", str(ranks), *words]
    print(f"\n$ {shlex.join(words)}", flush=True)
    environment = {
        **os.environ,
        # One for each rank: products this small gain nothing from more, and lose where a core is busy.
        "OMP_NUM_THREADS": "1",
        # For Open MPI, which else refuses root (as in a container) and more ranks than cores.
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        sys.exit(f"quickstart: this command failed with exit code {process.returncode}: {shlex.join(words)}")
    return "".join(lines)


def quote(argument: object) -> str:
    """Return an argument so that a shell takes it as one word."""
    return shlex.quote(str(argument))


def choose_weights() -> str:
    """Return the pretrained weights where they can be downloaded, else seeded random ones, said aloud."""
    from preprocess.backbones import load_backbone
    from seqbraid.errors import WeightsUnavailableError

    print(f"looking for pretrained weights of {BACKBONE} ...", flush=True)
    try:
        load_backbone(BACKBONE, "IMAGENET1K_V1", LAYER)
    except WeightsUnavailableError:
        print("they cannot be downloaded here, so the features will come from seeded random weights")
        return "random:0"
    return "IMAGENET1K_V1"


def accuracy_of(output: str) -> float:
    """Return the accuracy that `seqbraid evaluate` printed."""
    found = re.search(r"accuracy (\d\.\d+)", output)
    if found is None:
        sys.exit("quickstart: `seqbraid evaluate` printed no accuracy")
    return float(found.group(1))


def row(name: str, ranks: int, run_folder: Path, accuracy: float) -> list[str]:
    """Return a line of the closing table."""
    epochs: list[dict[str, Any]] = [json.loads(line) for line in (run_folder / "metrics.jsonl").open()]
    seconds = sum(epoch["train_seconds"] for epoch in epochs)
    return [
        name,
        str(ranks),
        f"{accuracy:.3f}",
        f"{epochs[0]['train_loss']:.4f}",
        f"{epochs[-1]['train_loss']:.4f}",
        f"{epochs[-1]['forward_residual']:.0e}",
        f"{seconds:.1f}",
    ]


def main() -> None:
    """Generate, preprocess, train, evaluate, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("quickstart-data"),
        help="where everything is written (default: quickstart-data)",
    )
    parser.add_argument("--ranks", type=int, default=2, help="MPI ranks of the parallel run (default: 2)")
    parser.add_argument(
        "--weights", metavar="SPEC", help="a weight name, a file or random:SEED (default: see above)"
    )
    options = parser.parse_args()
    if options.ranks < 1:
        parser.error(f"--ranks is {options.ranks}; expected at least 1")
    if options.ranks > 1 and shutil.which("mpiexec") is None:
        sys.exit("quickstart: there is no mpiexec on the PATH; start it as: bash scripts/quickstart.sh")
    start = time.perf_counter()
    folder: Path = options.folder
    videos = folder / "videos"
    weights = options.weights or choose_weights()
    name = re.sub(r"\W+", "-", Path(weights).name)
    features = folder / f"features-{name}"
    parallel, serial = folder / f"run-mgrit-{name}", folder / f"run-serial-{name}"
    q = {key: shlex.quote(str(path)) for key, path in locals().items() if isinstance(path, Path)}

    run(f"{quote(sys.executable)} -m preprocess.figures {quote(videos)}")
    run(
        f"seqbraid preprocess {quote(videos)} {quote(features)} --backbone {BACKBONE} --layer {LAYER} "
        f"--weights {quote(weights)} --frames {FRAMES} --size {SIZE}",
        options.ranks,
    )
    run(
        f"seqbraid train {quote(features)} {TRAINING} {MGRIT} --output {quote(parallel)} --overwrite",
        options.ranks,
    )
    evaluated = run(f"seqbraid evaluate {quote(parallel)} {quote(features)}", options.ranks)
    parallel_accuracy = accuracy_of(evaluated)
    run(f"seqbraid train {quote(features)} {TRAINING} --solver serial --output {quote(serial)} --overwrite")
    serial_accuracy = accuracy_of(run(f"seqbraid evaluate {quote(serial)} {quote(features)}"))
    clip = min((videos / "hop_right").glob("*.avi"))
    run(f"seqbraid predict {quote(parallel)} {quote(clip)} --top 3")

    header = ["solver", "ranks", "test accuracy", "first loss", "last loss", "residual", "training s"]
    table = [
        header,
        row("MGRIT", options.ranks, parallel, parallel_accuracy),
        row("serial", 1, serial, serial_accuracy),
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(header))]
    print(f"\nimplicit GRU on {BACKBONE} features ({weights}); 8 classes, chance is 0.125\n")
    for line in table:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))
    print("\nA new installation compiles the kernels in its first run, some ten seconds of the first row.")
    print("Sequences of 16 steps are too short for a gain in time; seqbraid bench scaling shows where it is.")
    print(f"\n{time.perf_counter() - start:.0f} s in all; everything lies in {folder}")
    print("To use what was installed here: . .venv/bin/activate")
    gap = abs(parallel_accuracy - serial_accuracy)
    if min(parallel_accuracy, serial_accuracy) < REQUIRED_ACCURACY or gap > ALLOWED_GAP:
        sys.exit(
            f"quickstart: expected accuracies of at least {REQUIRED_ACCURACY}, "
            f"within {ALLOWED_GAP} of each other"
        )


if __name__ == "__main__":
    main()
