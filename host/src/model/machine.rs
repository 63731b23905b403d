//! What this machine has: its architecture, NVIDIA's GPUs, and whether it is a Jetson. Reads files below a root that
//! tests replace; the driver's own answers come from [`super::driver`]. Knows nothing of ONNX Runtime.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::device::Gpu;
use super::driver;

const ROOT: &str = "/";

/// What was found. Looking never fails: what is absent is absent, and `driver` says why the driver did not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// As Rust calls it: `x86_64`, `aarch64`.
    pub architecture: String,
    /// In CUDA's order where the driver answered.
    pub gpus: Vec<NvidiaGpu>,
    pub jetson: Option<Jetson>,
    /// The CUDA version the driver supports, e.g. `13.0`; or why there is none to ask.
    pub driver: Driver,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `libcuda.so.1` answered; the newest CUDA it runs, as (major, minor).
    Cuda(u32, u32),
    /// Nobody can run CUDA; one clause that says why.
    Absent(String),
}

impl Default for Driver {
    fn default() -> Self {
        Driver::Absent("the driver was not asked".into())
    }
}

/// A GPU of NVIDIA's. Unknown properties are `None`: `/proc` tells less than the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NvidiaGpu {
    /// What `cuda:N` means.
    pub index: u32,
    pub name: String,
    /// `GPU-8f0e…`.
    pub uuid: Option<String>,
    /// (8, 7) for Orin.
    pub compute_capability: Option<(u32, u32)>,
    /// Bytes; on a Jetson the whole machine's.
    pub memory: Option<u64>,
}

/// A Jetson, by whichever sign was found first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jetson {
    /// L4T, e.g. `36.4.3`; unknown in a container that was started without NVIDIA's runtime.
    pub release: Option<String>,
    /// E.g. `NVIDIA Jetson AGX Orin Developer Kit`.
    pub board: Option<String>,
    /// `tegra234` (Orin), `tegra264` (Thor).
    pub soc: Option<String>,
}

impl Machine {
    /// This machine. Loads the driver's library if there is one: not for an asynchronous thread.
    pub fn detect() -> Machine {
        Machine::detect_at(Path::new(ROOT))
    }

    /// The machine whose files lie below `root`, the driver's library among them.
    pub fn detect_at(root: &Path) -> Machine {
        Machine::detect_below(root, std::env::consts::ARCH, &|| driver::ask(root))
    }

    /// The machine whose files lie below `root`; `ask` is the driver.
    pub fn detect_below(root: &Path, architecture: &str, ask: &dyn Fn() -> Result<driver::Answer, String>) -> Machine {
        let jetson = Jetson::detect(root);
        let (gpus, driver) = match ask() {
            Ok(answer) => (answer.gpus, Driver::Cuda(answer.cuda.0, answer.cuda.1)),
            Err(reason) => (gpus_in_proc(root, jetson.is_some()), Driver::Absent(reason)),
        };
        Machine { architecture: architecture.to_owned(), gpus, jetson, driver }
    }

    /// Whether there is a GPU, and a driver that runs CUDA on it. The error is one clause: why not, and what to do.
    pub fn can_run_cuda(&self) -> Result<(), String> {
        let reason = match &self.driver {
            Driver::Cuda(..) if !self.gpus.is_empty() => return Ok(()),
            Driver::Cuda(..) => "the driver says that there is none",
            Driver::Absent(reason) => reason,
        };
        Err(match &self.jetson {
            Some(jetson) => format!(
                "the GPU of this {jetson} cannot be used: {reason}; in a container, start the host with \
                 --runtime nvidia"
            ),
            None if self.gpus.is_empty() => format!(
                "no NVIDIA GPU: {reason}; install NVIDIA's driver, and where the host itself is in a container, start \
                 it with --gpus all"
            ),
            None => format!(
                "the NVIDIA driver does not answer: {reason}; where the host itself is in a container, start it with \
                 --gpus all"
            ),
        })
    }

    /// The GPU that was asked for. The error is one clause.
    pub fn find(&self, gpu: &Gpu) -> Result<&NvidiaGpu, String> {
        let found = match gpu {
            Gpu::Any => self.gpus.first(),
            Gpu::Index(index) => self.gpus.iter().find(|gpu| gpu.index == *index),
            Gpu::Uuid(wanted) => {
                // The driver gives the number alone: whether it is of a GPU or of a part of one (MIG) is not in it.
                let number =
                    |uuid: &'_ str| uuid.split_once('-').map_or(String::new(), |(_, number)| number.to_owned());
                let wanted_number = number(wanted);
                let is_wanted = |uuid: &String| number(uuid).starts_with(&wanted_number);
                let mut found = self.gpus.iter().filter(|gpu| gpu.uuid.as_ref().is_some_and(is_wanted));
                let first = found.next();
                if found.next().is_some() {
                    return Err(format!("several GPUs have a UUID that starts with {wanted}"));
                }
                first
            }
        };
        found.ok_or_else(|| match (gpu, self.gpus.len()) {
            (_, 0) => "this machine has no NVIDIA GPU".to_owned(),
            (Gpu::Uuid(uuid), _) => format!("no GPU has the UUID {uuid}; there are {}", self.list()),
            (Gpu::Index(index), _) => format!("there is no GPU {index}; there are {}", self.list()),
            (Gpu::Any, _) => "there is no GPU".to_owned(),
        })
    }

    fn list(&self) -> String {
        self.gpus.iter().map(NvidiaGpu::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl NvidiaGpu {
    /// `sm_87`, as NVIDIA's compilers call it.
    pub fn architecture(&self) -> Option<String> {
        self.compute_capability.map(|(major, minor)| format!("sm_{major}{minor}"))
    }
}

impl fmt::Display for NvidiaGpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.index, self.name)?;
        if let Some(architecture) = self.architecture() {
            write!(f, ", {architecture}")?;
        }
        if let Some(memory) = self.memory {
            write!(f, ", {} MiB", memory >> 20)?;
        }
        if let Some(uuid) = &self.uuid {
            write!(f, ", {uuid}")?;
        }
        f.write_str(")")
    }
}

impl Jetson {
    /// The three signs, in the order of NVIDIA's container toolkit: any of them serves, since a container sees some
    /// only. `aarch64` alone is none: Grace, Spark and Graviton are that, too.
    pub fn detect(root: &Path) -> Option<Jetson> {
        let release = text(root, "etc/nv_tegra_release");
        let family = text(root, "sys/devices/soc0/family").filter(|family| family.to_lowercase().starts_with("tegra"));
        let compatible = text(root, "proc/device-tree/compatible").unwrap_or_default();
        let soc = compatible.split('\0').filter_map(|entry| entry.strip_prefix("nvidia,")).find(|entry| {
            entry.strip_prefix("tegra").is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
        });
        if release.is_none() && family.is_none() && soc.is_none() {
            return None;
        }
        let board = text(root, "proc/device-tree/model").map(|text| text.trim_end_matches('\0').trim().to_owned());
        Some(Jetson {
            release: release.as_deref().and_then(l4t_release),
            board: board.filter(|board| !board.is_empty()),
            soc: soc.map(str::to_owned),
        })
    }
}

/// L4T's release, or the beginning of it, and the JetPack that brings it: the table of NVIDIA's `jetson-containers`.
const JETPACKS: [(&str, &str); 6] = [
    ("36.3", "JetPack 6.0"),
    ("36.4", "JetPack 6.1 or 6.2"),
    ("36.5", "JetPack 6.2"),
    ("38.2", "JetPack 7.0"),
    ("38.4", "JetPack 7.1"),
    ("39", "JetPack 7.2"),
];

impl Jetson {
    /// `None` where the release is unknown, to us or at all.
    fn jetpack(&self) -> Option<&'static str> {
        let release = self.release.as_deref()?;
        let begins =
            |with: &str| release.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        JETPACKS.iter().find(|(l4t, _)| begins(l4t)).map(|(_, jetpack)| *jetpack)
    }
}

impl fmt::Display for Jetson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.board.as_deref().unwrap_or("Jetson"))?;
        if let Some(soc) = &self.soc {
            write!(f, " ({soc})")?;
        }
        match &self.release {
            Some(release) => write!(f, ", L4T {release}")?,
            None => f.write_str(", L4T release unknown")?,
        }
        match self.jetpack() {
            Some(jetpack) => write!(f, " ({jetpack})"),
            None => Ok(()),
        }
    }
}

/// `# R36 (release), REVISION: 4.3, GCID: …` is 36.4.3.
fn l4t_release(line: &str) -> Option<String> {
    let major = line.trim_start_matches('#').trim_start().strip_prefix('R')?.split_whitespace().next()?;
    let revision = line.split("REVISION:").nth(1)?.split(',').next()?.trim();
    Some(format!("{major}.{revision}"))
}

/// Where the libraries of another root are looked for, by hand: the loader knows this machine's own only. Empty for `/`.
pub fn library_folders(root: &Path) -> Vec<PathBuf> {
    if root == Path::new(ROOT) {
        return Vec::new();
    }
    let triple = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    // A Jetson's driver has a folder of its own.
    let folders = [&triple, &format!("{triple}/nvidia"), &format!("{triple}/tegra"), "usr/local/cuda/lib64"];
    folders.into_iter().chain(["usr/lib64", "usr/lib", "lib64", "lib"]).map(|folder| root.join(folder)).collect()
}

fn text(root: &Path, path: &str) -> Option<String> {
    let bytes = fs::read(root.join(path)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Without the driver's library (a container without NVIDIA's runtime), the kernel module's files still say what GPUs
/// there are, and `/dev/nvidia0` at least that there is one. A Jetson's GPU has neither.
fn gpus_in_proc(root: &Path, is_jetson: bool) -> Vec<NvidiaGpu> {
    let mut folders: Vec<PathBuf> = fs::read_dir(root.join("proc/driver/nvidia/gpus"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    folders.sort();
    let mut gpus: Vec<NvidiaGpu> = (0..)
        .zip(&folders)
        .map(|(index, folder)| {
            let information = fs::read_to_string(folder.join("information")).unwrap_or_default();
            let field = |name: &str| {
                let line = information.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.map(|value| value.trim().to_owned())
            };
            let name = field("Model").unwrap_or_else(|| "NVIDIA GPU".into());
            let uuid = field("GPU UUID").filter(|uuid| uuid.starts_with("GPU-") && !uuid.contains('?'));
            NvidiaGpu { index, name, uuid, ..NvidiaGpu::default() }
        })
        .collect();
    let integrated = ["dev/nvhost-gpu", "dev/nvgpu/igpu0/ctrl", "dev/nvhost-ctrl-gpu"];
    if is_jetson && gpus.is_empty() && integrated.iter().any(|file| root.join(file).exists()) {
        return vec![NvidiaGpu { name: "the board's own".into(), ..NvidiaGpu::default() }];
    }
    if gpus.is_empty() {
        let devices = (0..64).filter(|index| root.join(format!("dev/nvidia{index}")).exists());
        gpus.extend(devices.map(|index| NvidiaGpu { index, name: "NVIDIA GPU".into(), ..NvidiaGpu::default() }));
    }
    gpus
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
