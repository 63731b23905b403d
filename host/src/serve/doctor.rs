//! What this machine can run, and why not the rest.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use serde::Serialize;
use wharf_sandbox::cache::ComponentCache;
use wharf_sandbox::engine::{Engine, MemoryLayout};

use crate::batch::{ModelOptions, Models};
use crate::error::Error;
use crate::model::environment::usable_cores;
use crate::model::library::Search;
use crate::model::machine::Jetson;
use crate::model::{Device, OnnxRuntime, Placing};
use crate::runtime::accelerators::{Accelerators, Gpu};

/// One thing looked at.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub usable: bool,
    /// Whether the main job cannot run without it.
    pub required: bool,
    pub detail: String,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether a component with a model can run here.
    pub fn usable(&self) -> bool {
        self.findings.iter().all(|finding| finding.usable || !finding.required)
    }
}

/// Look at everything; the devices' files are those below `sysroot`. Starts ONNX Runtime in this process; changes nothing else.
pub fn examine(search: &Search, data: &Path, sysroot: &Path) -> Report {
    let runtime = OnnxRuntime::start(search, usable_cores());
    let machine = Accelerators::read(sysroot);
    let findings = [host()].into_iter().chain(board(sysroot)).chain([
        engine(),
        dirty_pages(),
        processor(),
        cores(),
        onnxruntime(&runtime),
        cpu(),
        gpus(&machine),
        accelerated("device cuda", Device::Cuda(0), &runtime, &machine),
        accelerated("device tensorrt", Device::TensorRt(0), &runtime, &machine),
        cache(data),
    ]);
    Report { findings: findings.collect() }
}

fn finding(name: &'static str, required: bool, found: Result<String, String>) -> Finding {
    let usable = found.is_ok();
    Finding { name, usable, required, detail: found.unwrap_or_else(|detail| detail) }
}

fn host() -> Finding {
    finding("host", true, Ok(format!("wharf {} on {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)))
}

/// A Jetson's name, chip and L4T release; other machines have no such line.
fn board(sysroot: &Path) -> Option<Finding> {
    Jetson::detect(sysroot).map(|jetson| finding("jetson", false, Ok(jetson.to_string())))
}

fn engine() -> Finding {
    let found = match Engine::new() {
        Ok(engine) => Ok(match engine.layout() {
            MemoryLayout::Wide => "wasmtime 48, 1000 instances, 4 GiB address space each".to_owned(),
            MemoryLayout::Small => {
                "wasmtime 48, 1000 instances, 256 MiB address space each (explicit bounds checks)".to_owned()
            }
        }),
        Err(error) => Err(error.to_string()),
    };
    finding("sandbox", true, found)
}

fn dirty_pages() -> Finding {
    let found = match Engine::has_pagemap_scan() {
        true => Ok("the kernel reports dirty pages: fresh instances are cheap".to_owned()),
        false => {
            Err("the kernel cannot report dirty pages (Linux 6.7 can): fresh instances cost about twice as much"
                .to_owned())
        }
    };
    finding("fast reset", false, found)
}

fn processor() -> Finding {
    #[cfg(target_arch = "x86_64")]
    let features: Vec<&str> = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ]
    .into_iter()
    .filter_map(|(name, present)| present.then_some(name))
    .collect();
    #[cfg(not(target_arch = "x86_64"))]
    let features: Vec<&str> = Vec::new();
    let list = if features.is_empty() { "the baseline".to_owned() } else { features.join(", ") };
    finding("processor", false, Ok(format!("{} with {list}", std::env::consts::ARCH)))
}

fn cores() -> Finding {
    let machine = std::fs::read_to_string("/proc/cpuinfo").map(|text| text.matches("processor\t").count()).unwrap_or(0);
    let quota = std::fs::read_to_string("/sys/fs/cgroup/cpu.max").map(|text| text.trim().to_owned());
    let quota = match quota {
        Ok(text) if !text.starts_with("max") => format!("cgroup quota {text} µs"),
        _ => "no cgroup quota".to_owned(),
    };
    finding(
        "cores",
        false,
        Ok(format!("{} of {machine} usable ({quota}); that many inference threads", usable_cores())),
    )
}

fn onnxruntime(runtime: &Result<&'static OnnxRuntime, Error>) -> Finding {
    let found = match runtime {
        Ok(runtime) => Ok(format!("{} at {}", runtime.library().version, runtime.library().path.display())),
        Err(error) => Err(error.chain()),
    };
    finding("onnxruntime", true, found)
}

fn cpu() -> Finding {
    finding("device cpu", false, Ok("always".to_owned()))
}

fn gpus(machine: &Accelerators) -> Finding {
    let gpu = |gpu: &Gpu| format!("{} {} {}", gpu.index, gpu.name, gpu.uuid).trim_end().to_owned();
    let board = machine.jetson.iter().map(|board| format!("Jetson: {board}"));
    let found = match machine.gpus.as_slice() {
        [] => Err(machine.missing()),
        gpus => Ok(board.chain(gpus.iter().map(gpu)).collect::<Vec<_>>().join(", ")),
    };
    finding("gpu", false, found)
}

/// A model of one node is opened on the device: what is missing shows then, and nowhere else for sure.
fn accelerated(
    name: &'static str,
    device: Device,
    runtime: &Result<&'static OnnxRuntime, Error>,
    machine: &Accelerators,
) -> Finding {
    let found = match runtime {
        Err(_) => Err("there is no ONNX Runtime to ask".to_owned()),
        Ok(runtime) => try_on(device, runtime).map(|()| format!("a model runs on {device}")),
    };
    let found = found.map_err(|reason| match machine.gpus.is_empty() {
        true => format!("no GPU; and {reason}"),
        false => reason,
    });
    finding(name, false, found)
}

fn try_on(device: Device, runtime: &'static OnnxRuntime) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot make a model to try: {error}");
    // In memory: to look changes nothing on this machine.
    let file = rustix::fs::memfd_create("wharf-doctor", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|error| failed(error.into()))?;
    let mut file = File::from(file);
    file.write_all(IDENTITY).map_err(failed)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let options = ModelOptions { placing: Placing::only(device), ..ModelOptions::default() };
    let opened = Models::new(runtime, None).load("doctor", Path::new(&path), options);
    opened.map(drop).map_err(|error| told(&error.chain()))
}

/// What the loader said names the library; the lines around it are for developers of ONNX Runtime.
fn told(error: &str) -> String {
    let Some((before, after)) = error.split_once(": cannot open shared object file") else {
        return error.replace('\n', " ");
    };
    let library = before.rsplit([' ', '\n']).next().unwrap_or_default();
    let what = match PACKAGES.iter().find(|(prefix, _)| library.starts_with(prefix)) {
        Some((_, package)) => format!("; it comes with {package}"),
        None => String::new(),
    };
    let after = after.lines().next().unwrap_or_default();
    format!("{library} cannot be loaded{after}{what}")
}

/// Where libraries come from that a provider needs.
const PACKAGES: [(&str, &str); 7] = [
    ("libcuda.so", "NVIDIA's driver (580 or newer for CUDA 13); in a container, start it with --gpus all"),
    ("libcublas", "cuBLAS: pip's nvidia-cublas, Debian's libcublas-13-0, or `cargo xtask onnxruntime --cuda-libs`"),
    (
        "libcudart",
        "the CUDA runtime: pip's nvidia-cuda-runtime, Debian's cuda-cudart-13-0, or `cargo xtask onnxruntime --cuda-libs`",
    ),
    ("libcurand", "cuRAND: pip's nvidia-curand, Debian's libcurand-13-0, or `cargo xtask onnxruntime --cuda-libs`"),
    (
        "libcudnn",
        "cuDNN 9: pip's nvidia-cudnn-cu13, Debian's libcudnn9-cuda-13, or `cargo xtask onnxruntime --cuda-libs`",
    ),
    ("libnvinfer", "TensorRT 10: Debian's libnvinfer10, which JetPack has"),
    ("libnvonnxparser", "TensorRT 10: Debian's libnvonnxparsers10, which JetPack has"),
];

/// An ONNX file: one `Identity` from `x` to `y`, both one float, opset 13.
const IDENTITY: &[u8] = b"\x08\x08\x3a\x37\
    \x0a\x10\x0a\x01x\x12\x01y\x22\x08Identity\
    \x12\x01g\
    \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x42\x02\x10\x0d";

fn cache(data: &Path) -> Finding {
    let folder = data.join("cache").join("components");
    let found = match ComponentCache::open(&folder) {
        Ok(_) => Ok(format!("{} is writable", folder.display())),
        Err(error) => Err(format!("{}: {error}; components are compiled at every start", folder.display())),
    };
    finding("cache", false, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_library_and_its_package_are_named() {
        let said = "model \"doctor\" is to run on cuda:0: [ONNXRuntimeError] : Failed to load library \
                    /opt/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: \
                    No such file or directory\n";
        assert_eq!(
            told(said),
            "libcublasLt.so.13 cannot be loaded: No such file or directory; it comes with cuBLAS: pip's nvidia-cublas, \
             Debian's libcublas-13-0, or `cargo xtask onnxruntime --cuda-libs`"
        );
        assert_eq!(told("CUDA is not enabled\nin this build"), "CUDA is not enabled in this build");
    }

    #[test]
    fn the_model_to_try_with_is_one() {
        let runtime = crate::model::fixture::runtime();
        assert_eq!(try_on(Device::Cpu, runtime), Ok(()));
    }
}
