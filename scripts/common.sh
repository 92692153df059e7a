# Shared by demo.sh and test.sh: finds Python 3.11, makes .venv and installs xairt into it.
# shellcheck shell=bash

root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
venv="$root/.venv"
python="$venv/bin/python"

# Settings of another Python must not leak into the environment, nor pip write outside it.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONNOUSERSITE=1

home="${HOME:-/nonexistent}"

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# is_python VERSION COMMAND: it runs, is that Python, and can make virtual environments with pip.
is_python() {
    "$2" -c 'import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$1" \
        </dev/null >/dev/null 2>&1
}

# first_python VERSION VARIABLE EXAMPLES CANDIDATE...: the command that VARIABLE names, else the first candidate
# that is Python VERSION; EXAMPLES say how to install one. A command on the PATH may be a shim of a version that
# is not active, so every candidate is run.
first_python() {
    local version="$1" variable="$2" examples="$3" candidate
    shift 3
    if [[ -n "${!variable:-}" ]]; then
        is_python "$version" "${!variable}" ||
            fail "$variable=${!variable}: no Python $version with venv and pip; correct or unset it"
        printf '%s\n' "${!variable}"
        return
    fi
    for candidate in "$@"; do
        if is_python "$version" "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python $version with venv found; install one (for example $examples) or set $variable to one"
}

find_python() {
    first_python 3.11 XAIRT_PYTHON \
        "'apt install python3.11-venv', 'pyenv install 3.11' or 'conda create -n py311 python=3.11'" \
        python3.11 python3 python \
        "${PYENV_ROOT:-$home/.pyenv}"/versions/3.11*/bin/python "$home"/.pyenv/versions/3.11*/bin/python \
        "$home"/.local/share/uv/python/cpython-3.11*/bin/python3.11 \
        "$home"/{miniforge3,mambaforge,miniconda3,anaconda3}/{,envs/*/}bin/python /opt/conda/{,envs/*/}bin/python \
        /usr/local/bin/python3.11 /opt/homebrew/bin/python3.11 /usr/bin/python3.11
}

# A virtual environment holds its own path, so one that was moved or copied is not sound.
venv_is_sound() {
    [[ -f "$venv/bin/pip" ]] && grep -qF -- "$venv/bin/" "$venv/bin/pip" && is_python 3.11 "$python" &&
        "$python" -c 'import sys, pip; sys.exit(sys.prefix == sys.base_prefix)' </dev/null >/dev/null 2>&1
}

make_venv() {
    local base
    if [[ -e "$venv" && ! -f "$venv/pyvenv.cfg" && -n "$(ls -A "$venv")" ]]; then
        fail "$venv: is no virtual environment; move it away"
    fi
    base="$(find_python)"
    echo "making $venv with $base"
    rm -rf -- "$venv"
    "$base" -m venv "$venv"
}

# What the installed packages depend on, as one hash.
requirements_hash() {
    "$python" -c 'import hashlib, pathlib, sys
print(hashlib.sha256(b"\0".join(pathlib.Path(p).read_bytes() for p in sys.argv[1:])).hexdigest())' \
        "$root/setup.cfg" "$root/pyproject.toml" "$root/constraints.txt"
}

# is_installed EXTRAS HASH
is_installed() {
    [[ -f "$venv/xairt$1.stamp" && "$(<"$venv/xairt$1.stamp")" == "$2" ]] &&
        (cd / && "$python" -c 'import pathlib, sys, xairt
sys.exit(not pathlib.Path(xairt.__file__).is_relative_to(sys.argv[1]))' "$root") </dev/null >/dev/null 2>&1
}

# prepare [EXTRAS]: a sound .venv with xairt and the extras, for example "[dev]"; quick when nothing changed.
prepare() {
    local extras="${1:-}" hash
    venv_is_sound || make_venv
    hash="$(requirements_hash)"
    if is_installed "$extras" "$hash"; then
        return
    fi
    echo "installing xairt$extras into $venv (a few minutes, about 3 GB)"
    rm -f -- "$venv"/xairt*.stamp
    # -q -q leaves only errors.
    (cd -- "$root" && "$python" -m pip -q -q --no-input --no-cache-dir install -c constraints.txt -e ".$extras") </dev/null
    printf '%s\n' "$hash" >"$venv/xairt.stamp"
    printf '%s\n' "$hash" >"$venv/xairt$extras.stamp"
}
