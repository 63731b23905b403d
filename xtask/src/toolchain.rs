//! Which compiler builds the guests: rustup's wasm32 targets, else Debian's own Rust with its library sources.
//!
//! rustup's targets are what users have. Debian's packages are for machines that may install packages but cannot
//! reach rustup's servers; there the standard library is compiled along with the guests (`-Z build-std`).

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::{prerequisites, step, tree};

const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-22"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "wasm-ld-22";
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/Cargo.toml";

/// The C library below std on WASI. rustup's target brings its own.
const DEBIAN_WASI_PACKAGE: &str = "wasi-libc";
/// The start of a module that is called many times, where `crt1-command.o` would run `main` once.
const DEBIAN_WASI_START: &str = "/usr/lib/wasm32-wasi/crt1-reactor.o";
/// Joined with the flags of `.cargo/config.toml`. What rustup keeps beside the compiler, Debian's lacks.
const DEBIAN_WASI_FLAGS: &str = "-C link-self-contained=no -L native=/usr/lib/wasm32-wasi \
                                 -C link-arg=/usr/lib/wasm32-wasi/crt1-reactor.o";

/// A download of some 20 MB; where the servers cannot be reached, nobody should wait longer for that to show.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(120);

/// What guests are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `wasm32-unknown-unknown`: nothing underneath, so a guest imports what its source says and no more.
    Unknown,
    /// `wasm32-wasip1`: WASI preview 1 underneath, which the host turns into 0.2.
    Wasip1,
}

impl Target {
    pub const ALL: [Self; 2] = [Self::Unknown, Self::Wasip1];

    pub const fn triple(self) -> &'static str {
        match self {
            Self::Unknown => "wasm32-unknown-unknown",
            Self::Wasip1 => "wasm32-wasip1",
        }
    }

    fn debian_packages(self) -> Vec<&'static str> {
        let extra = (self == Self::Wasip1).then_some(DEBIAN_WASI_PACKAGE);
        DEBIAN_PACKAGES.into_iter().chain(extra).collect()
    }

    /// Files that are there once the packages are.
    fn debian_files(self) -> impl Iterator<Item = &'static Path> {
        let extra = (self == Self::Wasip1).then_some(DEBIAN_WASI_START);
        [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_SOURCES].into_iter().chain(extra).map(Path::new)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    Rustup,
    Debian,
}

/// A toolchain that can build for a target.
#[derive(Clone, Copy, Debug)]
pub struct Compiler {
    pub toolchain: Toolchain,
    target: Target,
}

impl Compiler {
    /// The one that is there, else the first that can be had. What is installed is never fetched again.
    pub fn ready(target: Target) -> Result<Self> {
        let asked = std::env::var("WHARF_GUEST_TOOLCHAIN").unwrap_or_default();
        let plan = plan(&asked, || installed(target))?;
        let fetch = |toolchain| match toolchain {
            Toolchain::Rustup => rustup_target(target),
            Toolchain::Debian => debian_packages(target),
        };
        Ok(Self { toolchain: carry_out(plan, target, fetch, step::note)?, target })
    }

    /// `cargo <verb>` for the guests, lacking only `--manifest-path` and `--target-dir`.
    pub fn cargo(self, verb: &str) -> Command {
        let triple = self.target.triple();
        let mut command = match self.toolchain {
            Toolchain::Rustup => Command::new(tree::cargo()),
            Toolchain::Debian => Command::new(DEBIAN_CARGO),
        };
        command.args([verb, "--release", "--target", triple]);
        // Meant for the host's build, and they would replace the flags of `.cargo/config.toml`.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        if self.toolchain == Toolchain::Debian {
            command.args(["-Z", "build-std=std,panic_abort"]);
            // RUSTC_BOOTSTRAP: build-std is an unstable flag, and Debian ships the stable compiler.
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            command.env(target_variable(triple, "LINKER"), DEBIAN_LINKER);
            if self.target == Target::Wasip1 {
                command.env(target_variable(triple, "RUSTFLAGS"), DEBIAN_WASI_FLAGS);
            }
            // Set by the cargo that runs us; they would mix its toolchain into this one.
            for ours in ["CARGO", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
                command.env_remove(ours);
            }
        }
        command
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}'s compiler for {}", self.toolchain, self.target.triple())
    }
}

/// How cargo takes `target.<triple>.<key>` from the environment.
fn target_variable(triple: &str, key: &str) -> String {
    format!("CARGO_TARGET_{}_{key}", triple.to_uppercase().replace('-', "_"))
}

/// One line for `cargo xtask doctor`; installs nothing.
pub fn describe(target: Target) -> String {
    match installed(target) {
        Some(Toolchain::Rustup) => "rustup's target".to_owned(),
        Some(Toolchain::Debian) => format!("Debian's Rust ({})", target.debian_packages().join(", ")),
        None => "nothing yet: the first build adds rustup's target, else Debian's Rust".to_owned(),
    }
}

fn installed(target: Target) -> Option<Toolchain> {
    if rustup_has(target) {
        return Some(Toolchain::Rustup);
    }
    let files = target.debian_files().all(Path::exists);
    (files && step::succeeds(Command::new(DEBIAN_LINKER).arg("--version"))).then_some(Toolchain::Debian)
}

/// What to do about a compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// It is there: nothing is fetched.
    Use(Toolchain),
    /// This one, and no other.
    Fetch(Toolchain),
    /// rustup's target; where that cannot be had, Debian's packages.
    FetchFirstToBeHad,
}

/// Decides by what was asked for (`WHARF_GUEST_TOOLCHAIN`, empty for nothing) and what is installed.
fn plan(asked: &str, installed: impl FnOnce() -> Option<Toolchain>) -> Result<Plan> {
    match asked {
        "" => Ok(installed().map_or(Plan::FetchFirstToBeHad, Plan::Use)),
        "rustup" => Ok(Plan::Fetch(Toolchain::Rustup)),
        "debian" => Ok(Plan::Fetch(Toolchain::Debian)),
        other => bail!("WHARF_GUEST_TOOLCHAIN is `{other}`: write `rustup` or `debian`, or unset it"),
    }
}

/// The toolchain the plan ends with. `fetch` leaves alone what is there already.
fn carry_out(
    plan: Plan,
    target: Target,
    mut fetch: impl FnMut(Toolchain) -> Result<()>,
    mut say: impl FnMut(String),
) -> Result<Toolchain> {
    let wanted = match plan {
        Plan::Use(toolchain) => return Ok(toolchain),
        Plan::Fetch(toolchain) => toolchain,
        Plan::FetchFirstToBeHad => match fetch(Toolchain::Rustup) {
            Ok(()) => return Ok(Toolchain::Rustup),
            Err(error) => {
                say(format!("rustup cannot provide {} ({error:#}): trying Debian's Rust", target.triple()));
                Toolchain::Debian
            }
        },
    };
    fetch(wanted).map(|()| wanted)
}

fn rustup_has(target: Target) -> bool {
    let list = Command::new("rustup").args(["target", "list", "--installed"]).stderr(Stdio::null()).output();
    list.is_ok_and(|output| output.stdout.split(|byte| *byte == b'\n').any(|line| line == target.triple().as_bytes()))
}

fn rustup_target(target: Target) -> Result<()> {
    if !rustup_has(target) {
        let triple = target.triple();
        step::note(format_args!("adding rustup's {triple}: guests are built for it"));
        step::run_within(Command::new("rustup").args(["target", "add", triple]), RUSTUP_PATIENCE)?;
    }
    Ok(())
}

fn debian_packages(target: Target) -> Result<()> {
    let triple = target.triple();
    let reason = format!("build guests for {triple}");
    prerequisites::install_debian(&target.debian_packages(), &reason).map_err(|error| {
        error.context(format!(
            "no compiler for {triple}: install rustup (https://rustup.rs) and run `rustup target add {triple}`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(compiler: Compiler) -> Vec<(String, Option<String>)> {
        let text = |value: &std::ffi::OsStr| value.to_string_lossy().into_owned();
        compiler.cargo("build").get_envs().map(|(name, value)| (text(name), value.map(text))).collect()
    }

    /// Carries out the plan on a machine where only `available` can be fetched: the outcome, what was tried, what was said.
    fn carried_out(plan: Plan, available: &[Toolchain]) -> (Result<Toolchain>, Vec<Toolchain>, Vec<String>) {
        let (mut tried, mut said) = (Vec::new(), Vec::new());
        let fetch = |toolchain| {
            tried.push(toolchain);
            if available.contains(&toolchain) { Ok(()) } else { bail!("no network for {toolchain:?}") }
        };
        let outcome = carry_out(plan, Target::Unknown, fetch, |news| said.push(news));
        (outcome, tried, said)
    }

    #[test]
    fn what_is_installed_is_used_and_nothing_fetched() {
        for there in [Toolchain::Rustup, Toolchain::Debian] {
            let plan = plan("", || Some(there)).unwrap();
            let (outcome, tried, said) = carried_out(plan, &[]);
            assert_eq!((outcome.unwrap(), tried, said), (there, vec![], vec![]));
        }
    }

    #[test]
    fn a_bare_machine_gets_rustups_target() {
        let (outcome, tried, said) = carried_out(plan("", || None).unwrap(), &[Toolchain::Rustup, Toolchain::Debian]);
        assert_eq!((outcome.unwrap(), tried, said), (Toolchain::Rustup, vec![Toolchain::Rustup], vec![]));
    }

    #[test]
    fn without_rustups_servers_debian_comes_next_and_the_reason_is_said() {
        let (outcome, tried, said) = carried_out(plan("", || None).unwrap(), &[Toolchain::Debian]);
        assert_eq!(outcome.unwrap(), Toolchain::Debian);
        assert_eq!(tried, [Toolchain::Rustup, Toolchain::Debian]);
        assert_eq!(
            said,
            ["rustup cannot provide wasm32-unknown-unknown (no network for Rustup): trying Debian's Rust"]
        );
    }

    #[test]
    fn where_neither_can_be_had_debians_error_follows_the_other() {
        let (outcome, tried, said) = carried_out(plan("", || None).unwrap(), &[]);
        assert_eq!(outcome.unwrap_err().to_string(), "no network for Debian");
        assert_eq!((tried.len(), said.len()), (2, 1));
    }

    #[test]
    fn who_asks_for_one_gets_no_other() {
        for (asked, wanted) in [("rustup", Toolchain::Rustup), ("debian", Toolchain::Debian)] {
            let plan = plan(asked, || panic!("what is installed does not matter")).unwrap();
            assert_eq!(plan, Plan::Fetch(wanted));
            let (outcome, tried, said) = carried_out(plan, &[]);
            assert!(outcome.is_err());
            assert_eq!((tried, said), (vec![wanted], vec![]));
        }
        let error = plan("nix", || None).unwrap_err().to_string();
        assert_eq!(error, "WHARF_GUEST_TOOLCHAIN is `nix`: write `rustup` or `debian`, or unset it");
    }

    #[test]
    fn debians_wasip1_links_the_c_library_as_a_reactor() {
        let set = environment(Compiler { toolchain: Toolchain::Debian, target: Target::Wasip1 });
        let flags = set.iter().find(|(name, _)| name == "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS").unwrap();
        assert!(flags.1.as_ref().unwrap().ends_with(DEBIAN_WASI_START), "{flags:?}");
        let linker = ("CARGO_TARGET_WASM32_WASIP1_LINKER".to_owned(), Some(DEBIAN_LINKER.to_owned()));
        assert!(set.contains(&linker), "{set:?}");
    }

    #[test]
    fn flags_for_the_host_do_not_reach_guests() {
        for target in Target::ALL {
            let set = environment(Compiler { toolchain: Toolchain::Rustup, target });
            assert!(set.contains(&("RUSTFLAGS".to_owned(), None)), "{set:?}");
        }
    }
}
