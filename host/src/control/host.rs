//! What the host is and what it runs on: gathered once at start, told by `version` and `info`.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Facts that do not change while the host runs.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// The same for one machine and one folder of data, restarts included.
    pub id: String,
    pub version: String,
    /// `$WHARF_DATA`.
    pub data: PathBuf,
    pub cores: usize,
    /// Bytes.
    pub memory_total: u64,
    pub kernel: String,
    pub operating_system: String,
    /// Docker's word: `x86_64`, `aarch64`.
    pub architecture: String,
    pub name: String,
    /// What `--runtime` accepts; the first is the default.
    pub runtimes: Vec<String>,
    /// Whether a GPU is here: `--runtime nvidia` is accepted all the same, and refused at the start with the reason.
    pub gpus: bool,
    /// What `info` warns of.
    pub warnings: Vec<String>,
    /// Version of wasmtime, which only the sandbox knows: whoever composes the host writes it here.
    pub wasm_runtime: String,
}

impl HostFacts {
    /// `cores` is what the host may use, which a quota makes less than the machine has.
    pub fn read(data: &Path, cores: usize) -> HostFacts {
        let first_line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let name = first_line("/proc/sys/kernel/hostname");
        let machine = first_line("/etc/machine-id");
        let seed = format!("{machine} {name} {}", data.display());
        let id: String = Sha256::digest(seed).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        HostFacts {
            id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data: data.to_owned(),
            cores,
            memory_total: memory_total(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            operating_system: pretty_name(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            architecture: std::env::consts::ARCH.to_owned(),
            name,
            runtimes: ["wharf", "runc", "nvidia", "io.containerd.wasmtime.v1"].map(str::to_owned).into(),
            gpus: false,
            warnings: Vec::new(),
            wasm_runtime: "unknown".to_owned(),
        }
    }

    /// What Go calls the architecture, as `version` and platforms have it.
    pub fn go_architecture(&self) -> &str {
        match self.architecture.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }

    pub fn default_runtime(&self) -> &str {
        self.runtimes.first().map_or("wharf", String::as_str)
    }
}

/// `MemTotal` of /proc/meminfo, which counts in KiB.
fn memory_total(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn pretty_name(os_release: &str) -> String {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or("Linux", |name| name.trim_matches('"')).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_the_systems_files() {
        assert_eq!(memory_total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16 << 20);
        assert_eq!(memory_total("nonsense"), 0);
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13\"\n"), "Debian GNU/Linux 13");
        assert_eq!(pretty_name(""), "Linux");
    }

    #[test]
    fn the_id_stays_the_same() {
        let facts = HostFacts::read(Path::new("/nowhere"), 4);
        assert_eq!(facts.id, HostFacts::read(Path::new("/nowhere"), 8).id);
        assert_ne!(facts.id, HostFacts::read(Path::new("/elsewhere"), 4).id);
    }
}
