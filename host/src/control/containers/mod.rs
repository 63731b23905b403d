//! The routes under `/containers` and `/exec`, a file per group of verbs.

pub mod archive;
mod attach;
pub mod create;
pub mod exec;
mod inspect;
pub mod list;
mod logs;
pub mod prune;
mod shapes;
mod stats;
mod update;
mod verbs;
mod wait;

use axum::response::Response;
use http::Method;

use super::call::{Call, not_offered};
use super::router::unknown;
use crate::error::Result;

pub async fn route(call: Call, method: &Method, path: &[&str]) -> Result<Response> {
    match (method.as_str(), path) {
        ("GET", ["json"]) => list::list(call).await,
        ("POST", ["create"]) => create::create(call).await,
        ("POST", ["prune"]) => prune::prune(call).await,
        ("GET", [id, "json"]) => inspect::inspect(call, id).await,
        ("GET", [id, "top"]) => verbs::top(call, id).await,
        ("GET", [id, "logs"]) => logs::logs(call, id).await,
        ("GET", [id, "stats"]) => stats::stats(call, id).await,
        ("GET", [id, "changes"]) => archive::changes(call, id).await,
        ("GET" | "HEAD" | "PUT", [id, "archive"]) => archive::archive(call, method, id).await,
        ("GET", [id, "export"]) => archive::export(call, id).await,
        ("GET", [_, "attach", "ws"]) => not_offered("attach over a web socket is not offered: use POST attach"),
        ("DELETE", [id]) => verbs::remove(call, id).await,
        ("POST", [id, verb]) => post(call, id, verb).await,
        _ => Err(unknown()),
    }
}

async fn post(call: Call, id: &str, verb: &str) -> Result<Response> {
    match verb {
        "start" => verbs::start(call, id).await,
        "stop" => verbs::stop(call, id).await,
        "restart" => verbs::restart(call, id).await,
        "kill" => verbs::kill(call, id).await,
        "pause" => verbs::pause(call, id).await,
        "unpause" => verbs::unpause(call, id).await,
        "rename" => verbs::rename(call, id).await,
        "resize" => verbs::resize(&call, id),
        "update" => update::update(call, id).await,
        "wait" => wait::wait(call, id).await,
        "attach" => attach::attach(call, id).await,
        "exec" => exec::create(call, id).await,
        _ => Err(unknown()),
    }
}
