//! `wharf doctor` in the images that cannot be used here: the one for GPUs, which there are none of, and the one for arm64,
//! under an emulator. They must start, find their ONNX Runtime, and name what is missing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Asked, Skipped, engine::Engine};
use crate::tree::Tree;
use crate::{aarch64, onnxruntime, step};

const DOCTOR: [&str; 3] = ["doctor", "--format", "json"];
const USER: &str = "65532:65532";

pub fn check(tree: &Tree, engine: &Engine, asked: &Asked, skipped: &mut Skipped) -> Result<()> {
    cuda(engine, asked.gpu).context("wharf:cuda")?;
    if !asked.gpu {
        skipped.add("the cuda image holds ONNX Runtime for CPUs: --gpu fetches the one with NVIDIA's providers");
    }
    match (&asked.wharf_arm64, aarch64::qemu(tree)) {
        (None, _) => {
            skipped.add("the arm64 images hold a text in place of the program: --wharf-arm64 FILE puts a real one in");
            Ok(())
        }
        (_, Err(error)) => {
            skipped.add(format!("the arm64 image is not started: {error}"));
            Ok(())
        }
        (Some(_), Ok(qemu)) => arm64(engine, &qemu).context("wharf:cpu-arm64"),
    }
}

/// Run as a user would, without a GPU.
fn cuda(engine: &Engine, providers: bool) -> Result<()> {
    let mut command = engine.podman(&["run", "--rm", "--pull", "never", "--network", "none", "--read-only"]);
    // podman asks for more than a machine without CAP_SYS_RESOURCE gives.
    command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "wharf:cuda"]).args(DOCTOR);
    let found = findings(&mut command)?;
    started(&found, "x86_64")?;
    detail(&found, "device cuda", false)?;
    let missing = detail(&found, "cuda libraries", false)?;
    step::note(format_args!("wharf:cuda, cuda libraries: {missing}"));
    // The stand-in for NVIDIA's base has none of CUDA's libraries; the build for CPUs not even the provider.
    let expected = if providers { "libcublasLt.so.13" } else { "libonnxruntime_providers_cuda.so" };
    ensure!(missing.contains(expected), "{expected} is not named: {missing}");
    Ok(())
}

/// In the image's own root, with its own loader and C library. The kernel here starts no programs of other machines by
/// itself, so the emulator is put beside the program.
fn arm64(engine: &Engine, qemu: &Path) -> Result<()> {
    let container = step::capture(&mut engine.buildah(&["from", "--pull-never", "localhost/wharf:cpu-arm64"]))?;
    let container = container.trim();
    let report = (|| {
        let mut copy = engine.buildah(&["copy", "--quiet", container]);
        step::capture(copy.arg(which(qemu)?).arg("/qemu"))?;
        let mut run = engine.buildah(&["run", "--isolation", "chroot", "--user", USER, container, "--"]);
        findings(run.args(["/qemu", "/usr/local/bin/wharf"]).args(DOCTOR))
    })();
    step::run(engine.buildah(&["rm", container]).stdout(std::process::Stdio::null()))?;
    started(&report?, "aarch64")
}

/// buildah copies files, and an emulator may be given by its name alone.
fn which(program: &Path) -> Result<std::path::PathBuf> {
    if program.components().count() > 1 {
        return Ok(program.to_owned());
    }
    let found = step::capture(Command::new("sh").args(["-c", "command -v \"$0\""]).arg(program))?;
    Ok(found.trim().into())
}

fn findings(command: &mut Command) -> Result<Vec<Value>> {
    let report = step::capture(command)?;
    let report: Value = serde_json::from_str(&report).context("doctor printed no JSON")?;
    report["findings"].as_array().cloned().context("a report without findings")
}

/// It is the program of that machine, and it has loaded the image's ONNX Runtime.
fn started(found: &[Value], machine: &str) -> Result<()> {
    let host = detail(found, "host", true)?;
    ensure!(host.ends_with(&format!("on {machine}")), "{host}");
    let library = detail(found, "onnxruntime", true)?;
    let own = format!("/usr/local/lib/libonnxruntime.so.{}", onnxruntime::VERSION);
    ensure!(library.contains(&own), "it found another library: {library}");
    step::note(format_args!("{host}, onnxruntime {library}"));
    Ok(())
}

fn detail<'a>(found: &'a [Value], name: &str, usable: bool) -> Result<&'a str> {
    let finding = found.iter().find(|finding| finding["name"] == name);
    let finding = finding.with_context(|| format!("doctor is silent about {name}"))?;
    ensure!(finding["usable"] == usable, "{name} is {}: {finding}", if usable { "unusable" } else { "usable" });
    finding["detail"].as_str().context("a finding without its reason")
}
