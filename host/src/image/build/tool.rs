//! RUN: a tool works on a copy of the stage's files, and what it changed becomes the step's files.

use super::RunStep;
use super::changes;
use super::driver::Build;
use super::files::Files;
use super::stage::Stage;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Digest;

/// A tool of RUN ended with a code of its own, which is the build's.
#[derive(Debug)]
pub struct ToolFailed {
    pub code: i32,
    text: String,
}

impl std::fmt::Display for ToolFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ToolFailed {}

impl Build<'_> {
    pub fn run(&self, stage: &Stage, argv: &[String], environment: &[(String, String)]) -> Result<Files> {
        let root = self.workspace.fresh();
        self.images.inner.layers.writable(&stage.layers, &root)?;
        let snapshot = changes::snapshot(&root)?;
        let container = Digest::of(root.as_os_str().as_encoded_bytes());
        self.say(&format!(" ---> Running in {}\n", container.short()));
        let environment: Vec<(String, String)> = environment.iter().cloned().chain(self.arguments.proxies()).collect();
        let step = RunStep { root: &root, argv, environment: &environment, working_dir: stage.working_dir() };
        let code = self.hooks.run(step, &|line| self.say(&format!("{line}\n")))?;
        if code != 0 {
            let command = argv.join(" ");
            let text = format!("The command '{command}' returned a non-zero code: {code}");
            let cause = ToolFailed { code, text: text.clone() };
            return Err(Error::new(ErrorKind::Failed, text).because(cause));
        }
        self.say(&format!(" ---> Removed intermediate container {}\n", container.short()));
        snapshot.changes(&self.files_of(stage)?, &root)
    }
}
