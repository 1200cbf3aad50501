#!/usr/bin/env bash
# Installs into .venv what the tests need, and runs them. Arguments go to pytest: scripts/test.sh -k gru
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
prepare_environment test,plot,tensorboard

# One thread a process: the tests start several ranks, and threads that outnumber cores slow all of them.
export OMP_NUM_THREADS=1
# Files go to a process for each core; -n 0 keeps them in one.
exec .venv/bin/python -m pytest -n auto --maxprocesses 4 "$@"
