//! `cargo xtask test-aarch64`: the host, cross-built, answers a picture under an emulator with ONNX Runtime's aarch64
//! library: what a Jetson's CPU would do, proved without one. Files that say "Jetson" stand in for a board: the host must
//! know it, say why its GPU cannot be used, and answer on the CPU. Installs nothing: it says what is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::dist::elf;
use crate::step::{self, Steps};
use crate::tree::{Tree, cargo};
use crate::trial::Trial;
use crate::{guests, layout, onnxruntime};

const TRIPLE: &str = "aarch64-unknown-linux-gnu";
const PROFILE: &str = "emulated";
const GCC: &str = "aarch64-linux-gnu-gcc";
const AR: &str = "aarch64-linux-gnu-ar";
/// Debian's, whose standard library for aarch64 is a package.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_STD: &str = "/usr/lib/rustlib/aarch64-unknown-linux-gnu/lib";
/// What ONNX Runtime's library links, where Debian's arm64 packages put it.
const LIBSTDCXX: &str = "/usr/lib/aarch64-linux-gnu/libstdc++.so.6";
/// Older ones crash in ONNX Runtime's aarch64 library (7.2 was tried).
const OLDEST_QEMU: u32 = 10;
/// The newest glibc a Jetson with JetPack 6 has.
const GLIBC: elf::Version = (2, 35);
/// In KiB. Address space as on kernels with 39 bits: several Jetsons have these. The emulator's own `-R` ends in a failed
/// assertion where more is asked for than there is.
const SMALL_SPACE: u64 = 1 << 29;
/// An AGX Orin with JetPack 6.2, as far as files tell: its GPU is there, its driver is not.
const BOARD: &str = "NVIDIA Jetson AGX Orin Developer Kit";
const JETSON: [(&str, &str); 5] = [
    (
        "etc/nv_tegra_release",
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n",
    ),
    ("sys/devices/soc0/family", "Tegra\n"),
    ("proc/device-tree/compatible", "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0"),
    ("proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0"),
    ("dev/nvhost-gpu", ""),
];
/// Where the host looks for such files.
const SYSROOT: &str = "WHARF_SYSROOT";

/// `cargo xtask test-aarch64`.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    if let Some(unknown) = arguments.first() {
        bail!("`cargo xtask test-aarch64` takes no argument, and was given `{unknown}`");
    }
    if std::env::consts::ARCH == "aarch64" {
        bail!("this machine is an aarch64 one: `cargo xtask test` runs everything, without an emulator");
    }
    let tools = Tools::find(tree)?;
    let mut steps = Steps::new(6);
    let program = steps.run("cross build (the first takes a quarter of an hour)", || tools.build(tree))?;
    let guests = steps.run("guests", || guests::ready(tree))?;
    let wheel = steps.run("ONNX Runtime for aarch64", || onnxruntime::with_licences(tree, "aarch64"))?;
    let root = tree.target().join(format!("aarch64-trial-{}", std::process::id()));
    let outcome = steps
        .run("doctor", || {
            lay_out(&program, &wheel, &root)?;
            doctor(&tools, &root)
        })
        .and_then(|()| steps.run("serve a digit", || serve(tree, &guests, &tools, &root)))
        .and_then(|()| steps.run("what says that it is a Jetson", || jetson(tree, &guests, &tools, &root)));
    // Best effort: a folder left behind costs space only.
    let _ = fs::remove_dir_all(&root);
    outcome
}

/// What the task needs of the machine.
struct Tools {
    compiler: Compiler,
    qemu: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compiler {
    Rustup,
    Debian,
}

impl Tools {
    /// All that is missing is named at once, with what brings it.
    fn find(tree: &Tree) -> Result<Tools> {
        let mut missing = Vec::new();
        let compiler = compiler();
        if compiler.is_none() {
            missing.push(
                "Rust's standard library for aarch64: `rustup target add aarch64-unknown-linux-gnu`, or on Debian \
                 `dpkg --add-architecture arm64 && apt-get update && apt-get install rustc-web cargo-web \
                 libstd-rust-web-dev:arm64`"
                    .to_owned(),
            );
        }
        if !step::succeeds(Command::new(GCC).arg("--version")) {
            missing.push(format!("{GCC}: `apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross`"));
        }
        if !Path::new(LIBSTDCXX).exists() {
            missing.push(format!(
                "{LIBSTDCXX}: `dpkg --add-architecture arm64 && apt-get update && apt-get install libstdc++6:arm64`"
            ));
        }
        let qemu = qemu(tree);
        if let Err(error) = &qemu {
            missing.push(error.to_string());
        }
        match (compiler, qemu) {
            (Some(compiler), Ok(qemu)) if missing.is_empty() => Ok(Tools { compiler, qemu }),
            _ => bail!("this machine lacks\n  - {}", missing.join("\n  - ")),
        }
    }

    fn build(&self, tree: &Tree) -> Result<PathBuf> {
        // A folder of its own: the other compiler's files would be thrown away by each in turn.
        let target = tree.target().join("aarch64");
        let mut command = match self.compiler {
            Compiler::Rustup => Command::new(cargo()),
            Compiler::Debian => Command::new(DEBIAN_CARGO),
        };
        if self.compiler == Compiler::Debian {
            command.env("RUSTC", DEBIAN_RUSTC);
            // Set by the cargo that runs us; they would mix its toolchain into this one.
            for ours in ["CARGO", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
                command.env_remove(ours);
            }
        }
        command.args(["build", "--locked", "--profile", PROFILE, "--target", TRIPLE, "-p", "wharf", "--bin", "wharf"]);
        command.arg("--target-dir").arg(&target).current_dir(tree.root());
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", GCC);
        // wasmtime, zstd, ring and mimalloc compile C.
        command.env("CC_aarch64_unknown_linux_gnu", GCC).env("AR_aarch64_unknown_linux_gnu", AR);
        step::run(&mut command)?;
        Ok(target.join(TRIPLE).join(PROFILE).join("wharf"))
    }

    /// A command for the emulator. No `-L`: a second libc beside the one that the loader finds hangs at the first thread.
    fn emulated(&self, program: &Path) -> Command {
        let mut command = Command::new(&self.qemu);
        command.arg(program);
        command
    }
}

fn compiler() -> Option<Compiler> {
    let list = Command::new("rustup").args(["target", "list", "--installed"]).output();
    if list.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == TRIPLE)) {
        return Some(Compiler::Rustup);
    }
    let debian = [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_STD].iter().all(|path| Path::new(path).exists());
    debian.then_some(Compiler::Debian)
}

/// The first emulator that is new enough: named by WHARF_QEMU, in the target folder, or installed.
pub fn qemu(tree: &Tree) -> Result<PathBuf> {
    let own = std::env::var_os("WHARF_QEMU").map(PathBuf::from);
    let kept = tree.target().join("qemu/usr/bin/qemu-aarch64");
    let installed = ["qemu-aarch64", "qemu-aarch64-static"].map(PathBuf::from);
    let mut old = String::new();
    for candidate in own.into_iter().chain([kept.clone()]).chain(installed) {
        let Ok(output) = Command::new(&candidate).arg("--version").output() else { continue };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match major(&text) {
            Some(version) if version >= OLDEST_QEMU => return Ok(candidate),
            _ => old = format!(" ({} is {})", candidate.display(), text.lines().next().unwrap_or("silent")),
        }
    }
    bail!(
        "qemu-user {OLDEST_QEMU} or later{old}: `apt-get install qemu-user` on Debian 13; on Debian 12 from \
         bookworm-backports, without installing it: `apt-get download qemu-user/bookworm-backports && dpkg -x \
         qemu-user_*.deb {}`; or name one in WHARF_QEMU",
        kept.ancestors().nth(3).unwrap_or(&kept).display()
    )
}

/// Of `qemu-aarch64 version 10.0.2 (Debian …)`.
fn major(text: &str) -> Option<u32> {
    let version = text.split_once("version ")?.1;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The program and its library as the archive has them, so that finding the library is part of the proof.
fn lay_out(program: &Path, wheel: &Path, root: &Path) -> Result<()> {
    let (major, minor) = elf::glibc(program)?;
    ensure!((major, minor) <= GLIBC, "the program needs glibc {major}.{minor}: JetPack 6 has {}.{}", GLIBC.0, GLIBC.1);
    step::note(format_args!("needs glibc {major}.{minor}"));
    fs::create_dir_all(root.join("bin")).with_context(|| format!("cannot make {}", root.display()))?;
    fs::copy(program, root.join("bin/wharf")).context("cannot copy the program")?;
    let library = onnxruntime::library_in(wheel);
    let name = library.file_name().context("a library has a name")?;
    layout::place(&library, &root.join("lib").join(name)).context("the wheel is not laid out as expected")
}

fn doctor(tools: &Tools, root: &Path) -> Result<()> {
    let ask =
        |mut command: Command| step::capture(command.env_clear().args(["doctor", "--data"]).arg(root.join("data")));
    let program = root.join("bin/wharf");
    let report = ask(tools.emulated(&program))?;
    eprint!("{report}");
    ensure!(report.contains("on aarch64"), "this is no aarch64 program");
    // With little address space the sandbox must choose its small layout by itself.
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", &format!("ulimit -v {SMALL_SPACE}; exec \"$@\""), "sh"]).arg(&tools.qemu).arg(&program);
    let report = ask(limited)?;
    ensure!(report.contains("256 MiB address space each"), "39 bits of address space are not coped with:\n{report}");
    step::note("with 39 bits of address space the sandbox takes its small layout");
    Ok(())
}

fn serve(tree: &Tree, guests: &Path, tools: &Tools, root: &Path) -> Result<()> {
    let trial = Trial::start(tools.emulated(&root.join("bin/wharf")), guests, &root.join("data"))?;
    trial.recognises(tree)?;
    trial.stop()
}

/// The host on files of a Jetson.
fn jetson(tree: &Tree, guests: &Path, tools: &Tools, root: &Path) -> Result<()> {
    let board = root.join("board");
    for (file, text) in JETSON {
        layout::write(&board.join(file), text.as_bytes())?;
    }
    let program = root.join("bin/wharf");
    let findings = |add: &[(&str, &Path)]| -> Result<Vec<Value>> {
        let mut command = tools.emulated(&program);
        command.env_clear().envs(add.iter().copied());
        command.args(["doctor", "--format", "json", "--data"]).arg(root.join("data"));
        let report: Value = serde_json::from_str(&step::capture(&mut command)?).context("doctor printed no JSON")?;
        Ok(report["findings"].as_array().cloned().unwrap_or_default())
    };
    let find = |findings: &[Value], name: &str| findings.iter().find(|finding| finding["name"] == name).cloned();

    ensure!(find(&findings(&[])?, "jetson").is_none(), "an emulator is taken for a Jetson");
    let on_board = findings(&[(SYSROOT, &board)])?;
    let known = find(&on_board, "jetson").context("files of a Jetson are taken for none")?;
    step::note(format_args!("jetson: {}", text(&known, "detail")));
    for part in [BOARD, "tegra234", "L4T 36.4.3", "JetPack 6."] {
        ensure!(text(&known, "detail").contains(part), "the board is not called {part}: {known}");
    }
    // Its driver's library is not there, and this ONNX Runtime has no provider for TensorRT.
    let absent = [
        ("gpu", "libcuda.so.1"),
        ("cuda libraries", ".so"),
        ("tensorrt libraries", "libonnxruntime_providers_tensorrt.so"),
        ("device cuda", ""),
        ("device tensorrt", ""),
    ];
    for (name, reason) in absent {
        let finding = find(&on_board, name).with_context(|| format!("doctor is silent about {name}"))?;
        step::note(format_args!("{name}: {}", text(&finding, "detail")));
        ensure!(finding["usable"] == false, "there is no {name} here: {finding}");
        ensure!(text(&finding, "detail").contains(reason), "{reason} is not named: {finding}");
    }

    let trial = Trial::start_with(tools.emulated(&program), guests, &root.join("data"), |command| {
        command.env(SYSROOT, &board).args(["--device", "tensorrt"]);
    })?;
    let loaded = trial.loaded();
    ensure!(loaded["device"] == "cpu", "the model is not on the CPU: {loaded}");
    let reasons = text(loaded, "instead_of");
    ensure!(reasons.contains("tensorrt"), "why it is not on TensorRT is not said: {loaded}");
    step::note(format_args!("on the CPU instead of {reasons}"));
    trial.recognises(tree)?;
    trial.stop()
}

fn text<'a>(finding: &'a Value, field: &str) -> &'a str {
    finding[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_says_how_new_it_is() {
        assert_eq!(major("qemu-aarch64 version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"), Some(10));
        assert_eq!(major("qemu-aarch64 version 7.2.19 (Debian)"), Some(7));
        assert_eq!(major("something else"), None);
    }
}
