//! What the machine must have: checks that answer with one line per missing thing, and Debian packages.

use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};

use crate::step;
use crate::toolchain::{self, Target};
use crate::tree::Tree;

/// A program a task runs, and the line that makes it available.
struct Prerequisite {
    what: &'static str,
    probe: &'static [&'static str],
    remedy: &'static str,
}

const C_COMPILER: Prerequisite = Prerequisite {
    what: "a C compiler and linker (cc)",
    probe: &["cc", "--version"],
    remedy: "install it, e.g. `apt-get install gcc libc6-dev`",
};
const PYTHON: Prerequisite = Prerequisite {
    what: "Python 3 (python3): it fetches ONNX Runtime's wheel",
    probe: &["python3", "--version"],
    remedy: "install it, e.g. `apt-get install python3 python3-pip python3-venv`",
};
const PIP: Prerequisite = Prerequisite {
    what: "pip for Python 3: it fetches ONNX Runtime's wheel",
    probe: &["python3", "-m", "pip", "--version"],
    remedy: "install it, e.g. `apt-get install python3-pip`",
};
const VENV: Prerequisite = Prerequisite {
    what: "Python's venv module: the Python example is built in one",
    probe: &["python3", "-c", "import venv, ensurepip"],
    remedy: "install it, e.g. `apt-get install python3-venv`",
};
const RUSTFMT: Prerequisite = Prerequisite {
    what: "rustfmt: `cargo xtask test` checks the formatting",
    probe: &["cargo", "fmt", "--version"],
    remedy: "install it with `rustup component add rustfmt`",
};
const CLIPPY: Prerequisite = Prerequisite {
    what: "clippy: `cargo xtask test` denies its warnings",
    probe: &["cargo", "clippy", "--version"],
    remedy: "install it with `rustup component add clippy`",
};

const TO_BUILD: [&Prerequisite; 4] = [&C_COMPILER, &PYTHON, &PIP, &VENV];
const TO_CHECK: [&Prerequisite; 2] = [&RUSTFMT, &CLIPPY];

/// `cargo xtask doctor`.
pub fn run(_: &Tree, _: &[String]) -> Result<()> {
    for one in TO_BUILD.iter().chain(&TO_CHECK) {
        println!("{}  {}{}", if one.present() { "ok     " } else { "MISSING" }, one.what, one.hint());
    }
    let rights = apt_get().map_or_else(|| "no".to_owned(), |words| format!("yes ({})", words.join(" ")));
    println!("info     may install Debian packages: {rights}");
    for target in Target::ALL {
        println!("info     {} is built with: {}", target.triple(), toolchain::describe(target));
    }
    to_test()
}

/// What `serve` and `bench` need.
pub fn to_build() -> Result<()> {
    demand(TO_BUILD.iter().copied())
}

/// What `test` needs.
pub fn to_test() -> Result<()> {
    demand(TO_BUILD.into_iter().chain(TO_CHECK))
}

fn demand(needed: impl Iterator<Item = &'static Prerequisite>) -> Result<()> {
    let missing: Vec<String> =
        needed.filter(|one| !one.present()).map(|one| format!("{}{}", one.what, one.hint())).collect();
    ensure!(missing.is_empty(), "this machine lacks {}", missing.join("\n       and "));
    Ok(())
}

impl Prerequisite {
    fn present(&self) -> bool {
        self.probe
            .split_first()
            .is_some_and(|(program, arguments)| step::succeeds(Command::new(program).args(arguments)))
    }

    fn hint(&self) -> String {
        if self.present() { String::new() } else { format!("; {}", self.remedy) }
    }
}

/// Installs those of `packages` that are missing, saying so in one line. `reason` completes "… needed to".
pub fn install_debian(packages: &[&str], reason: &str) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let Some(apt_get) = apt_get() else {
        bail!(
            "the Debian packages {list} are needed to {reason}, and installing them takes root: run `sudo apt-get install {list}`"
        );
    };
    step::note(format_args!("installing the Debian packages {list}: needed to {reason}"));
    let apt = |arguments: &[&str]| {
        let mut words = apt_get.iter();
        let mut command = Command::new(words.next().unwrap_or(&"apt-get"));
        command.args(words).args(arguments).stdin(Stdio::null()).env("DEBIAN_FRONTEND", "noninteractive");
        step::run(&mut command)
    };
    apt(&["update", "-qq"])?;
    apt(&[["install", "-y", "-qq", "--no-install-recommends"].as_slice(), &missing].concat())
}

fn is_installed(package: &str) -> bool {
    let query =
        Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]).stderr(Stdio::null()).output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

/// How to call apt-get with the right to install, if there is a way that asks for no password.
fn apt_get() -> Option<&'static [&'static str]> {
    if !step::succeeds(Command::new("apt-get").arg("--version")) {
        return None;
    }
    let user = Command::new("id").arg("-u").output().ok()?;
    if user.stdout.trim_ascii() == b"0" {
        return Some(&["apt-get"]);
    }
    step::succeeds(Command::new("sudo").args(["-n", "true"])).then_some(&["sudo", "-n", "apt-get"])
}
