//! Outgoing HTTP: nothing leaves the sandbox unless the container's network says so.

use http::Request;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

/// Refuses every outgoing request. Networks that allow some come with the container's network.
#[derive(Debug, Default)]
pub(crate) struct DenyAll;

type Response = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for DenyAll {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Response, Error>> + Send> {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        tracing::debug!(host, "outgoing request denied: the container has no network that allows it");
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}
