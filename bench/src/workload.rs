//! The requests that are compared: which route, which body, which servers, and what is to be reached.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use serde::Serialize;

use crate::contender::Contender;
use crate::http;
use crate::server::Server;
use crate::stage::Stage;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// GET, 18 bytes of text: everything but the work.
    Hello,
    /// The guest makes a 602,112-byte tensor for a model that costs nothing: the boundary.
    Tensor,
    /// JPEG 640x480 to the five best of 1,000 classes: the main job.
    Classify,
    /// A small JPEG to a digit: the main job with a model of 70 KB.
    Digits,
}

/// What a contender must reach, as fractions and differences of the better native setting.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Target {
    /// Least requests per second, closed loop, at every number of connections.
    pub ratio: f64,
    /// Most that the median latency at one connection may be above the native one, milliseconds.
    pub p50_above_ms: Option<f64>,
}

impl Workload {
    pub fn contenders(self) -> &'static [Contender] {
        use Contender::{NativeOne, NativePerCore, Wharf, WharfReused};
        match self {
            // No model, so the native settings are the same server.
            Workload::Hello => &[NativePerCore, Wharf, WharfReused],
            Workload::Tensor => &[NativeOne, NativePerCore, Wharf, WharfReused],
            Workload::Classify | Workload::Digits => &[NativeOne, NativePerCore, Wharf],
        }
    }

    pub fn target(self, contender: Contender) -> Option<Target> {
        let ratio = |ratio| Some(Target { ratio, p50_above_ms: None });
        match (self, contender) {
            (Workload::Hello, Contender::Wharf) => ratio(0.22),
            (Workload::Hello, Contender::WharfReused) => ratio(0.40),
            (Workload::Tensor, Contender::WharfReused) => ratio(0.65),
            (Workload::Classify, Contender::Wharf) => Some(Target { ratio: 0.95, p50_above_ms: Some(0.3) }),
            _ => None,
        }
    }

    pub fn request(self, contender: Contender, stage: &Stage) -> Result<Bytes> {
        Ok(match self {
            Workload::Hello => http::request("GET", if contender.is_native() { "/hello" } else { "/" }, "", b""),
            Workload::Tensor => http::request("POST", "/tensor", "application/octet-stream", b""),
            Workload::Classify => http::request("POST", "/classify", "image/jpeg", &stage.photo()?),
            Workload::Digits => http::request("POST", "/predict", "image/jpeg", &stage.digit()?),
        })
    }

    pub fn address(self, contender: Contender, server: &Server) -> Result<SocketAddr> {
        server.address(match (contender.is_native(), self) {
            (true, _) => "native",
            (false, Workload::Digits) => "digits",
            (false, _) => "hello",
        })
    }
}
