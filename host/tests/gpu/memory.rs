//! How much memory is in use where the models are: a GPU's by NVIDIA's own tool, which sees all processes (so that nothing
//! else should use that GPU meanwhile), the CPU's as what this process holds.

use std::process::Command;

use wharf::model::Device;

#[derive(Clone, Copy)]
pub enum Probe {
    Gpu(u32),
    Process,
}

impl Probe {
    pub fn of(device: Device) -> Probe {
        device.gpu().map_or(Probe::Process, Probe::Gpu)
    }

    /// In bytes.
    pub fn used(self) -> u64 {
        match self {
            Probe::Gpu(gpu) => megabytes_of_gpu(gpu) << 20,
            Probe::Process => resident(),
        }
    }

    /// What may be left after many loads and unloads: less than any one of them, but for a MobileNet, would leave in all.
    pub fn allowed(self) -> u64 {
        match self {
            Probe::Gpu(_) => 8 << 20,
            // The C library's allocator keeps pieces.
            Probe::Process => 64 << 20,
        }
    }
}

fn megabytes_of_gpu(gpu: u32) -> u64 {
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", &gpu.to_string()]);
    let output = command.output().expect("nvidia-smi is needed to see the GPU's memory");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "nvidia-smi: {text}{}", String::from_utf8_lossy(&output.stderr));
    text.trim().parse().unwrap_or_else(|_| panic!("nvidia-smi says {text:?} of memory.used, a number was expected"))
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}
