//! buildah and podman with a store of their own, in the target folder: nothing of the machine's images is seen or changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::step;

pub struct Engine {
    configuration: PathBuf,
    /// crun of Debian 12 refuses the cgroups of some machines; runc does not.
    runc: bool,
}

/// What building and running needs and is not here, with the remedy.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    let tools = ["buildah", "podman", "debootstrap"];
    let absent: Vec<&str> = tools.into_iter().filter(|tool| !on_path(tool)).collect();
    if !absent.is_empty() {
        missing.push(format!(
            "{} not installed: `apt-get install buildah podman debootstrap runc netavark aardvark-dns iptables`",
            absent.join(", ")
        ));
    }
    if !fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0) {
        missing.push("debootstrap and running without a user namespace take root".to_owned());
    }
    if std::env::consts::ARCH != "x86_64" {
        missing.push("the images are tried on x86-64 only".to_owned());
    }
    missing
}

/// The mirror that this machine's own packages come from, if it says so; debootstrap's default otherwise.
pub fn mirror() -> Option<String> {
    let sources = fs::read_to_string("/etc/apt/sources.list.d/debian.sources").ok()?;
    let line = sources.lines().find_map(|line| line.strip_prefix("URIs:"))?;
    line.split_whitespace().next().map(str::to_owned)
}

fn on_path(tool: &str) -> bool {
    step::succeeds(Command::new(tool).arg("--version"))
}

impl Engine {
    pub fn new(store: &Path) -> Result<Self> {
        let configuration = store.join("storage.conf");
        fs::create_dir_all(store).with_context(|| format!("cannot make {}", store.display()))?;
        let (run, graph) = (store.join("run"), store.join("graph"));
        let text = format!(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"{}\"\ngraphroot = \"{}\"\n",
            run.display(),
            graph.display()
        );
        fs::write(&configuration, text).with_context(|| format!("cannot write {}", configuration.display()))?;
        Ok(Self { configuration, runc: on_path("runc") })
    }

    pub fn podman(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_STORAGE_CONF", &self.configuration).stdin(Stdio::null());
        command.args(["--cgroup-manager", "cgroupfs"]);
        if self.runc {
            command.args(["--runtime", "runc"]);
        }
        command.args(arguments);
        command
    }

    pub fn buildah(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.env("CONTAINERS_STORAGE_CONF", &self.configuration).stdin(Stdio::null()).args(arguments);
        command
    }

    pub fn has(&self, image: &str) -> bool {
        step::succeeds(&mut self.podman(&["image", "exists", image]))
    }

    /// Docker's format: OCI's has no HEALTHCHECK.
    pub fn build(&self, context: &Path, file: &str, platform: &str, tag: &str, arguments: &[&str]) -> Result<()> {
        step::note(format_args!("{tag}: {file} for {platform}"));
        let mut command = self.buildah(&[
            "bud",
            "--quiet",
            "--pull-never",
            "--isolation",
            "chroot",
            "--layers",
            "--format",
            "docker",
        ]);
        // Debian 12's buildah does not set it by itself, as BuildKit and newer ones do.
        command.args(["--build-arg", "BUILDPLATFORM=linux/amd64"]);
        command.args(["--platform", platform, "-t", tag, "-f"]).arg(context.join("Dockerfiles").join(file));
        for argument in arguments {
            command.args(["--build-arg", argument]);
        }
        step::run(command.arg(context).stdout(Stdio::null())).with_context(|| format!("{file} does not build"))
    }

    /// The standard output of a podman command that must succeed.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        Ok(step::capture(&mut self.podman(arguments))?.trim().to_owned())
    }

    /// Makes an image's files visible while `look` runs.
    pub fn look_into<T>(&self, image: &str, look: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let root = self.ask(&["image", "mount", image])?;
        let seen = look(Path::new(&root));
        step::run(self.podman(&["image", "unmount", "--force", image]).stdout(Stdio::null()))?;
        seen
    }
}
