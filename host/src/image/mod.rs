//! Images: one OCI image layout on disk, and what is made of it.
//!
//! Names and ids lead to images ([`store`], [`layout`], [`reference`], [`digest`]), whose parts ([`manifest`], [`config`]) are
//! blobs ([`blobs`]). Layers become files ([`unpack`], [`tree`], [`layers`]). Images go ([`prune`], [`garbage`]), say how they
//! were made ([`history`], [`steps`]), are built ([`build`]) and travel, as archives ([`archive`]) or through registries
//! ([`registry`]).
//!
//! It must never know what runs an image: no container, no Wasm beyond a file's first bytes, no HTTP server. Everything but
//! [`registry`] is blocking. Whatever comes from outside is checked when it is read, and everything is written so that a
//! crash at any instant leaves the store readable and nothing that the collector does not find.

pub mod archive;
pub mod blobs;
pub mod build;
pub mod config;
pub mod digest;
mod durable;
mod garbage;
pub mod history;
mod layers;
mod layout;
pub mod manifest;
pub mod prune;
pub mod reference;
pub mod registry;
mod steps;
mod store;
mod tree;
pub mod unpack;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub use archive::Loaded;
pub use blobs::{BlobWriter, Blobs};
pub use config::{HealthConfig, History, ImageConfig, RunConfig};
pub use digest::Digest;
pub use history::HistoryEntry;
pub use prune::{PruneFilter, Pruned, Removed, Use};
pub use reference::Reference;
pub use store::{Hold, Image, Images};
pub use unpack::unpack_context;

/// How far long work is.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Text as it is, with its line ends.
    Stream(String),
    /// One thing's state: a layer of a pull, for example.
    Status { id: Option<String>, status: String, current: Option<u64>, total: Option<u64> },
    /// For programs.
    Aux(Value),
}
