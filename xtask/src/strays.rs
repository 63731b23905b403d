//! What a task leaves in the source tree: builds and tests write into the target folder and nowhere else.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::tree::Tree;

/// The lines of `git status` before a task; `None` where there is no git checkout to ask.
pub struct Snapshot(Option<BTreeSet<String>>);

impl Snapshot {
    pub fn take(tree: &Tree) -> Self {
        Self(status(tree))
    }

    /// An error that names the files which changed since; a message when that cannot be known.
    pub fn compare(&self, tree: &Tree) -> Result<&'static str> {
        let (Some(before), Some(after)) = (&self.0, status(tree)) else {
            return Ok("SKIPPED: not a git checkout, so files left in the tree go unnoticed");
        };
        let new: Vec<&str> = after.difference(before).map(String::as_str).collect();
        if !new.is_empty() {
            bail!(
                "the tasks changed the source tree; write into the target folder or a temporary one instead, \
                 or commit it if it is a Cargo.lock:\n{}",
                new.join("\n")
            );
        }
        Ok("the tree is as it was")
    }
}

fn status(tree: &Tree) -> Option<BTreeSet<String>> {
    let mut git = Command::new("git");
    git.args(["status", "--porcelain", "--untracked-files=all"]).current_dir(tree.root()).stderr(Stdio::null());
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
