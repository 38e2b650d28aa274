#!/bin/bash
# Install a wheel into a fresh environment of a Python, and use it there with an empty PATH:
#   release/try_wheel.sh python3.12 dist/reconsplat-*.whl [FOLDER]
# PIP_OPTIONS adds options for pip, such as "-c constraints.txt".
set -euo pipefail
python=$1 wheel=$(realpath "$2") folder=${3:-build/wheel-venv}
root=$(dirname "$(dirname "$(realpath "$0")")")
"$python" -m venv --clear "$folder"
# shellcheck disable=SC2086
"$folder/bin/python" -m pip install --quiet ${PIP_OPTIONS:-} "$wheel"
# Elsewhere than in the source folder, so that the installed packages are what is imported.
cd "$folder"
export PATH=
bin/python --version
bin/recon doctor
bin/recon "$root/assets/city" -o scene.ply --max-views 4 --resolution 256
bin/recon render scene.ply -o view.png --cameras "$root/assets/city" --size 240x320
