//! Wharf's host: sandboxed model services in one process. ARCHITECTURE.md is the map of the rooms below.

pub mod error;
pub mod service;
