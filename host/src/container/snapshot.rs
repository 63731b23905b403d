//! What callers of [`Containers`](super::Containers) are shown and what they hand over: values, copied at one instant.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::runtime::{BoundPort, BoxFuture, Exit, Kind, ModelDevice, Stream};
use super::spec::{MountKind, RestartPolicy, Spec};
use super::state::Status;

/// A container as it was at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub id: String,
    /// Without Docker's leading slash.
    pub name: String,
    pub created: SystemTime,
    pub spec: Arc<Spec>,
    pub status: Status,
    /// How it last ended; all zero before it did.
    pub exit: Exit,
    pub started: Option<SystemTime>,
    pub finished: Option<SystemTime>,
    pub restart_count: u32,
    /// `None` without a health check.
    pub health: Option<HealthReport>,
    /// Ports that answer now.
    pub ports: Vec<BoundPort>,
    /// By the network's name. While the container does not run, without address.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// Known once it was started.
    pub kind: Option<Kind>,
    pub models: Vec<String>,
    /// What they run on, while it runs.
    pub devices: Vec<ModelDevice>,
    pub log_path: PathBuf,
    pub mounts: Vec<ResolvedMount>,
    /// Why the last start failed, or how it ended where the code does not say it all.
    pub error: String,
    /// Ids of its `exec`s, newest last.
    pub execs: Vec<String>,
}

/// A container's place on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    pub network_id: String,
    pub endpoint_id: String,
    pub address: Option<IpAddr>,
    pub gateway: Option<IpAddr>,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    pub mac: String,
    /// What was asked for with `--network-alias`.
    pub aliases: Vec<String>,
    /// Every name it answers to on this network.
    pub names: Vec<String>,
}

/// A mount as `inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedMount {
    pub kind: MountKind,
    /// The volume's name; `None` for other kinds.
    pub volume: Option<String>,
    pub source: PathBuf,
    pub target: String,
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthStatus {
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    pub status: HealthStatus,
    pub failing_streak: u32,
    /// The last five checks, oldest first.
    pub log: Vec<ProbeRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRecord {
    pub start: SystemTime,
    pub end: SystemTime,
    pub code: i32,
    pub output: String,
}

/// Answer of `create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    pub id: String,
    pub warnings: Vec<String>,
}

/// Whether a verb had anything to do; Docker answers 304 when not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCondition {
    /// At once when it does not run.
    NotRunning,
    /// The next time it ends, however often it did before.
    NextExit,
    Removed,
}

/// `docker update`; `None` leaves a setting as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub memory: Option<u64>,
    pub nano_cpus: Option<u64>,
    pub restart: Option<RestartPolicy>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachQuery {
    /// What was written so far comes first.
    pub logs: bool,
    /// Then what is written from now on.
    pub stream: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A client's connection to a container.
pub struct Attached {
    /// Lines with their newline; ends when the container ends.
    pub output: mpsc::Receiver<(Stream, Bytes)>,
    /// Dropping it is the client's end of input. `None` unless the container was made with `-i`.
    pub stdin: Option<mpsc::Sender<Bytes>>,
}

/// `docker exec`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    pub argv: Vec<String>,
    /// `NAME=VALUE`, added to the container's own.
    pub environment: Vec<String>,
    /// Empty: the container's own.
    pub working_dir: String,
    pub tty: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub user: String,
    pub privileged: bool,
    pub detach_keys: String,
}

/// A started `exec`.
pub struct ExecStreams {
    /// Chunks; ends when the command has ended. Dropping it leaves the command running.
    pub output: mpsc::Receiver<(Stream, Bytes)>,
    pub stdin: Option<mpsc::Sender<Bytes>>,
    pub done: BoxFuture<'static, Exit>,
}

#[derive(Clone, Debug)]
pub struct ExecState {
    pub id: String,
    pub container: String,
    pub spec: Arc<ExecSpec>,
    pub running: bool,
    /// `None` until it ended.
    pub exit: Option<Exit>,
}

/// Filters of the prune requests: all must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneFilter {
    /// Only what was made before.
    pub until: Option<SystemTime>,
    /// `k` or `k=v` that must be there.
    pub labels: Vec<String>,
    /// `label!`: `k` or `k=v` that must not be there.
    pub without_labels: Vec<String>,
    /// Volumes: named ones too.
    pub all: bool,
}

impl PruneFilter {
    pub fn admits(&self, made: SystemTime, labels: &BTreeMap<String, String>) -> bool {
        self.until.is_none_or(|until| made < until)
            && self.labels.iter().all(|wanted| has_label(labels, wanted))
            && !self.without_labels.iter().any(|unwanted| has_label(labels, unwanted))
    }
}

/// `k`: present, `k=v`: equal.
fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

/// Answer of the prune requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids of containers, names of networks and volumes.
    pub removed: Vec<String>,
    /// Bytes.
    pub reclaimed: u64,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_prune_filter_joins_its_parts_with_and() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let made = UNIX_EPOCH + Duration::from_secs(100);
        let filter = |until: u64, has: &[&str], lacks: &[&str]| PruneFilter {
            until: Some(UNIX_EPOCH + Duration::from_secs(until)),
            labels: has.iter().map(|label| (*label).to_owned()).collect(),
            without_labels: lacks.iter().map(|label| (*label).to_owned()).collect(),
            all: false,
        };
        for (filter, admitted) in [
            (PruneFilter::default(), true),
            (filter(101, &["a"], &["b"]), true),
            (filter(100, &[], &[]), false),
            (filter(101, &["a=1"], &[]), true),
            (filter(101, &["a=2"], &[]), false),
            (filter(101, &["a", "b"], &[]), false),
            (filter(101, &[], &["a"]), false),
            (filter(101, &[], &["a=2"]), true),
        ] {
            assert_eq!(filter.admits(made, &labels), admitted, "{filter:?}");
        }
    }
}
