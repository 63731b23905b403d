//! What `#[service]` expands to calls: one request from the host through the router and back.

use std::cell::OnceCell;

use http::Method;

use crate::bindings::exports::wasi::http::incoming_handler;
use crate::bindings::wasi::http::types::{
    self, Fields, HeaderError, IncomingRequest, OutgoingResponse, ResponseOutparam,
};
use crate::body::{self, Body};
use crate::response::Content;
use crate::{Error, IntoResponse, Request, Response, Router, logging};

pub use incoming_handler::Guest;

thread_local! {
    // An instance may serve many requests, one after the other: routes are made once.
    static ROUTER: OnceCell<Router> = const { OnceCell::new() };
}

/// Answer one request with the service's router.
pub fn serve(app: fn() -> Router, request: IncomingRequest, out: ResponseOutparam) {
    ROUTER.with(|router| {
        let router = router.get_or_init(|| {
            logging::install();
            app()
        });
        let path = request.path_with_query().unwrap_or_default();
        match method(request.method()) {
            Ok(method) => {
                let is_head = method == Method::HEAD;
                let response = router.call(Request::with_source(method, &path, Body::Host(request)));
                send(response, is_head, out);
            }
            Err(error) => send(error.into_response(), false, out),
        }
    });
}

fn method(method: types::Method) -> Result<Method, Error> {
    Ok(match method {
        types::Method::Get => Method::GET,
        types::Method::Head => Method::HEAD,
        types::Method::Post => Method::POST,
        types::Method::Put => Method::PUT,
        types::Method::Delete => Method::DELETE,
        types::Method::Connect => Method::CONNECT,
        types::Method::Options => Method::OPTIONS,
        types::Method::Trace => Method::TRACE,
        types::Method::Patch => Method::PATCH,
        types::Method::Other(name) => {
            Method::from_bytes(name.as_bytes()).map_err(|_| Error::bad_request(format!("`{name}` is no method")))?
        }
    })
}

fn send(response: Response, is_head: bool, out: ResponseOutparam) {
    let (status, headers, content) = response.into_parts();
    let (status, headers, content) = match fields(&headers, &content, is_head) {
        Ok(fields) => (status.as_u16(), fields, content),
        Err(error) => {
            log::error!("the answer's header fields are refused ({error}): {headers:?}");
            (500, Fields::new(), Content::Bytes(b"".into()))
        }
    };
    let response = OutgoingResponse::new(headers);
    // Every `StatusCode` is in the range the host takes.
    let _ = response.set_status_code(status);
    let Ok(body) = response.body() else { return };
    // The head goes first: the host has room for little of a body that nobody reads yet.
    ResponseOutparam::set(out, Ok(response));
    match content {
        _ if is_head => {
            let _ = body::send(body, |_| Ok::<(), ()>(()));
        }
        // A failure is a caller who left; there is nobody to tell.
        Content::Bytes(bytes) => {
            let _ = body::send(body, |stream| body::write_all(stream, &bytes));
        }
        Content::Picture(picture) => {
            if let Err(error) = body::send(body, |stream| picture.write_to(stream)) {
                log::warn!("the picture was not sent whole: {error}");
            }
        }
    }
}

fn fields(headers: &[(String, String)], content: &Content, is_head: bool) -> Result<Fields, HeaderError> {
    let mut entries: Vec<(&str, &[u8])> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let length;
    if let (Content::Bytes(bytes), false) = (content, is_head) {
        length = bytes.len().to_string();
        entries.push(("content-length", length.as_bytes()));
    }
    Fields::from_list(&entries)
}
