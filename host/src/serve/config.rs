//! What to run, resolved: where to listen, what to start, within which limits.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::console::Printer;
use super::notify::Supervisor;
use super::telemetry::LogFormat;
pub use crate::container::devices::{DeviceList, DeviceWish, gpu_memory};
use crate::error::{Error, Result};
use crate::ingress::Limits;
use crate::model::library::Search;
use crate::runtime::Workload;

/// The first port tried for a service without `-p`: what the Flask services it replaces use.
pub const FIRST_PORT: u16 = 5000;

pub struct ServeConfig {
    pub workloads: Vec<Workload>,
    /// One for each service, in order; services beyond get a free port on `bind`.
    pub publish: Vec<Publish>,
    /// Where services without a `publish` of their own are published.
    pub bind: IpAddr,
    pub limits: Limits,
    /// The host's own port: Open Inference Protocol, metrics, dashboard.
    pub http: SocketAddr,
    /// `$WHARF_DATA`.
    pub data: PathBuf,
    /// What models run on where their container leaves it open.
    pub devices: DeviceWish,
    /// Below it lie the files that say which devices there are: `/`, except in tests.
    pub sysroot: PathBuf,
    /// Where to look for ONNX Runtime.
    pub search: Search,
    pub log_format: LogFormat,
    /// How long open requests may take to finish after a signal.
    pub stop_timeout: Duration,
    /// `None`: no images and no containers, only what is named here.
    pub control: Option<Control>,
    /// Whether terminals may be written to in colour.
    pub coloured: bool,
    /// Who is told when the host is ready and that it lives.
    pub supervisor: Option<Supervisor>,
    /// Done once everything answers; its end is the host's.
    pub when_ready: Option<WhenReady>,
}

/// What runs in the foreground of a host: images and compose files named on the command line. Told to stop, it stops
/// what it started before the host stops the rest.
pub type WhenReady = Box<dyn FnOnce(Foreground) -> Pin<Box<dyn Future<Output = Result<ExitCode>> + Send>> + Send>;

/// What a host lends to its foreground.
pub struct Foreground {
    /// True from the signal on that ends the host.
    pub stopping: watch::Receiver<bool>,
    /// Where containers' lines are shown.
    pub printer: Printer,
    /// Told once everything that was named answers: only then is the host ready.
    pub up: oneshot::Sender<()>,
}

/// The control plane.
#[derive(Clone, Debug)]
pub struct Control {
    /// The unix socket of the Docker Engine API.
    pub socket: PathBuf,
}

/// `[IP:]HOST[:GUEST]`, as in `docker run -p`. A component has no port of its own, so GUEST means nothing there; of an
/// image it is the port it exposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub address: SocketAddr,
    /// GUEST, where it was typed.
    pub guest: Option<u16>,
    typed: String,
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

impl std::str::FromStr for Publish {
    type Err = Error;

    fn from_str(typed: &str) -> Result<Publish> {
        let refuse = |what: &str| {
            Error::invalid(format!(
                "{typed:?} is no port mapping: {what}; write [IP:]HOST[:GUEST], e.g. 127.0.0.1:5000:5000"
            ))
        };
        let ports = typed.strip_suffix("/tcp").unwrap_or(typed);
        let (ip, ports) = match ports.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
            Some((ip, ports)) => (Some(ip), ports),
            None => match ports.split_once(':') {
                Some((ip, ports)) if ip.contains('.') => (Some(ip), ports),
                _ => (None, ports),
            },
        };
        let ip = match ip {
            Some(ip) => ip.parse().map_err(|_| refuse(&format!("{ip:?} is no IP address")))?,
            None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let (host, guest) = match ports.split_once(':') {
            Some((host, guest)) => (host, Some(guest)),
            None => (ports, None),
        };
        let port = |text: &str| text.parse::<u16>().map_err(|_| refuse(&format!("{text:?} is no port (0 to 65535)")));
        let host = port(host)?;
        let guest = guest.map(port).transpose()?;
        Ok(Publish { address: SocketAddr::new(ip, host), guest, typed: typed.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_mappings_as_docker_writes_them() {
        let address = |typed: &str| typed.parse::<Publish>().unwrap().address.to_string();
        assert_eq!(address("5000:5000"), "0.0.0.0:5000");
        assert_eq!(address("5001"), "0.0.0.0:5001");
        assert_eq!(address("127.0.0.1:5001:5000"), "127.0.0.1:5001");
        assert_eq!(address("127.0.0.1:0:5000/tcp"), "127.0.0.1:0");
        assert_eq!(address("[::1]:5001:5000"), "[::1]:5001");
        let guest = |typed: &str| typed.parse::<Publish>().unwrap().guest;
        assert_eq!((guest("5001"), guest("5001:5000")), (None, Some(5000)));
        for wrong in ["", "a:5000", "5000:b", "1.2.3:5000:5000", "70000", "5000:5000:5000:5000"] {
            let error = wrong.parse::<Publish>().unwrap_err().to_string();
            assert!(error.contains("is no port mapping"), "{wrong}: {error}");
        }
    }
}
