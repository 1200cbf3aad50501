import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NUMBER = r"\d(?:\.\d+)?e[+-]\d+"


def test_the_example_prints_what_the_readme_shows():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    example, shown = re.search(r"```python\n(import torch.*?)```\n\n```\n(.*?)```", text, re.DOTALL).groups()
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.sub(NUMBER, "#", done.stdout) == re.sub(NUMBER, "#", shown)
    # Rounding differs from machine to machine, but not by more than this.
    for found, expected in zip(re.findall(NUMBER, done.stdout), re.findall(NUMBER, shown), strict=True):
        assert float(expected) / 10 < float(found) < 10 * float(expected)
