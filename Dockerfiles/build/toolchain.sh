#!/bin/sh
# toolchain.sh ARCH: what compiling for ARCH (amd64, arm64) takes beyond the Rust image.
set -eu
. "$(dirname "$0")/triple.sh"
apt-get update
apt-get install -y --no-install-recommends libc6-dev gcc ca-certificates
if [ "$arch" != "$(dpkg --print-architecture)" ]; then
    apt-get install -y --no-install-recommends "gcc-$gnu" "libc6-dev-$arch-cross"
fi
rm -rf /var/lib/apt/lists/*
rustup target add "$triple"
