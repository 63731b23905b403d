//! Which GPUs this machine has, read from its files. It loads no library: whether a GPU can be used shows when a model
//! is loaded on it.

use std::fs;
use std::path::Path;

/// Files that say "Jetson"; each of them does, since a container sees only some.
const RELEASE: &str = "etc/nv_tegra_release";
const FAMILY: &str = "sys/devices/soc0/family";
const COMPATIBLE: &str = "proc/device-tree/compatible";
const BOARD: &str = "proc/device-tree/model";

/// What the NVIDIA driver tells of each GPU; a folder each, named by its place on the bus.
const DRIVER: &str = "proc/driver/nvidia/gpus";

/// A Jetson's GPU has no folder there and no /dev/nvidia0.
const INTEGRATED: [&str; 3] = ["dev/nvhost-gpu", "dev/nvgpu/igpu0/ctrl", "dev/nvhost-ctrl-gpu"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accelerators {
    /// The board's name, e.g. `NVIDIA Jetson Orin Nano Developer Kit`.
    pub jetson: Option<String>,
    /// In the order of their numbers.
    pub gpus: Vec<Gpu>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpu {
    pub index: u32,
    /// Empty where the driver does not tell.
    pub uuid: String,
    pub name: String,
}

impl Accelerators {
    /// `root` is `/`, except in tests.
    pub fn read(root: &Path) -> Accelerators {
        let jetson = jetson(root);
        let mut gpus = told_by_driver(root);
        if gpus.is_empty() {
            gpus = device_files(root);
        }
        if gpus.is_empty() && jetson.is_some() && INTEGRATED.iter().any(|file| root.join(file).exists()) {
            gpus = vec![Gpu { name: "integrated".to_owned(), ..Gpu::default() }];
        }
        Accelerators { jetson, gpus }
    }

    /// Why there is no GPU, and what to do.
    pub fn missing(&self) -> String {
        match &self.jetson {
            Some(board) => format!(
                "this is a {board}, but its GPU is not visible (no /dev/nvhost-gpu): in a container, start the host with \
                 --runtime nvidia"
            ),
            None => "no NVIDIA GPU: /dev/nvidia0 does not exist; install NVIDIA's driver, and where the host itself is in a \
                     container, start it with --gpus all"
                .to_owned(),
        }
    }

    /// The GPU of that number or UUID.
    pub fn find(&self, wanted: &str) -> Result<u32, String> {
        let is = |gpu: &&Gpu| match wanted.parse::<u32>() {
            Ok(index) => gpu.index == index,
            // NVIDIA's tools take the beginning of a UUID, too.
            Err(_) => wanted.starts_with("GPU-") && gpu.uuid.starts_with(wanted),
        };
        let describe = |gpu: &Gpu| match gpu.uuid.as_str() {
            "" => gpu.index.to_string(),
            uuid => format!("{} ({uuid})", gpu.index),
        };
        self.gpus.iter().find(is).map(|gpu| gpu.index).ok_or_else(|| {
            let all: Vec<String> = self.gpus.iter().map(describe).collect();
            format!("no GPU {wanted:?}: this machine has {}", all.join(", "))
        })
    }
}

fn jetson(root: &Path) -> Option<String> {
    let text = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
    let named = text(FAMILY).to_ascii_lowercase().starts_with("tegra") || text(COMPATIBLE).contains("nvidia,tegra");
    if !named && !root.join(RELEASE).exists() {
        return None;
    }
    let board = text(BOARD).trim_end_matches('\0').trim().to_owned();
    Some(if board.is_empty() { "NVIDIA Jetson".to_owned() } else { board })
}

fn told_by_driver(root: &Path) -> Vec<Gpu> {
    let mut folders: Vec<_> =
        fs::read_dir(root.join(DRIVER)).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    // CUDA counts in the bus's order when told so, and so do all of NVIDIA's tools.
    folders.sort();
    let gpu = |(index, folder): (u32, &std::path::PathBuf)| {
        let text = fs::read_to_string(folder.join("information")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim().to_owned()).unwrap_or_default()
        };
        Gpu { index, uuid: field("GPU UUID"), name: field("Model") }
    };
    (0..).zip(&folders).map(gpu).collect()
}

fn device_files(root: &Path) -> Vec<Gpu> {
    let exists = |index: &u32| root.join(format!("dev/nvidia{index}")).exists();
    let present: Vec<u32> = (0..64).filter(exists).collect();
    // A container may be given /dev/nvidia3 alone: CUDA counts what it sees.
    (0..).zip(present).map(|(index, _)| Gpu { index, ..Gpu::default() }).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn machine(name: &str, files: &[(&str, &str)]) -> Accelerators {
        let root: PathBuf = std::env::temp_dir().join(format!("wharf-accelerators-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        for (file, text) in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let read = Accelerators::read(&root);
        fs::remove_dir_all(root).unwrap();
        read
    }

    #[test]
    fn a_machine_without_a_gpu() {
        let machine = machine("none", &[]);
        assert_eq!(machine, Accelerators::default());
        assert!(machine.missing().contains("/dev/nvidia0 does not exist"));
    }

    #[test]
    fn gpus_are_found_by_number_and_uuid() {
        let information = |uuid: &str| format!("Model: \t\t NVIDIA L4\nIRQ:   \t\t 33\nGPU UUID: \t {uuid}\n");
        let (first, second) = (information("GPU-aa11"), information("GPU-bb22"));
        let machine = machine(
            "two",
            &[
                ("proc/driver/nvidia/gpus/0000:82:00.0/information", &second),
                ("proc/driver/nvidia/gpus/0000:0a:00.0/information", &first),
            ],
        );
        assert_eq!(machine.gpus[0], Gpu { index: 0, uuid: "GPU-aa11".into(), name: "NVIDIA L4".into() });
        assert_eq!((machine.find("1"), machine.find("GPU-bb22"), machine.find("GPU-bb")), (Ok(1), Ok(1), Ok(1)));
        assert_eq!(machine.find("2"), Err("no GPU \"2\": this machine has 0 (GPU-aa11), 1 (GPU-bb22)".into()));
        assert!(machine.find("L4").is_err());
    }

    #[test]
    fn device_files_are_enough() {
        let machine = machine("files", &[("dev/nvidia3", ""), ("dev/nvidiactl", "")]);
        assert_eq!(machine.gpus, [Gpu::default()]);
    }

    #[test]
    fn each_sign_of_a_jetson_will_do() {
        for (file, text) in [
            ("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3"),
            ("sys/devices/soc0/family", "Tegra\n"),
            ("proc/device-tree/compatible", "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0"),
        ] {
            assert_eq!(machine("sign", &[(file, text)]).jetson.as_deref(), Some("NVIDIA Jetson"), "{file}");
        }
        assert_eq!(machine("arm", &[("proc/device-tree/compatible", "brcm,bcm2712\0")]).jetson, None);
        let board = "NVIDIA Jetson Orin Nano Developer Kit\0";
        let orin = [("etc/nv_tegra_release", ""), ("proc/device-tree/model", board), ("dev/nvhost-gpu", "")];
        let orin = machine("orin", &orin);
        assert_eq!(orin.jetson.as_deref(), Some("NVIDIA Jetson Orin Nano Developer Kit"));
        assert_eq!(orin.gpus.len(), 1);
        let hidden = machine("hidden", &[("etc/nv_tegra_release", "")]);
        assert!(hidden.gpus.is_empty() && hidden.missing().contains("--runtime nvidia"));
    }
}
