#!/usr/bin/env bash
# Installs into .venv, then does the main job on data of its own: videos to features to a classifier trained
# on two ranks. Arguments go to scripts/quickstart.py, see scripts/quickstart.sh --help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
prepare_environment plot
exec .venv/bin/python scripts/quickstart.py "$@"
