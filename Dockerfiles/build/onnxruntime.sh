#!/bin/sh
# onnxruntime.sh ARCH PINS: the shared libraries of the wheel that the file PINS names, with their licences, in
# /out. pip refuses a wheel with another hash.
set -eu
. "$(dirname "$0")/triple.sh"
pins=$2
apt-get update
apt-get install -y --no-install-recommends python3-pip
rm -rf /var/lib/apt/lists/*
# Any Python does, only the C libraries inside are used.
python3 -m pip download --no-cache-dir --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --python-version 3.12 --platform "manylinux_2_28_$machine" --dest /wheel --requirement "$pins"
python3 -m zipfile -e /wheel/*.whl /unpacked
mkdir -p /out/lib /out/share/onnxruntime
cp /unpacked/onnxruntime/capi/libonnxruntime*.so* /out/lib/
cp /unpacked/onnxruntime/LICENSE /unpacked/onnxruntime/ThirdPartyNotices.txt /out/share/onnxruntime/
rm -rf /wheel /unpacked
