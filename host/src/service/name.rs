//! What a container is called now: a rename reaches whoever keeps its name, also while it runs.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// A container's present name. Clones are the same name.
#[derive(Clone, Debug)]
pub struct Name(Arc<RwLock<Arc<str>>>);

impl Name {
    pub fn new(name: impl Into<Arc<str>>) -> Name {
        Name(Arc::new(RwLock::new(name.into())))
    }

    pub fn get(&self) -> Arc<str> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The name before this one.
    pub fn change(&self, name: &str) -> Arc<str> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), name.into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.get())
    }
}
