#!/bin/sh
# Builds the service with rustup's wasm32 target, else with Debian's own Rust, and says which. What is missing is
# installed once. WHARF_GUEST_TOOLCHAIN=rustup (or =debian) chooses; arguments go to cargo.
set -eu
cd "$(dirname "$0")"

target=wasm32-unknown-unknown
packages="rustc-web cargo-web rust-web-src lld-22"

say() { printf 'build.sh: %s\n' "$*" >&2; }

rustup_is_there() {
    rustup target list --installed 2>/dev/null | grep -qx "$target"
}

debian_is_there() {
    [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && [ -e /usr/lib/rustlib/src/rust/library/Cargo.toml ] &&
        wasm-ld-22 --version >/dev/null 2>&1
}

add_rustup() {
    rustup_is_there && return
    command -v rustup >/dev/null || { say "rustup is not installed"; return 1; }
    say "adding rustup's $target"
    # Where rustup's servers cannot be reached, nobody should wait long for that to show.
    limit=""
    if command -v timeout >/dev/null; then limit="timeout 120"; fi
    $limit rustup target add "$target" || { say "rustup cannot provide $target"; return 1; }
}

add_debian() {
    debian_is_there && return
    command -v apt-get >/dev/null || { say "apt-get is not installed"; return 1; }
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        as_root="sudo -n"
        sudo -n true 2>/dev/null || { say "run: sudo apt-get install $packages"; return 1; }
    fi
    say "installing the Debian packages $packages"
    export DEBIAN_FRONTEND=noninteractive
    $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $packages
}

choose() {
    case "${WHARF_GUEST_TOOLCHAIN:-}" in
    rustup) add_rustup && toolchain=rustup ;;
    debian) add_debian && toolchain=debian ;;
    "")
        if rustup_is_there; then toolchain=rustup
        elif debian_is_there; then toolchain=debian
        elif add_rustup; then toolchain=rustup
        else add_debian && toolchain=debian
        fi
        ;;
    *) say "WHARF_GUEST_TOOLCHAIN is \"$WHARF_GUEST_TOOLCHAIN\": write rustup or debian, or unset it"; exit 2 ;;
    esac
}

choose || { say "no compiler: install rustup (https://rustup.rs) and run: rustup target add $target"; exit 1; }

if [ "$toolchain" = rustup ]; then
    say "building with rustup's $target"
    cargo build --release --target "$target" "$@"
else
    say "building with Debian's Rust; the first time its standard library too"
    # The Rust that may have started this script must not mix with Debian's.
    unset CARGO RUSTUP_TOOLCHAIN LD_LIBRARY_PATH
    # RUSTC_BOOTSTRAP: build-std is an unstable flag, and Debian ships the stable compiler.
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-22 \
        /usr/bin/cargo build --release --target "$target" -Z build-std=std,panic_abort "$@"
fi
say "made ${CARGO_TARGET_DIR:-target}/$target/release/{{crate}}.wasm"
