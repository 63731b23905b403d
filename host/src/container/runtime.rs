//! What containers are run by: the trait that `runtime/` implements and this room drives. It names no Wasm and no HTTP:
//! a container is started, watched, asked how it is, and stopped.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::devices::DeviceWish;
use super::spec::{Gpus, GuestPort, Mount};
use crate::error::Result;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Starts containers.
pub trait Runtime: Send + Sync + 'static {
    /// Load, prove and publish a container: when this returns a task, its ports answer. An error leaves nothing behind;
    /// its message is what `docker run` shows.
    fn start(&self, start: Start) -> BoxFuture<'static, Result<Arc<dyn Task>>>;
}

/// Everything a start needs; nothing here is a default any more.
pub struct Start {
    pub id: String,
    /// The container's name, without Docker's leading slash.
    pub name: String,
    /// The image's files, unpacked. Read only.
    pub root: PathBuf,
    /// `ENTRYPOINT` and `CMD` joined. Empty for models only.
    pub argv: Vec<String>,
    /// `NAME` and value.
    pub environment: Vec<(String, String)>,
    pub working_dir: String,
    pub labels: std::collections::BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub ports: Vec<PortRequest>,
    pub memory: Option<u64>,
    pub nano_cpus: Option<u64>,
    pub gpus: Option<Gpus>,
    pub devices: DeviceWish,
    pub tty: bool,
    /// `None`: the container's stdin is empty.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// Where its output goes.
    pub output: Arc<dyn Output>,
    /// Whom it may call.
    pub peers: Arc<dyn Peers>,
}

/// A port to bind before the container counts as started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRequest {
    pub guest: GuestPort,
    /// Port 0 chooses a free one.
    pub host: SocketAddr,
}

/// A published port that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundPort {
    pub guest: GuestPort,
    pub host: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Takes a container's output, a line at a time, without its newline.
pub trait Output: Send + Sync {
    /// `false` when there is no room now. Never blocks.
    fn try_write(&self, stream: Stream, line: Bytes) -> bool;

    /// Resolves when there may be room again.
    fn ready(&self) -> BoxFuture<'_, ()>;
}

/// Whom a container reaches by which name. Asked at each call, so that a network joined later counts.
pub trait Peers: Send + Sync {
    fn reach(&self, host: &str, port: u16) -> Reach;

    /// What the container itself says a name stands for (`--add-host`); `None` leaves it to the resolver.
    fn addresses(&self, _host: &str) -> Option<Vec<IpAddr>> {
        None
    }

    /// Whether a name that [`Peers::reach`] called [`Reach::Outside`] may be followed to `address`: a permitted name must
    /// not lead to a forbidden place. The reason is for the container's log.
    fn permits(&self, host: &str, port: u16, address: IpAddr) -> Result<(), String>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Another container of a common network, by its current name; the call stays in memory.
    Container(String),
    /// An outside host that an allow-list or `--network host` permits; where its name leads is to be asked of
    /// [`Peers::permits`].
    Outside,
    /// Nobody; the reason is for the container's log.
    Denied(String),
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Docker's convention: 0, a job's own code, 134 for a trap, 137 killed, 143 stopped.
    pub code: i32,
    pub out_of_memory: bool,
    /// Why, where the code does not say it all; shown by `inspect`.
    pub error: String,
}

/// What a container has used since it was started, and uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of the guest and of its inference.
    pub cpu: Duration,
    /// Bytes in use now: live instances and what the host holds for them.
    pub memory: u64,
    /// Bytes; what one instance may use at most.
    pub memory_limit: u64,
    pub received: u64,
    pub sent: u64,
    /// Requests being answered now.
    pub in_flight: u64,
    /// Requests answered.
    pub requests: u64,
    /// Periods of 100 ms in which it asked for processor time under a limit.
    pub periods: u64,
    /// Those of them in which it was made to wait.
    pub throttled_periods: u64,
    pub throttled_time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answers HTTP.
    Service,
    /// Runs once and ends.
    Job,
    /// Models only.
    Model,
}

/// What a model was to run on, and what it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelDevice {
    pub model: String,
    /// E.g. `cuda:0`.
    pub device: String,
    /// How many of the graph's nodes each provider has, `None` being all of them, uncounted; empty where the session
    /// does not tell.
    pub nodes: BTreeMap<String, Option<u64>>,
    /// Devices that were preferred, each with why it is not used.
    pub fell_back: Vec<String>,
    /// How its TensorRT engine is doing: `building for 75 s`, `ready`, `failed: …`; `None` where it is to have none.
    pub engine: Option<String>,
}

/// A started container. Dropping it does not stop it.
pub trait Task: Send + Sync {
    fn kind(&self) -> Kind;

    fn ports(&self) -> Vec<BoundPort>;

    /// Names of its models, sorted.
    fn models(&self) -> Vec<String>;

    /// What each of its models runs on now, sorted by name.
    fn devices(&self) -> Vec<ModelDevice>;

    /// Resolves when it has ended, by itself or because it was stopped. May be awaited by many, and again.
    fn exited(&self) -> BoxFuture<'static, Exit>;

    /// Take no new requests, let open ones finish within `grace` (`None`: however long it takes), then cut them.
    /// [`Task::exited`] resolves with `code`. Called again while it runs, the shorter grace and the newer code win.
    fn stop(&self, grace: Option<Duration>, code: i32) -> BoxFuture<'static, ()>;

    /// New requests wait and guest code stands still until [`Task::unpause`].
    fn pause(&self);

    fn unpause(&self);

    /// The container is called `name` from now on.
    fn renamed(&self, name: &str);

    /// New limits for instances made from now on; `None` leaves one as it is.
    fn update(&self, memory: Option<u64>, nano_cpus: Option<u64>) -> Result<()>;

    fn usage(&self) -> Usage;

    /// One health check, given up after `timeout`.
    fn probe(&self, probe: Probe, timeout: Duration) -> BoxFuture<'static, ProbeResult>;

    /// Run something beside it: another component of the image, or the built-in inspection shell.
    fn exec(&self, exec: Exec) -> BoxFuture<'static, Exit>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `GET` of this path, in memory; 2xx and 3xx are healthy.
    Http(String),
    /// A component of the image; exit code 0 is healthy.
    Exec(Vec<String>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeResult {
    /// 0 is healthy, as in Docker.
    pub code: i32,
    pub output: String,
}

/// `docker exec`.
pub struct Exec {
    pub argv: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Empty: the container's own.
    pub working_dir: String,
    /// Bytes are written as a terminal wants them (`\r\n`), and input arrives a key at a time, unechoed.
    pub tty: bool,
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// Chunks, not lines.
    pub output: mpsc::Sender<(Stream, Bytes)>,
}
