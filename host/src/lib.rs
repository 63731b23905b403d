//! Wharf's host: sandboxed model services in one process. ARCHITECTURE.md is the map of the rooms below.

pub mod batch;
pub mod cli;
pub mod compose;
pub mod container;
pub mod control;
pub mod error;
pub mod image;
pub mod ingress;
pub mod metrics;
pub mod model;
pub mod oip;
pub mod runtime;
pub mod serve;
pub mod service;
