//! Which compiler builds the guests: rustup's wasm32 target, else Debian's own Rust with its library sources.
//!
//! rustup's target is what users have. Debian's packages are for machines that may install packages but cannot
//! reach rustup's servers; there the standard library is compiled along with the guests (`-Z build-std`).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::{prerequisites, step, tree};

pub const TARGET: &str = "wasm32-unknown-unknown";

const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-22"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "wasm-ld-22";
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/Cargo.toml";

/// A download of some 20 MB; where the servers cannot be reached, nobody should wait longer for that to show.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    Rustup,
    Debian,
}

impl Toolchain {
    /// The one that is there, else the first that can be had. What is installed is never fetched again.
    pub fn ready() -> Result<Self> {
        match std::env::var("WHARF_GUEST_TOOLCHAIN").as_deref() {
            Ok("rustup") => return rustup_target(),
            Ok("debian") => return debian_packages(),
            Ok("") | Err(_) => {}
            Ok(other) => bail!("WHARF_GUEST_TOOLCHAIN is `{other}`: write `rustup` or `debian`, or unset it"),
        }
        if let Some(installed) = installed() {
            return Ok(installed);
        }
        rustup_target().or_else(|error| {
            step::note(format_args!("rustup cannot provide {TARGET} ({error:#}): trying Debian's Rust"));
            debian_packages()
        })
    }

    /// `cargo <verb>` for the guests, lacking only `--manifest-path` and `--target-dir`.
    pub fn cargo(self, verb: &str) -> Command {
        match self {
            Self::Rustup => {
                let mut command = Command::new(tree::cargo());
                command.args([verb, "--release", "--target", TARGET]);
                command
            }
            Self::Debian => {
                let mut command = Command::new(DEBIAN_CARGO);
                command.args([verb, "--release", "--target", TARGET, "-Z", "build-std=std,panic_abort"]);
                // RUSTC_BOOTSTRAP: build-std is an unstable flag, and Debian ships the stable compiler.
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER);
                // Set by the cargo that runs us; they would mix its toolchain into this one.
                for ours in ["CARGO", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
                    command.env_remove(ours);
                }
                command
            }
        }
    }
}

/// One line for `cargo xtask doctor`; installs nothing.
pub fn describe() -> &'static str {
    match installed() {
        Some(Toolchain::Rustup) => "rustup's wasm32-unknown-unknown",
        Some(Toolchain::Debian) => "Debian's Rust (rustc-web, cargo-web, rust-web-src, lld-22)",
        None => "nothing yet: the first build adds rustup's wasm32-unknown-unknown, else Debian's Rust",
    }
}

fn installed() -> Option<Toolchain> {
    if rustup_has_target() {
        return Some(Toolchain::Rustup);
    }
    let files = [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_SOURCES].iter().all(|path| Path::new(path).exists());
    (files && step::succeeds(Command::new(DEBIAN_LINKER).arg("--version"))).then_some(Toolchain::Debian)
}

fn rustup_has_target() -> bool {
    let list = Command::new("rustup").args(["target", "list", "--installed"]).stderr(Stdio::null()).output();
    list.is_ok_and(|output| output.stdout.split(|byte| *byte == b'\n').any(|line| line == TARGET.as_bytes()))
}

fn rustup_target() -> Result<Toolchain> {
    if !rustup_has_target() {
        step::note(format_args!("adding rustup's {TARGET}: the guests are built for it"));
        step::run_within(Command::new("rustup").args(["target", "add", TARGET]), RUSTUP_PATIENCE)?;
    }
    Ok(Toolchain::Rustup)
}

fn debian_packages() -> Result<Toolchain> {
    prerequisites::install_debian(&DEBIAN_PACKAGES, &format!("build the guests for {TARGET}")).map_err(|error| {
        error.context(format!(
            "no compiler for the guests: install rustup (https://rustup.rs) and run `rustup target add {TARGET}`"
        ))
    })?;
    Ok(Toolchain::Debian)
}
