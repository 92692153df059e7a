#!/usr/bin/env bash
# Makes an environment of Python 3.7 with the packages of the publications (original-requirements.txt).
# Usage: scripts/make_original_env.sh [FOLDER]   (default: .venv-original beside the checkout's .venv)
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

requirements="$root/scripts/original-requirements.txt"

find_python_37() {
    first_python 3.7 XAIRT_PYTHON37 "'pyenv install 3.7' or 'conda create -n py37 python=3.7'" \
        python3.7 "${PYENV_ROOT:-$home/.pyenv}"/versions/3.7*/bin/python \
        "$home"/.local/share/uv/python/cpython-3.7*/bin/python3.7 \
        "$home"/{miniforge3,mambaforge,miniconda3,anaconda3}/envs/*/bin/python /opt/conda/envs/*/bin/python
}

# is_whole FOLDER: made to its end, at this place, from these requirements. The stamp is written last.
is_whole() {
    [[ -f "$1/xairt-original.stamp" ]] && is_python 3.7 "$1/bin/python" &&
        printf '%s\n' "$1" | cat - "$requirements" | cmp -s - "$1/xairt-original.stamp"
}

# make_original FOLDER
make_original() {
    local folder="$1" base pip
    if [[ -e "$folder" && ! -f "$folder/pyvenv.cfg" && ! (-d "$folder" && -z "$(ls -A "$folder")") ]]; then
        fail "$folder: is no virtual environment; move it away or name another folder"
    fi
    base="$(find_python_37)"
    echo "making $folder with $base (a few minutes, about 1.5 GB)"
    rm -rf -- "$folder"
    "$base" -m venv "$folder"
    pip=("$folder/bin/python" -m pip -q -q --no-input --no-cache-dir install)
    # SHAP is built here, and must be built with the numpy that it will run with.
    "${pip[@]}" wheel==0.42.0 "$(grep '^numpy==' "$requirements")" </dev/null
    "${pip[@]}" --no-build-isolation -r "$requirements" </dev/null
    (cd / && "$folder/bin/python" -c 'import innvestigate, keras, h5py, shap, tensorflow, yaml
import deeplift.conversion.kerasapi_conversion' </dev/null >/dev/null 2>&1) ||
        fail "$folder: the packages are installed but cannot be imported; remove it and try again"
    printf '%s\n' "$folder" | cat - "$requirements" >"$folder/xairt-original.stamp"
}

folder="${1:-$root/.venv-original}"
mkdir -p -- "$(dirname -- "$folder")"
folder="$(cd -- "$(dirname -- "$folder")" && pwd -P)/$(basename -- "$folder")"
is_whole "$folder" || make_original "$folder"
echo "ready; the engines use it after:"
printf 'export XAIRT_LEGACY_PYTHON=%q\n' "$folder/bin/python"
