//! `cargo xtask test`: everything CI runs, in the order that fails soonest.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::step::{self, Steps};
use crate::strays::Snapshot;
use crate::summary::Summary;
use crate::toolchain::{Compiler, Target, Toolchain};
use crate::tree::{Tree, cargo};
use crate::{guests, onnxruntime, prerequisites};

/// `cargo xtask test [FILTER]`. A filter is for the loop while writing: it leaves out what does not run tests.
pub fn run(tree: &Tree, arguments: &[String]) -> Result<()> {
    let filter = match arguments {
        [] => None,
        [filter] if !filter.starts_with('-') => Some(filter.as_str()),
        _ => bail!("`cargo xtask test` takes one filter at most: a part of the names of the tests to run"),
    };
    prerequisites::to_test()?;
    let before = Snapshot::take(tree);
    let mut steps = Steps::new(if filter.is_some() { 4 } else { 8 });
    if filter.is_none() {
        steps.run("fmt", || fmt(tree))?;
        steps.run("clippy", || clippy(tree))?;
    }
    steps.run("guests", || guests::build(tree))?;
    if filter.is_none() {
        steps.run("clippy of the guests", || clippy_guests(tree))?;
    }
    let library = steps.run("ONNX Runtime", || onnxruntime::library(tree))?;
    // Apart from running them, so that cargo shows its progress on a terminal.
    steps.run("build tests", || step::run(cargo_test(tree, &library, None).arg("--no-run")))?;
    let summary = steps.run("tests", || run_tests(cargo_test(tree, &library, filter)))?;
    let tidy = if filter.is_none() { steps.run("tree", || before.compare(tree).map(step::note)) } else { Ok(()) };
    println!("\nTests of the run above ({}):\n{}", steps.elapsed(), summary.render());
    verdict(&summary).and(tidy)
}

fn verdict(summary: &Summary) -> Result<()> {
    ensure!(summary.failed == 0, "{} tests failed: their output is above", summary.failed);
    ensure!(!summary.is_empty(), "no test ran: does a test's name contain the filter?");
    Ok(())
}

fn fmt(tree: &Tree) -> Result<()> {
    let mut manifests = guests::workspaces(tree);
    manifests.insert(0, tree.root().join("Cargo.toml"));
    for manifest in manifests {
        step::run(Command::new(cargo()).args(["fmt", "--all", "--check", "--manifest-path"]).arg(&manifest))
            .context("run `cargo fmt --all` there")?;
    }
    Ok(())
}

fn clippy(tree: &Tree) -> Result<()> {
    let mut command = Command::new(cargo());
    // Release, so that dependencies compiled for the tests below are shared.
    command.args(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    step::run(command.current_dir(tree.root()))
}

fn clippy_guests(tree: &Tree) -> Result<()> {
    let compiler = Compiler::ready(Target::Unknown)?;
    if compiler.toolchain == Toolchain::Debian {
        step::note(
            "SKIPPED: Debian's Rust has no clippy; `rustup target add wasm32-unknown-unknown` makes it possible",
        );
        return Ok(());
    }
    for manifest in guests::workspaces(tree) {
        step::run(guests::cargo(tree, compiler, "clippy", &manifest).args(["--workspace", "--", "-D", "warnings"]))?;
    }
    Ok(())
}

fn cargo_test(tree: &Tree, library: &Path, filter: Option<&str>) -> Command {
    let mut command = Command::new(cargo());
    command.args(["test", "--release", "--workspace", "--no-fail-fast"]).args(filter).current_dir(tree.root());
    command.env("ORT_DYLIB_PATH", library).env("WHARF_GUESTS", tree.layout());
    command
}

/// Runs the tests with their output passed through, and adds up what they say.
fn run_tests(mut command: Command) -> Result<Summary> {
    // One pipe for both: cargo names a test program on standard error, the program reports on standard output.
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(std::process::Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("cannot start `cargo test`")?;
    let mut summary = Summary::default();
    let mut lines = BufReader::new(reader);
    // The command holds the writing ends: the pipe would never end while it lives.
    drop(command);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        summary.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    let status = child.wait()?;
    // Failed tests are reported with the totals; anything else that ends cargo has no other trace.
    ensure!(status.success() || summary.failed > 0, "`cargo test` ended with {status}: see above");
    Ok(summary)
}
