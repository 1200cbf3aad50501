"""The code that docs show runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_runs_from_python_are_as_the_docs_say(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    accuracies, sizes, *_ = done.stdout.splitlines()
    assert sizes == "16 4"
    assert len(accuracies.split(", ")) == 5
    assert (tmp_path / "run" / "best.pt").is_file()


def test_the_words_of_the_glossary_are_sorted_and_said_once() -> None:
    lines = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    words = [line.split("|")[1].strip() for line in lines if line.startswith("| ")][2:]
    assert words == sorted(set(words), key=str.lower)
