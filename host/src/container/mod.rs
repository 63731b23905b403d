//! Containers: what they are, which states they pass through, what they wrote, whom they reach, and where all that
//! lies on disk.
//!
//! The way in is [`Containers`]. It drives containers through the traits of [`runtime`]; how one is run (Wasm, models,
//! ports) is decided behind them. This room must never know HTTP, Docker's JSON, Wasm or ONNX.
//!
//! | part | what it does |
//! |---|---|
//! | [`spec`], [`devices`], [`tensorrt`], [`runtime`], [`snapshot`] | what is asked for, what runs it, what is shown |
//! | [`state`], [`restart`], [`health`], [`reach`], [`addresses`], [`names`], [`signal`] | pure rules |
//! | `engine`, `table`, `cell`, `create`, `verbs`, `remove`, `connect`, `wait` | [`Containers`], a file per group of verbs |
//! | `launch`, `supervisor`, `probing` | a container's run: start, exit, restart, health checks |
//! | [`logs`], `attach`, `exec`, [`files`] | what goes in and out |
//! | [`networks`], [`volumes`], [`events`] | what containers share |
//! | `record`, `disk`, [`ids`] | the files, and what they are called |

pub mod addresses;
mod attach;
mod cell;
mod connect;
mod create;
pub mod devices;
mod disk;
mod engine;
pub mod events;
mod exec;
pub mod files;
pub mod health;
pub mod ids;
mod launch;
pub mod logs;
pub mod names;
pub mod networks;
mod probing;
pub mod reach;
mod record;
mod remove;
pub mod restart;
pub mod runtime;
pub mod signal;
pub mod snapshot;
pub mod spec;
pub mod state;
mod supervisor;
mod table;
pub mod tensorrt;
mod verbs;
pub mod volumes;
mod wait;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use engine::{Containers, Options};
pub use events::{Event, EventKind, EventReader, Events};
pub use logs::{LogEntry, LogQuery, LogReader};
pub use networks::{Network, NetworkSpec, Networks};
pub use snapshot::{
    AttachQuery, Attached, Changed, Created, Endpoint, ExecSpec, ExecState, ExecStreams, HealthReport, HealthStatus,
    ProbeRecord, PruneFilter, Pruned, ResolvedMount, Snapshot, Update, WaitCondition,
};
pub use spec::Spec;
pub use state::Status;
pub use volumes::{Volume, VolumeSpec, Volumes};
