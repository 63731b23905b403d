#!/bin/sh
# dependencies.sh ARCH: compiles everything that is not ours. Only the manifests are there yet, so that this layer is
# made anew when a dependency changes, and not when a source does. Our packages are empty meanwhile.
set -eu
. "$(dirname "$0")/triple.sh"
find . -mindepth 2 -name Cargo.toml -not -path './target/*' | while read -r manifest; do
    source=${manifest%/Cargo.toml}/src
    mkdir -p "$source"
    : > "$source/lib.rs"
    echo 'fn main() {}' > "$source/main.rs"
done
cargo build --locked --release --target "$triple" --package wharf
# It writes the SBOM, on the machine that builds.
cargo build --locked --release --package xtask
# The sources come next, but for those of the benchmarks (.dockerignore), which the workspace names all the same.
find . -mindepth 2 -path '*/src/*.rs' -not -path './target/*' -not -path './bench/*' -delete
