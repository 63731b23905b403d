//! `wharf health`: whether a host on this machine is ready, as an exit code. What a container's HEALTHCHECK runs, where
//! there is neither a shell nor curl. It knows of the host only the address of its own port.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{environment, values};
use crate::error::{Error, ErrorKind, Result};

/// Ready, as the Open Inference Protocol has it.
const READY: &str = "/v2/health/ready";

/// Ask a host whether it is ready: exit code 0 if it is, 1 if not
///
/// It asks the host's own port for /v2/health/ready, which answers once everything the host was
/// started for is loaded. Made for a Dockerfile's HEALTHCHECK and for systemd.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Health {
    /// The host's own port; 0.0.0.0 and [::], which `serve` listens on, mean this machine
    #[arg(long, value_name = "ADDRESS", env = environment::HTTP, default_value = environment::HTTP_DEFAULT)]
    http: SocketAddr,

    /// How long the answer may take
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "3s")]
    timeout: Duration,
}

impl Health {
    pub fn execute(self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::Io, "cannot start the runtime").because(error))?;
        let address = reachable(self.http);
        runtime.block_on(async {
            tokio::time::timeout(self.timeout, ask(address)).await.unwrap_or_else(|_| {
                let message = format!("the host at {address} did not answer within {:?}", self.timeout);
                Err(Error::new(ErrorKind::DeadlineExceeded, message))
            })
        })?;
        // Docker keeps this line in the container's health log; a closed stdout changes nothing.
        let _ = writeln!(io::stdout(), "ready");
        Ok(ExitCode::SUCCESS)
    }
}

async fn ask(address: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect(address).await.map_err(|error| {
        let message = format!("no host answers at {address}: is `wharf serve` running, and is --http the same?");
        Error::new(ErrorKind::Unavailable, message).because(error)
    })?;
    let broken = |error: hyper::Error| {
        Error::new(ErrorKind::Unavailable, format!("what answers at {address} is no host")).because(error)
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    let request = Request::get(READY)
        .header(header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| Error::new(ErrorKind::Failed, "cannot write the request").because(error))?;
    let status = sender.send_request(request).await.map_err(broken)?.status();
    match status.is_success() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Unavailable, format!("the host at {address} is not ready: {status}"))),
    }
}

/// Every address of this machine is no address to connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serve_listens_on_is_asked_on_loopback() {
        let asked = |typed: &str| reachable(typed.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:8000"), "127.0.0.1:8000");
        assert_eq!(asked("[::]:8000"), "[::1]:8000");
        assert_eq!(asked("192.0.2.1:80"), "192.0.2.1:80");
    }
}
