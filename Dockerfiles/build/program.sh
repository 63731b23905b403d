#!/bin/sh
# program.sh ARCH ONNXRUNTIME: the program, stripped, and what it is made of, in /out. ONNXRUNTIME is a file of pins, or
# the version of one compiled from source.
set -eu
. "$(dirname "$0")/triple.sh"
# Cargo compares times: sources keep theirs in the context, and would look older than the empty packages before them.
find . -name '*.rs' -not -path './target/*' -exec touch {} +
cargo build --locked --release --target "$triple" --package wharf
mkdir -p /out/bin /out/share
cp "target/$triple/release/wharf" /out/bin/wharf
if [ "$arch" = "$(dpkg --print-architecture)" ]; then strip /out/bin/wharf; else "$machine-linux-gnu-strip" /out/bin/wharf; fi
cargo run --locked --release --package xtask -- sbom --target "$triple" --onnxruntime "$2" > /out/share/sbom.cdx.json
cp LICENSE /out/share/LICENSE
