//! Every environment variable the host reads, with its meaning. Read here and nowhere else.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Where images, containers and caches live.
pub const DATA: &str = "WHARF_DATA";
/// Path of ONNX Runtime's shared library.
pub const ONNXRUNTIME: &str = "ORT_DYLIB_PATH";
/// The daemon's socket, `unix:///path/wharf.sock`.
pub const HOST: &str = "WHARF_HOST";
/// Docker's variable for the same, where it names a unix socket.
pub const DOCKER_HOST: &str = "DOCKER_HOST";
/// Compose files, divided by `:`, where none is named with `-f`.
pub const COMPOSE_FILE: &str = "COMPOSE_FILE";
/// Name of the compose project, where none is given with `-p`.
pub const COMPOSE_PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";
/// Profiles of the compose project, divided by commas; those of `--profile` come on top.
pub const COMPOSE_PROFILES: &str = "COMPOSE_PROFILES";
/// The folder below which the files are read that say which devices this machine has, NVIDIA's driver among them: for
/// tests, and for images of machines that are elsewhere.
pub const SYSROOT: &str = "WHARF_SYSROOT";
/// Address of the host's own port, which `serve` listens on and `health` asks.
pub const HTTP: &str = "WHARF_HTTP";
/// Address on which services without a `-p` are published.
pub const BIND: &str = "WHARF_BIND";
/// Filter of the host's log, e.g. `debug` or `wharf=debug`.
pub const LOG: &str = "WHARF_LOG";
/// Where the host's log goes: `stdout` or `stderr`.
pub const LOG_TO: &str = "WHARF_LOG_TO";
/// Where a service manager such as systemd wants to hear of the host: `sd_notify(3)`.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// How long it lets the host be silent, in microseconds, and which process it means: `sd_watchdog_enabled(3)`.
pub const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
pub const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Set to anything: no colours.
pub const NO_COLOR: &str = "NO_COLOR";
/// The kind of terminal; `dumb` knows no colours.
pub const TERM: &str = "TERM";

/// Where the host's own port is unless told otherwise.
pub const HTTP_DEFAULT: &str = "127.0.0.1:8000";

/// The socket of the daemon, in the data folder.
pub const SOCKET: &str = "wharf.sock";

/// Against the database of its use that ONNX Runtime keeps in the user's cache folder, whatever its API is told.
const ORT_DISABLE_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

/// For the library that is loaded later. To be called before there is a second thread.
#[expect(unsafe_code, reason = "a library reads it with getenv, so it must be set for real")]
pub fn keep_onnxruntime_quiet() {
    // SAFETY: the program has just begun: no other thread reads or writes the environment.
    unsafe { env::set_var(ORT_DISABLE_TELEMETRY, "1") };
}

/// The data folder of root, and of the service that packages install.
const SERVICE: &str = "/var/lib/wharf";

/// `$WHARF_DATA`, else `/var/lib/wharf` for root, else `$XDG_DATA_HOME/wharf` (`~/.local/share/wharf`).
pub fn data() -> PathBuf {
    if let Some(data) = path(DATA) {
        return data;
    }
    if is_root() {
        return PathBuf::from(SERVICE);
    }
    let home = path("HOME").unwrap_or_else(env::temp_dir);
    path("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")).join("wharf")
}

/// The socket where none is named: in the data folder; else the service's, which shows to those in its group only.
pub fn socket() -> PathBuf {
    let (own, service) = (data().join(SOCKET), PathBuf::from(SERVICE).join(SOCKET));
    if path(DATA).is_none() && !own.exists() && service.exists() { service } else { own }
}

/// The daemon to talk to: `$WHARF_HOST`, else `$DOCKER_HOST` if that is a unix socket.
pub fn host() -> Option<String> {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    set(HOST).or_else(|| set(DOCKER_HOST).filter(|host| host.starts_with("unix://")))
}

/// Where docker keeps what it logged in with, which `wharf login` shares.
pub fn docker_config() -> PathBuf {
    let folder = path("DOCKER_CONFIG").unwrap_or_else(|| path("HOME").unwrap_or_else(env::temp_dir).join(".docker"));
    folder.join("config.json")
}

pub fn onnxruntime() -> Option<PathBuf> {
    path(ONNXRUNTIME)
}

/// `$WHARF_SYSROOT`, else `/`.
pub fn sysroot() -> PathBuf {
    path(SYSROOT).unwrap_or_else(|| PathBuf::from("/"))
}

pub fn notify_socket() -> Option<OsString> {
    env::var_os(NOTIFY_SOCKET).filter(|value| !value.is_empty())
}

/// `None` too where another process is meant: these variables are inherited.
pub fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let meant = env::var_os(WATCHDOG_PID).is_none() || number(WATCHDOG_PID) == Some(u64::from(std::process::id()));
    number(WATCHDOG_USEC).filter(|microseconds| meant && *microseconds > 0).map(Duration::from_micros)
}

pub fn executable() -> Option<PathBuf> {
    env::current_exe().ok()
}

/// Whether a terminal may be written to in colour.
pub fn wants_colour() -> bool {
    path(NO_COLOR).is_none() && env::var_os(TERM).is_some_and(|kind| kind != "dumb")
}

/// The value of a variable named in `-e NAME`.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// An empty variable counts as not set.
fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
