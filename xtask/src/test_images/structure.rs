//! What is in the images that were built, and what they say about themselves, without running them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Asked, Skipped, engine::Engine};
use crate::{layout, step};

/// What the cpu image may take, unpacked. Bytes.
const CPU_LIMIT: u64 = 100_000_000;
const USER: u32 = 65532;
/// The group of a Jetson's devices.
const VIDEO: u32 = 44;

/// An image, and what is particular to it.
struct Expected {
    image: &'static str,
    architecture: &'static str,
    group: u32,
    runtime: &'static str,
    environment: &'static [&'static str],
}

const NVIDIA: &[&str] = &["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"];

const IMAGES: [Expected; 4] = [
    Expected { image: "wharf:cpu", architecture: "amd64", group: USER, runtime: "onnxruntime", environment: &[] },
    Expected { image: "wharf:cpu-arm64", architecture: "arm64", group: USER, runtime: "onnxruntime", environment: &[] },
    Expected {
        image: "wharf:cuda",
        architecture: "amd64",
        group: USER,
        runtime: "onnxruntime-gpu",
        environment: NVIDIA,
    },
    Expected {
        image: "wharf:l4t-jetpack6",
        architecture: "arm64",
        group: VIDEO,
        runtime: "onnxruntime",
        environment: NVIDIA,
    },
];

/// What the cuda image holds beside the core with `--gpu`, all of one folder and one version.
const PROVIDERS: [&str; 3] = ["shared", "cuda", "tensorrt"];

/// Looks at all of them.
pub fn check(engine: &Engine, asked: &Asked, skipped: &mut Skipped) -> Result<()> {
    // The size counts where the program is the one that is released.
    let optimised = asked.wharf.is_none();
    for expected in &IMAGES {
        let inspected = engine.ask(&["image", "inspect", expected.image])?;
        let inspected: Value = serde_json::from_str(&inspected).context("podman printed something that is not JSON")?;
        says(&inspected[0], expected).with_context(|| format!("{} says", expected.image))?;
        engine
            .look_into(expected.image, |root| holds(root, expected))
            .with_context(|| format!("{} holds", expected.image))?;
    }
    engine.look_into("wharf:cpu", |root| small(root, optimised, skipped)).context("wharf:cpu")?;
    engine.look_into("wharf:cuda", |root| cached(root, asked.gpu)).context("wharf:cuda")
}

fn says(image: &Value, expected: &Expected) -> Result<()> {
    let config = &image["Config"];
    let same = |what: &str, seen: &Value, wanted: Value| {
        ensure!(*seen == wanted, "{what}: {seen}, expected is {wanted}");
        Ok(())
    };
    same("architecture", &image["Architecture"], expected.architecture.into())?;
    same("USER", &config["User"], format!("{USER}:{}", expected.group).into())?;
    same("ENTRYPOINT", &config["Entrypoint"], json!(["wharf"]))?;
    same("CMD", &config["Cmd"][0], "serve".into())?;
    same("EXPOSE", &config["ExposedPorts"], json!({ "5000/tcp": {}, "8000/tcp": {} }))?;
    same("VOLUME", &config["Volumes"], json!({ "/var/lib/wharf": {} }))?;
    same("STOPSIGNAL", &config["StopSignal"], "SIGTERM".into())?;
    // podman has moved it from one place to the other.
    let health = [&image["Healthcheck"], &config["Healthcheck"]].into_iter().find(|health| !health.is_null());
    same("HEALTHCHECK", &health.unwrap_or(&Value::Null)["Test"], json!(["CMD", "wharf", "health"]))?;
    let labels = &image["Labels"];
    for label in ["title", "description", "version", "revision", "licenses"] {
        let value = &labels[format!("org.opencontainers.image.{label}")];
        ensure!(value.as_str().is_some_and(|value| !value.is_empty()), "the label {label}: {labels}");
    }
    let every = [
        "WHARF_DATA=/var/lib/wharf",
        "WHARF_HTTP=0.0.0.0:8000",
        "WHARF_BIND=0.0.0.0",
        "WHARF_LOG_TO=stdout",
        "ORT_DISABLE_TELEMETRY=1",
    ];
    for variable in every.iter().chain(expected.environment) {
        let seen = config["Env"].as_array().is_some_and(|env| env.iter().any(|one| one == variable));
        ensure!(seen, "ENV without {variable}: {}", config["Env"]);
    }
    Ok(())
}

fn holds(root: &Path, expected: &Expected) -> Result<()> {
    for file in ["usr/local/bin/wharf", "usr/local/lib/libonnxruntime.so.1.31.1", "usr/share/wharf/LICENSE"] {
        ensure!(root.join(file).is_file(), "no /{file}");
    }
    ensure!(root.join("srv/services").is_dir(), "no /srv/services");
    let state = fs::metadata(root.join("var/lib/wharf")).context("no /var/lib/wharf")?;
    let (owner, wanted) = ((state.uid(), state.gid()), (USER, expected.group));
    ensure!(owner == wanted, "/var/lib/wharf of {owner:?}, expected is {wanted:?}");
    let program = fs::metadata(root.join("usr/local/bin/wharf"))?;
    ensure!(program.uid() == 0 && program.mode() & 0o022 == 0, "a program that its user may write");
    let bom = fs::read(root.join("usr/share/wharf/sbom.cdx.json")).context("no SBOM")?;
    let bom: Value = serde_json::from_slice(&bom).context("an SBOM that is not JSON")?;
    ensure!(bom["bomFormat"] == "CycloneDX", "an SBOM of another format");
    for part in [expected.runtime, "wasmtime", "ort", "tokio"] {
        let listed = bom["components"].as_array().is_some_and(|list| list.iter().any(|one| one["name"] == part));
        ensure!(listed, "an SBOM without {part}");
    }
    Ok(())
}

fn small(root: &Path, optimised: bool, skipped: &mut Skipped) -> Result<()> {
    for absent in ["bin/sh", "usr/bin/sh", "usr/bin/apt", "usr/bin/perl"] {
        ensure!(
            !root.join(absent).exists(),
            "it holds /{absent}: the image is more than the program and its libraries"
        );
    }
    let mut total = 0;
    for file in layout::files(root)? {
        let metadata = fs::symlink_metadata(&file)?;
        total += if metadata.is_file() { metadata.len() } else { 0 };
    }
    step::note(format_args!("wharf:cpu: {:.1} MB unpacked", total as f64 / 1e6));
    if total > CPU_LIMIT {
        ensure!(!optimised, "{total} bytes unpacked, {CPU_LIMIT} at most");
        skipped
            .add("the size of the cpu image, which is too large: the program of --wharf need not be the released one");
    }
    Ok(())
}

/// The loader's cache names ONNX Runtime: read by the loader's own tool, not run in the image.
fn cached(root: &Path, providers: bool) -> Result<()> {
    let cache = step::capture(Command::new("ldconfig").arg("-p").arg("-C").arg(root.join("etc/ld.so.cache")))?;
    ensure!(cache.contains("/usr/local/lib/libonnxruntime.so"), "ONNX Runtime is not in the loader's cache:\n{cache}");
    for provider in PROVIDERS.iter().filter(|_| providers) {
        let path = format!("/usr/local/lib/libonnxruntime_providers_{provider}.so");
        ensure!(cache.contains(&path), "{path} is not in the loader's cache:\n{cache}");
        step::note(format_args!("{path}: {} bytes", fs::metadata(root.join(&path[1..]))?.len()));
    }
    let folders = fs::read_to_string(root.join("etc/ld.so.conf.d/wharf.conf")).context("no wharf.conf")?;
    ensure!(folders == "/usr/local/lib\n/usr/local/cuda/lib64\n", "wharf.conf holds {folders:?}");
    let users = fs::read_to_string(root.join("etc/passwd"))?;
    ensure!(users.lines().any(|line| line.starts_with("wharf:x:65532:65532:")), "no user wharf: {users}");
    Ok(())
}
