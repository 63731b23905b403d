//! What to run: a component and/or models with their settings, before anything is loaded.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wharf_sandbox::state::Mount;

use crate::error::{Error, Result};

#[derive(Clone, Debug)]
pub struct Workload {
    /// The container's name: letters, digits, `_`, `.` and `-`.
    pub name: String,
    /// `None` for a bare model.
    pub component: Option<PathBuf>,
    /// Model name to file.
    pub models: BTreeMap<String, PathBuf>,
    pub environment: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    /// Memory limit of one instance, in bytes.
    pub memory: usize,
    /// Requests one instance may serve, one after the other; 1 is a fresh instance for each.
    pub max_requests: u32,
}

impl Workload {
    pub fn check(&self) -> Result<()> {
        if !is_name(&self.name) {
            return Err(Error::invalid(format!(
                "{:?} is no container name: use letters, digits, '_', '.' and '-', starting with a letter or digit",
                self.name
            )));
        }
        for mount in &self.mounts {
            if !mount.source.is_dir() {
                return Err(Error::invalid(format!("volume source {} is not a folder", mount.source.display())));
            }
        }
        if self.component.is_none() && self.models.is_empty() {
            return Err(Error::invalid(format!("{} has neither a component nor a model", self.name)));
        }
        Ok(())
    }
}

/// Docker's rule for container names.
pub fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_docker() {
        assert!(is_name("digits"));
        assert!(is_name("face_detection-2.0"));
        assert!(!is_name(""));
        assert!(!is_name("-x"));
        assert!(!is_name("a b"));
        assert!(!is_name("a/b"));
    }
}
