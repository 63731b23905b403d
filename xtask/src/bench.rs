//! `cargo xtask bench`: builds the host, the guests and the load generator, and hands over to `wharf-bench`.

use std::process::Command;

use anyhow::Result;

use crate::serve::without_separator;
use crate::step::{self, Steps};
use crate::tree::{Tree, cargo};
use crate::{guests, onnxruntime, prerequisites};

/// `cargo xtask bench [ARGS]`.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    prerequisites::to_build()?;
    let mut steps = Steps::new(4);
    let library = steps.run("ONNX Runtime", || onnxruntime::library(tree))?;
    steps.run("guests", || guests::build(tree))?;
    steps.run("host and load generator", || {
        let mut build = Command::new(cargo());
        step::run(build.args(["build", "--release", "-p", "wharf", "-p", "wharf-bench"]).current_dir(tree.root()))
    })?;
    let mut command = Command::new(tree.program("wharf-bench"));
    command.current_dir(tree.root()).args(without_separator(arguments));
    command.env("ORT_DYLIB_PATH", library).env("WHARF_GUESTS", tree.layout()).env("WHARF_BIN", tree.program("wharf"));
    steps.run("wharf-bench", || Err(step::become_program(&mut command)))
}
