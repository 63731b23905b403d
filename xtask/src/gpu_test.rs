//! `cargo xtask test-gpu`: models on a GPU, beside the CPU and beside plain ONNX Runtime in the same run. What is tested is
//! in `host/tests/gpu.rs`; this task sees that there is a GPU, and brings what the tests need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::step::{self, Steps};
use crate::tree::{Tree, cargo};
use crate::{gpu, layout, onnxruntime, prerequisites};

const LIST: &str = "\
cargo xtask test-gpu tests on the first GPU (or --device cuda:N, tensorrt:N), with the models of the examples digits,
facedetection and maskdetection and one of MobileNetV2's shape, whose weights are made here from a fixed seed:

  answers_are_those_of_the_cpu          each output within 1e-3 of the CPU's largest, for batches of 1 and 4 where the model
                                        takes them, with and without a CUDA graph
  what_ran_where_is_known               the nodes of each provider are reported; some ran on the GPU
  it_is_as_fast_as_plain_onnx_runtime   at least 0.95 of the runs per second of a plain session with the provider's default
                                        options in the same process, median of 21 interleaved pairs; the CUDA graph's
                                        ratio is shown beside it
  a_hundred_loads_leave_nothing         the GPU's memory in use after 100 loads and unloads, by nvidia-smi

--cuda-libs fetches NVIDIA's libraries too (1.3 GB). --dev compiles without optimisation: speed is shown and not judged.
Without a GPU it fails: nothing was tested. --device cpu tests the tests: all of it on the CPU, where no session is bound to a
GPU's memory, no CUDA graph is made, and speed is shown and not judged.
";

#[derive(Debug, PartialEq, Eq)]
struct Asked {
    device: String,
    cuda_libs: bool,
    /// Compile without optimisation, for trying the task itself: speed is measured and not judged.
    dev: bool,
}

/// `cargo xtask test-gpu [--device DEVICE] [--cuda-libs] [--dev] [--list]`.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--list") {
        print!("{LIST}");
        return Ok(());
    }
    let asked = parse(arguments)?;
    let is_gpu = asked.device != "cpu";
    if is_gpu {
        match gpus(Path::new("/")) {
            Ok(list) => step::note(list.trim()),
            Err(reason) => {
                bail!("no NVIDIA GPU: {reason}; nothing was tested (`--device cpu` tries the tests without one)")
            }
        }
    }
    prerequisites::to_build()?;
    let mut steps = Steps::new(3);
    let library = steps.run("ONNX Runtime", || match is_gpu {
        true => with_providers(tree, asked.cuda_libs),
        false => onnxruntime::library(tree),
    })?;
    let models = steps.run("MobileNetV2's shape, with weights of a fixed seed", || make_model(tree, &asked))?;
    let mut command = test(tree, &asked, &library, &models);
    let outcome = steps.run("tests", || step::run(&mut command));
    // Best effort: a folder left behind costs space only.
    let _ = fs::remove_dir_all(&models);
    outcome?;
    if !is_gpu {
        println!(
            "\nThe tests hold on the CPU. NO GPU WAS TESTED: that takes a machine that has one, without --device cpu."
        );
    }
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Asked> {
    let mut asked = Asked { device: "cuda:0".into(), cuda_libs: false, dev: false };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--device" => {
                asked.device.clone_from(words.next().context("--device needs cpu, cuda[:N] or tensorrt[:N]")?)
            }
            "--cuda-libs" => asked.cuda_libs = true,
            "--dev" => asked.dev = true,
            _ => bail!("`cargo xtask test-gpu` takes --device DEVICE, --cuda-libs, --dev and --list, not `{word}`"),
        }
    }
    let (kind, number) = asked.device.split_once(':').unwrap_or((&asked.device, "0"));
    let known = matches!(kind, "cuda" | "tensorrt") && number.parse::<u32>().is_ok();
    ensure!(known || asked.device == "cpu", "device {:?}: write cpu, cuda[:N] or tensorrt[:N]", asked.device);
    Ok(asked)
}

/// What NVIDIA's tool lists, or files that say that there is a Jetson's. The error is one clause.
fn gpus(root: &Path) -> Result<String, String> {
    if let Ok(output) = Command::new("nvidia-smi").arg("-L").output() {
        let list = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && list.contains("GPU ") {
            return Ok(list);
        }
    }
    let files = ["dev/nvidia0", "dev/nvhost-gpu", "dev/nvgpu/igpu0/ctrl"];
    match files.iter().find(|file| root.join(file).exists()) {
        Some(file) => Ok(format!("/{file}")),
        None => Err("nvidia-smi lists none, and neither /dev/nvidia0 nor /dev/nvhost-gpu exists".into()),
    }
}

/// A library of the user's own (a Jetson's must be), else the pinned one with its providers.
fn with_providers(tree: &Tree, cuda_libs: bool) -> Result<PathBuf> {
    if std::env::var_os("ORT_DYLIB_PATH").is_some_and(|path| !path.is_empty()) {
        return onnxruntime::library(tree);
    }
    Ok(onnxruntime::library_in(&gpu::folder(tree, cuda_libs)?))
}

/// In a folder of its own. It is never kept: 14 MB that a seed makes again.
fn make_model(tree: &Tree, asked: &Asked) -> Result<PathBuf> {
    let mut build = Command::new(cargo());
    build.args(["build", "-p", "wharf-bench"]).args(profile(asked)).current_dir(tree.root());
    step::run(&mut build)?;
    let scratch = tree.target().join(format!("gpu-test-{}", std::process::id()));
    let (fixtures, models) = (scratch.join("fixtures"), scratch.join("models"));
    let program = match asked.dev {
        true => tree.target().join("debug/wharf-bench"),
        false => tree.program("wharf-bench"),
    };
    step::run(Command::new(program).arg("fixtures").arg(&fixtures))?;
    layout::place(&fixtures.join("models/mobilenet.onnx"), &models.join("mobilenet.onnx"))?;
    fs::remove_dir_all(&fixtures).with_context(|| format!("cannot remove {}", fixtures.display()))?;
    Ok(models)
}

fn profile(asked: &Asked) -> &'static [&'static str] {
    if asked.dev { &[] } else { &["--release"] }
}

fn test(tree: &Tree, asked: &Asked, library: &Path, models: &Path) -> Command {
    let mut command = Command::new(cargo());
    command.args(["test", "-p", "wharf", "--test", "gpu"]).args(profile(asked)).current_dir(tree.root());
    // One after the other: they measure.
    command.args(["--", "--nocapture", "--test-threads=1"]);
    command.env("ORT_DYLIB_PATH", library).env("WHARF_TEST_DEVICE", &asked.device);
    // What is not optimised says nothing of speed, and on the CPU the smallest models take less time than asking does.
    let judged = asked.device != "cpu" && !asked.dev;
    command.env("WHARF_TEST_MODELS", models).env("WHARF_TEST_SPEED", if judged { "1" } else { "0" });
    if let (true, Some(folder)) = (asked.device != "cpu", library.parent()) {
        // The system's loader does not look beside a library for what it needs.
        let known = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let mut path = folder.as_os_str().to_owned();
        if !known.is_empty() {
            path.push(":");
            path.push(known);
        }
        command.env("LD_LIBRARY_PATH", path);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Asked> {
        parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn devices_are_named_as_for_the_host() {
        let asked = |device: &str, cuda_libs, dev| Asked { device: device.into(), cuda_libs, dev };
        assert_eq!(parsed(&[]).unwrap(), asked("cuda:0", false, false));
        assert_eq!(parsed(&["--device", "tensorrt:1", "--cuda-libs"]).unwrap(), asked("tensorrt:1", true, false));
        assert_eq!(parsed(&["--device", "cpu", "--dev"]).unwrap(), asked("cpu", false, true));
        for words in [&["--device"][..], &["--device", "gpu"], &["--device", "cuda:x"], &["--device", "cpu:0"], &["-x"]]
        {
            parsed(words).unwrap_err();
        }
    }

    #[test]
    fn a_gpu_is_seen_by_its_files() {
        let root = std::env::temp_dir().join(format!("wharf-xtask-gpu-test-{}", std::process::id()));
        fs::create_dir_all(root.join("dev")).unwrap();
        if Command::new("nvidia-smi").arg("-L").output().is_err() {
            assert!(gpus(&root).unwrap_err().contains("/dev/nvidia0"));
        }
        fs::write(root.join("dev/nvhost-gpu"), "").unwrap();
        gpus(&root).unwrap();
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn every_test_is_listed() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/tests/gpu.rs");
        let text = fs::read_to_string(source).unwrap();
        let tests: Vec<&str> =
            text.split("#[test]\nfn ").skip(1).map(|rest| rest.split('(').next().unwrap_or_default()).collect();
        assert!(tests.len() >= 4 && tests.iter().all(|name| LIST.contains(name)), "{tests:?}");
    }
}
