//! Where things lie: the repository's root, cargo's target folder, and what the tasks put into it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The folder inside cargo's target folder that holds everything a running host needs.
const LAYOUT: &str = "wharf";

pub struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Asks cargo, so that `CARGO_TARGET_DIR` and `build.target-dir` are honoured by the tool that defines them.
    pub fn locate() -> Result<Self> {
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run `cargo metadata`: is cargo on the PATH?")?;
        ensure!(output.status.success(), "`cargo metadata` failed: run xtask from inside the repository");
        let metadata: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("`cargo metadata` printed something that is not JSON")?;
        let folder = |field: &str| {
            metadata[field]
                .as_str()
                .map(PathBuf::from)
                .with_context(|| format!("`cargo metadata` printed no `{field}`"))
        };
        Ok(Self { root: folder("workspace_root")?, target: folder("target_directory")? })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Servable folders, one per example; tests find it as `WHARF_GUESTS`.
    pub fn layout(&self) -> PathBuf {
        self.target.join(LAYOUT)
    }

    pub fn example(&self, name: &str) -> PathBuf {
        self.layout().join(name)
    }

    /// The guests that the host's tests load.
    pub fn fixtures(&self) -> PathBuf {
        self.layout().join("fixtures")
    }

    /// A program of this workspace, as `cargo build --release` leaves it.
    pub fn program(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }
}

/// The cargo that runs us, so that a nested build uses the same toolchain.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
