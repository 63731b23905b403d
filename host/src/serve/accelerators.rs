//! What `wharf doctor` says of devices: the GPUs, the libraries that ONNX Runtime needs for them, and for each device
//! whether a model runs on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use super::doctor::{Finding, finding};
use crate::batch::{ModelOptions, Models};
use crate::error::Error;
use crate::model::device::{Choice, Gpu, Strictness, Wish};
use crate::model::machine::{Driver, NvidiaGpu};
use crate::model::preflight::Missing;
use crate::model::{Device, OnnxRuntime, Placing};
use crate::runtime::devices::Devices;

/// One line for each thing. Opens what a GPU would need, even where there is none: to say what to install.
pub fn findings(runtime: &Result<&'static OnnxRuntime, Error>, sysroot: &Path) -> Vec<Finding> {
    let core = runtime.as_ref().map_or_else(|_| Path::new(""), |runtime| runtime.library().path.as_path());
    let devices = Devices::look(sysroot, core);
    let machine = devices.machine();
    let jetson = machine.jetson.as_ref().map(|jetson| finding("jetson", false, Ok(jetson.to_string())));
    let mut findings: Vec<Finding> = jetson.into_iter().collect();
    findings.push(finding("device cpu", false, Ok("always".to_owned())));
    let usable = machine.can_run_cuda();
    match &usable {
        Ok(()) => findings.extend(machine.gpus.iter().map(|gpu| of_gpu(gpu, &devices))),
        Err(reason) => findings.push(finding("gpu", false, Err(reason.clone()))),
    }
    let Ok(runtime) = runtime else { return findings };
    findings.extend(libraries(&devices));
    let gpus: Vec<u32> = machine.gpus.iter().map(|gpu| gpu.index).collect();
    for (word, choice) in [("cuda", Choice::Cuda as fn(Gpu) -> Choice), ("tensorrt", Choice::TensorRt)] {
        match usable {
            Ok(()) => findings.extend(gpus.iter().map(|index| {
                let verdict = verdict(choice(Gpu::Index(*index)), &devices, runtime);
                finding(format!("device {word}:{index}"), false, verdict)
            })),
            Err(_) => {
                let reason = "there is no GPU that can be used: see gpu".to_owned();
                findings.push(finding(format!("device {word}"), false, Err(reason)));
            }
        }
    }
    findings
}

/// What it is, and whether ONNX Runtime has code for it.
fn of_gpu(gpu: &NvidiaGpu, devices: &Devices) -> Finding {
    let driver = match &devices.machine().driver {
        Driver::Cuda(major, minor) => format!(", whose driver runs CUDA {major}.{minor}"),
        Driver::Absent(_) => String::new(),
    };
    let suits = devices.readiness().suits(gpu);
    let found = suits.map(|()| format!("{gpu}{driver}")).map_err(|reason| format!("{gpu}{driver}: {reason}"));
    finding(format!("gpu {}", gpu.index), false, found)
}

fn libraries(devices: &Devices) -> Vec<Finding> {
    let readiness = devices.readiness();
    let code = match readiness.code().as_str() {
        "" => String::new(),
        code => format!("; ONNX Runtime has code for {code}"),
    };
    let later = match readiness.later.as_slice() {
        [] => String::new(),
        missing => format!("; convolutions will lack {}", listed(missing)),
    };
    let cuda = match &readiness.cuda {
        Ok(()) => Ok(format!("all open{code}{later}")),
        Err(missing) => Err(format!("missing: {}{code}", listed(missing))),
    };
    let tensorrt = match &readiness.tensorrt {
        Ok(()) => Ok("all open".to_owned()),
        Err(missing) => Err(format!("missing: {}", listed(missing))),
    };
    vec![finding("cuda libraries", false, cuda), finding("tensorrt libraries", false, tensorrt)]
}

/// Together where they come together, with the loader's words where a library is there and does not open.
fn listed(missing: &[Missing]) -> String {
    let mut packages: BTreeMap<usize, (&str, Vec<String>)> = BTreeMap::new();
    for library in missing {
        let is_absent = library.reason.contains("No such file");
        let named =
            if is_absent { library.library.clone() } else { format!("{} ({})", library.library, library.reason) };
        // In the order in which they were looked for.
        let first = missing.iter().position(|other| other.package == library.package).unwrap_or_default();
        packages.entry(first).or_insert((&library.package, Vec::new())).1.push(named);
    }
    let package = |(package, libraries): &(&str, Vec<String>)| format!("{}, in {package}", libraries.join(" and "));
    packages.values().map(package).collect::<Vec<_>>().join("; ")
}

/// The planner's verdict; where that is yes, a model of one node is opened: what else is missing shows then, and nowhere
/// else for sure.
fn verdict(choice: Choice, devices: &Devices, runtime: &'static OnnxRuntime) -> Result<String, String> {
    let readiness = devices.readiness();
    let missing = match choice {
        Choice::TensorRt(_) if readiness.tensorrt.is_err() => Some("tensorrt libraries"),
        _ => readiness.cuda.is_err().then_some("cuda libraries"),
    };
    if let Some(line) = missing {
        return Err(format!("libraries are missing: see {line}"));
    }
    let typed = choice.to_string();
    let plan = devices.plan(&Wish::List(vec![choice]), Strictness::Require);
    let plan = plan.map_err(|reasons| reasons.join("; ").replacen(&format!("{typed}: "), "", 1))?;
    try_on(plan.device, runtime).map(|()| "a model runs on it".to_owned())
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
    opened.map(drop).map_err(|error| error.chain().replace('\n', " "))
}

/// An ONNX file: one `Identity` from `x` to `y`, both one float, opset 13.
const IDENTITY: &[u8] = b"\x08\x08\x3a\x37\
    \x0a\x10\x0a\x01x\x12\x01y\x22\x08Identity\
    \x12\x01g\
    \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x42\x02\x10\x0d";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_to_try_with_is_one() {
        let runtime = crate::model::fixture::runtime();
        assert_eq!(try_on(Device::Cpu, runtime), Ok(()));
    }

    #[test]
    fn missing_libraries_are_listed_by_their_package() {
        let missing = |library: &str, reason: &str, package: &str| Missing {
            library: library.into(),
            reason: reason.into(),
            package: package.into(),
        };
        let absent = "x: No such file or directory";
        let all = [
            missing("libz.so", absent, "the wheel z"),
            missing("liba.so", absent, "the wheel a"),
            missing("libz2.so", "libz2.so: wrong ELF class", "the wheel z"),
        ];
        assert_eq!(
            listed(&all),
            "libz.so and libz2.so (libz2.so: wrong ELF class), in the wheel z; liba.so, in the wheel a"
        );
    }
}
