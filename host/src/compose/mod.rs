//! Compose files: read, filled in, and turned into what the API is asked for. Pure but for the `env_file`s it opens: no
//! connection, no environment; it never asks the daemon and never reads a variable that was not passed in.
//!
//! - [`document`]: several files laid over each other; keys nobody knows are warnings
//! - [`interpolate`]: `${X:-y}` and its kin
//! - [`project`]: the file → services in the order of their dependencies, networks, volumes
//! - [`canonical`]: every way to write a key → one way; [`ports`], [`mounts`], [`variables`], [`words`], [`quantities`]
//!   are the parts of that
//! - [`plan`]: a service → names, labels and hash of its container
//! - [`container`], [`limits`]: a service → the request that makes its container
//! - [`yaml`]: values as YAML, for `compose config`

pub mod canonical;
pub mod container;
pub mod document;
pub mod interpolate;
pub mod limits;
pub mod mounts;
pub mod plan;
pub mod ports;
pub mod project;
pub mod quantities;
#[cfg(test)]
mod tests;
pub mod variables;
pub mod words;
pub mod yaml;
