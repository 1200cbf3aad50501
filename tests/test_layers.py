"""Imports run downward only, and what is heavy or foreign stays where it belongs."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Each part may import from itself and from those named.
ALLOWED = {
    "seqbraid.announced": set(),
    "seqbraid.errors": set(),
    "seqbraid.files": {"seqbraid.errors"},
    "seqbraid.progress": set(),
    "seqbraid.text": set(),
    "seqbraid.version": set(),
    "seqbraid.cells": set(),
    "seqbraid.kernels": {"seqbraid.cells", "seqbraid.errors"},
    "seqbraid.comm": {"seqbraid.announced", "seqbraid.errors"},
    "seqbraid.options": {"seqbraid.errors"},
    "seqbraid.mgrit": {"seqbraid.comm", "seqbraid.options"},
    "seqbraid.rnn": {
        "seqbraid.cells",
        "seqbraid.comm",
        "seqbraid.kernels",
        "seqbraid.mgrit",
        "seqbraid.options",
    },
    "seqbraid.messages": {"seqbraid.announced", "seqbraid.comm"},
    "seqbraid.launching": {
        "seqbraid.announced",
        "seqbraid.comm",
        "seqbraid.errors",
        "seqbraid.messages",
        "seqbraid.text",
    },
    "seqbraid.installation": {
        "seqbraid.comm",
        "seqbraid.kernels",
        "seqbraid.launching",
        "seqbraid.text",
        "seqbraid.version",
    },
    "seqbraid.threads": {"seqbraid.comm", "seqbraid.errors"},
    "seqbraid.data": {"seqbraid.comm", "seqbraid.errors", "seqbraid.files"},
    "seqbraid.verify": {
        "seqbraid.cells",
        "seqbraid.comm",
        "seqbraid.mgrit",
        "seqbraid.options",
        "seqbraid.rnn",
    },
    "seqbraid.bench": {
        "seqbraid.cells",
        "seqbraid.comm",
        "seqbraid.rnn",
        "seqbraid.kernels",
        "seqbraid.mgrit",
        "seqbraid.options",
        "seqbraid.plots",
        "seqbraid.text",
    },
    "seqbraid.train": {
        "seqbraid.cells",
        "seqbraid.comm",
        "seqbraid.data",
        "seqbraid.errors",
        "seqbraid.files",
        "seqbraid.rnn",
        "seqbraid.mgrit",
        "seqbraid.options",
        "seqbraid.progress",
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
    "preprocess": {
        "seqbraid.comm",
        "seqbraid.data",
        "seqbraid.errors",
        "seqbraid.files",
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
