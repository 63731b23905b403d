//! A call to a host outside of Wharf that the caller's network allows: resolve, check where the name leads, connect, one
//! HTTP/1.1 exchange. Connections are not kept: what may be called is few and far between.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::HOST;
use http::{HeaderValue, Request, Uri, Version};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wharf_sandbox::egress::{Exchange, OutgoingError, Timeouts};

use crate::container::runtime::Peers;
use crate::service::Body;

/// When the guest names no time to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// The client for outside hosts. Cheap to clone.
#[derive(Clone, Default)]
pub struct Outside {
    /// Made at the first `https` call: reading the system's certificates takes a while.
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Outside {
    /// `peers` says to which addresses the host's name may lead.
    pub fn send(&self, request: Request<Body>, timeouts: Timeouts, peers: Arc<dyn Peers>) -> Exchange {
        let outside = self.clone();
        Box::pin(async move {
            let connect = timeouts.connect.unwrap_or(CONNECT);
            let uri = request.uri().clone();
            let exchange = async {
                let stream = tokio::time::timeout(connect, outside.connect(&uri, &*peers));
                match stream.await.map_err(|_| OutgoingError::Timeout)?? {
                    Stream::Plain(stream) => exchange(stream, request).await,
                    Stream::Secure(stream) => exchange(*stream, request).await,
                }
            };
            match timeouts.deadline {
                Some(deadline) => {
                    tokio::time::timeout_at(deadline.into(), exchange).await.unwrap_or(Err(OutgoingError::Timeout))
                }
                None => exchange.await,
            }
        })
    }

    async fn connect(&self, uri: &Uri, peers: &dyn Peers) -> Result<Stream, OutgoingError> {
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = dial(host, port, peers).await?;
        // Head and body may leave in two writes.
        let _ = stream.set_nodelay(true);
        if !secure {
            return Ok(Stream::Plain(stream));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|error| OutgoingError::Failed(error.to_string()))?;
        let connector = TlsConnector::from(self.tls.get_or_init(client_config).clone());
        let stream = connector.connect(name, stream).await;
        stream.map(|stream| Stream::Secure(Box::new(stream))).map_err(|error| OutgoingError::Failed(error.to_string()))
    }
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

fn client_config() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    // Without certificates every https call fails with a clear reason of its own.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// The first address of `host` that is permitted and answers.
async fn dial(host: &str, port: u16, peers: &dyn Peers) -> Result<TcpStream, OutgoingError> {
    let found: Vec<SocketAddr> = match peers.addresses(host) {
        Some(own) => own.into_iter().map(|address| SocketAddr::new(address, port)).collect(),
        None => tokio::net::lookup_host((host, port)).await.map_err(|_| OutgoingError::NoSuchHost)?.collect(),
    };
    let mut outcome = OutgoingError::NoSuchHost;
    for address in found {
        // A name can be made to lead anywhere: what counts is where it leads now.
        if let Err(reason) = peers.permits(host, port, address.ip()) {
            tracing::info!(host, port, %reason, "an outgoing request is denied");
            outcome = OutgoingError::Denied;
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(_) => outcome = OutgoingError::Refused,
        }
    }
    Err(outcome)
}

async fn exchange<S>(stream: S, request: Request<Body>) -> Result<http::Response<Body>, OutgoingError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| OutgoingError::Failed(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends with its one exchange: when the response's body is read or dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an outside host ended early");
        }
    });
    let response = sender.send_request(origin_form(request)).await.map_err(failed)?;
    Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
}

/// A request as an origin server wants it: the path alone, the host in its header.
fn origin_form(mut request: Request<Body>) -> Request<Body> {
    if let Some(authority) = request.uri().authority().cloned()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
    *request.version_mut() = Version::HTTP_11;
    request
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::container::runtime::Reach;

    #[test]
    fn requests_are_put_into_origin_form() {
        let body = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::get("http://api.example.org:8080/v1?x=1").body(body).unwrap();
        let request = origin_form(request);
        assert_eq!(request.uri(), "/v1?x=1");
        assert_eq!(request.headers()[HOST], "api.example.org:8080");
    }

    /// Permits what is not loopback.
    struct NotHere;

    impl Peers for NotHere {
        fn reach(&self, _host: &str, _port: u16) -> Reach {
            Reach::Outside
        }

        fn addresses(&self, host: &str) -> Option<Vec<IpAddr>> {
            host.starts_with("added").then(|| vec![IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)])
        }

        fn permits(&self, host: &str, _port: u16, address: IpAddr) -> Result<(), String> {
            if address.is_loopback() && !["127.0.0.1", "added"].contains(&host) {
                Err("it leads here".to_owned())
            } else {
                Ok(())
            }
        }
    }

    #[tokio::test]
    async fn an_added_name_leads_where_it_was_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(dial("added", port, &NotHere).await.is_ok());
        assert!(matches!(dial("added.and.forbidden", port, &NotHere).await, Err(OutgoingError::Denied)));
    }

    #[tokio::test]
    async fn a_name_leads_only_where_it_may() {
        assert!(matches!(dial("localhost", 1, &NotHere).await, Err(OutgoingError::Denied)));
        assert!(matches!(dial("127.0.0.1", 1, &NotHere).await, Err(OutgoingError::Refused)));
    }
}
