//! What an instance can see of the world around it: the request, the clock, the environment, other hosts.

use std::cell::Cell;

use fixture::bindings::wasi::cli::environment::get_environment;
use fixture::bindings::wasi::clocks::monotonic_clock;
use fixture::bindings::wasi::http::outgoing_handler;
use fixture::bindings::wasi::http::types::{ErrorCode, Fields, OutgoingRequest, Scheme};
use fixture::{Object, Reply, Request, drain};

const NANOSECONDS: u64 = 1_000_000;

thread_local! {
    /// Lives as long as the instance.
    static REQUESTS: Cell<u64> = const { Cell::new(0) };
}

pub fn read_all(request: &Request) -> Reply {
    Reply::outcome(request.drain().map_err(Object::from), |ok, length| ok.number("length", length))
}

/// The request's headers, one `name: value` each.
pub fn echo_headers(request: &Request) -> Reply {
    let lines: Vec<_> =
        request.headers().iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
    Reply::json(Object::ok().texts("headers", lines.iter().map(String::as_str)).finish())
}

/// Answers with the status `?code=`.
pub fn status(request: &Request) -> Reply {
    let code = u16::try_from(request.number("code", 200)).unwrap_or(500);
    // 204 and 304 are defined to have no body.
    let body = if matches!(code, 204 | 304) { String::new() } else { format!("status {code}") };
    Reply::text(code, body)
}

/// Waits `?ms=` milliseconds in the host, as a guest that waits for something else does.
pub fn sleep(request: &Request) -> Reply {
    let milliseconds = request.number("ms", 0);
    let before = monotonic_clock::now();
    monotonic_clock::subscribe_duration(milliseconds.saturating_mul(NANOSECONDS)).block();
    let slept = monotonic_clock::now().saturating_sub(before) / NANOSECONDS;
    Reply::json(Object::ok().number("milliseconds", slept).finish())
}

/// Asks `?authority=` (default: a port nobody listens on) for `?path=` and answers its status
/// and how much it read.
pub fn egress(request: &Request) -> Reply {
    let authority = request.query("authority").unwrap_or_else(|| "127.0.0.1:1".to_owned());
    let path = request.query("path").unwrap_or_else(|| "/".to_owned());
    Reply::outcome(fetch(&authority, &path).map_err(Object::from), |ok, (status, length)| {
        ok.number("status", status.into()).number("length", length)
    })
}

/// The status, and the length of the body.
fn fetch(authority: &str, path: &str) -> Result<(u16, u64), ErrorCode> {
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    let response = outgoing_handler::handle(request, None)?;
    response.subscribe().block();
    let internal = |text: &str| ErrorCode::InternalError(Some(text.to_owned()));
    let result = response.get().ok_or_else(|| internal("ready, but without a result"))?;
    let response = result.map_err(|()| internal("the result was taken already"))??;
    let body = response.consume().map_err(|()| internal("the body was taken already"))?;
    let stream = body.stream().map_err(|()| internal("the body's stream was taken already"))?;
    Ok((response.status(), drain(&stream)?))
}

/// The environment variable `?name=`; `value` is missing where the variable is.
pub fn env(request: &Request) -> Reply {
    let name = request.query("name").unwrap_or_default();
    let value = get_environment().into_iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    Reply::json(value.iter().fold(Object::ok(), |object, value| object.text("value", value)).finish())
}

/// 1 in a fresh instance, more in one that served before.
pub fn counter() -> Reply {
    let count = REQUESTS.get() + 1;
    REQUESTS.set(count);
    Reply::json(Object::ok().number("count", count).finish())
}
