//! What this machine can run, and why not the rest. Devices are [`accelerators`](super::accelerators)'s business.

use std::path::Path;

use serde::Serialize;
use wharf_sandbox::cache::ComponentCache;
use wharf_sandbox::engine::{Engine, MemoryLayout};

use super::accelerators;
use crate::error::Error;
use crate::model::OnnxRuntime;
use crate::model::environment::usable_cores;
use crate::model::library::Search;

/// One thing looked at.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub name: String,
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
    let mut findings = vec![host(), engine(), dirty_pages(), processor(), cores(), onnxruntime(&runtime)];
    findings.extend(accelerators::findings(&runtime, sysroot));
    findings.push(cache(data));
    Report { findings }
}

pub(super) fn finding(name: impl Into<String>, required: bool, found: Result<String, String>) -> Finding {
    let usable = found.is_ok();
    Finding { name: name.into(), usable, required, detail: found.unwrap_or_else(|detail| detail) }
}

fn host() -> Finding {
    finding("host", true, Ok(format!("wharf {} on {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)))
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

fn cache(data: &Path) -> Finding {
    let folder = data.join("cache").join("components");
    let found = match ComponentCache::open(&folder) {
        Ok(_) => Ok(format!("{} is writable", folder.display())),
        Err(error) => Err(format!("{}: {error}; components are compiled at every start", folder.display())),
    };
    finding("cache", false, found)
}
