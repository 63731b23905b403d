//! The servers that are compared, and how each is started.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::native::Setting;
use crate::server::Server;
use crate::stage::{Guests, Stage};

/// Requests one instance may answer where reuse is on: more than any run sends.
const REUSE: &str = "1000000000";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    NativeOne,
    NativePerCore,
    /// `wharf serve` without flags: one request, one fresh instance.
    Wharf,
    WharfReused,
}

impl Contender {
    pub fn is_native(self) -> bool {
        matches!(self, Contender::NativeOne | Contender::NativePerCore)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Contender::NativeOne => "native, one session",
            Contender::NativePerCore => "native, session per core",
            Contender::Wharf => "wharf",
            Contender::WharfReused => "wharf, reused",
        })
    }
}

/// The programs and files servers are started with.
#[derive(Clone, Debug)]
pub struct Installation {
    pub onnxruntime: PathBuf,
    pub wharf: PathBuf,
    pub guests: Guests,
}

impl Installation {
    pub fn start(&self, contender: Contender, stage: &Stage) -> Result<Server> {
        match contender {
            Contender::NativeOne => self.start_native(Setting::One, stage),
            Contender::NativePerCore => self.start_native(Setting::PerCore, stage),
            Contender::Wharf => self.start_services(stage, "fresh", &[]),
            Contender::WharfReused => self.start_services(stage, "reused", &["--instance-max-requests", REUSE]),
        }
    }

    fn start_native(&self, setting: Setting, stage: &Stage) -> Result<Server> {
        let own = std::env::current_exe().context("this program has no path")?;
        let mut command = Command::new(own);
        let sessions = if setting == Setting::One { "one" } else { "per-core" };
        command.args(["native", "--sessions", sessions, "--models"]).arg(stage.models());
        command.arg("--onnxruntime").arg(&self.onnxruntime);
        Server::start(command, &["native"])
    }

    fn start_services(&self, stage: &Stage, data: &str, flags: &[&str]) -> Result<Server> {
        let targets = [stage.hello(&self.guests)?, stage.digits(&self.guests, "digits")?];
        let mut command = self.wharf(stage, data, &targets);
        command.args(flags);
        Server::start(command, &["hello", "digits"])
    }

    /// `wharf serve` of `targets`, each on a free port.
    pub fn wharf(&self, stage: &Stage, data: &str, targets: &[PathBuf]) -> Command {
        let mut command = Command::new(&self.wharf);
        command.arg("serve").args(targets);
        for _ in targets {
            command.args(["-p", "127.0.0.1:0:5000"]);
        }
        command.args(["--http", "127.0.0.1:0"]).arg("--onnxruntime").arg(&self.onnxruntime);
        command.arg("--data").arg(stage.data(data));
        command
    }
}
