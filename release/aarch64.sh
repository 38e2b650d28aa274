#!/bin/bash
# Compile the CPU kernel for 64-bit Arm, and run its tests in an emulator with a Python and a torch
# for that processor. Debian or Ubuntu: apt-get install g++-aarch64-linux-gnu qemu-user cmake
#   release/aarch64.sh [FOLDER]
# Needs no root: Debian's packages of Python are unpacked below FOLDER.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${1:-build/aarch64}")
python=${PYTHON:-python3}
mkdir -p "$folder"/{lists,cache,debs,root,kernel}/ "$folder"/{lists/partial,cache/archives/partial}

cmake -S . -B "$folder/kernel" -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux \
  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ > "$folder/cmake.log"
cmake --build "$folder/kernel" --parallel >> "$folder/cmake.log"

if [ ! -x "$folder/root/usr/bin/python3.11" ]; then
  options=(-q -oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oDir::State::status=/dev/null
    "-oDir::State::Lists=$folder/lists" "-oDir::Cache=$folder/cache" -oAPT::Sandbox::User=)
  apt-get "${options[@]}" update > "$folder/apt.log"
  names=$(apt-cache "${options[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts \
    --no-breaks --no-replaces --no-enhances python3.11-minimal libpython3.11-stdlib libstdc++6 \
    libgomp1 | grep '^\w' | grep -vE 'debconf|perl|dpkg|^tar$' | sort -u)
  # shellcheck disable=SC2086
  (cd "$folder/debs" && apt-get "${options[@]}" download $names >> "$folder/apt.log")
  for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$folder/root"; done
fi
if [ ! -d "$folder/site/torch" ]; then
  # PyPI's later torch for Arm brings CUDA.
  "$python" -m pip install --quiet --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --python-version 3.11 \
    --implementation cp --abi cp311 --abi abi3 --abi none --only-binary=:all: --no-deps \
    --target "$folder/site" torch==2.7.1 numpy typing_extensions sympy mpmath networkx jinja2 \
    markupsafe fsspec filelock jaxtyping wadler_lindig pillow pytest pluggy iniconfig packaging \
    pygments beartype hypothesis sortedcontainers attrs safetensors pytest-timeout psutil pyyaml \
    dacite rich opencv-python-headless markdown-it-py mdurl
fi

# A forked process, and the memory of the process, are the emulator's.
exec qemu-aarch64 -L "$folder/root" -E "PYTHONPATH=$folder/site:$PWD" -E PYTHONDONTWRITEBYTECODE=1 \
  -E "PYTHONHOME=$folder/root/usr" -E "RECON_CPU_DIR=$folder/kernel" \
  "$folder/root/usr/bin/python3.11" -m pytest -p no:cacheprovider --timeout 0 \
  tests/render/test_cpu.py tests/render/test_cpu_accuracy.py -k "not fork and not memory_is_released"
