//! `attach`: a client's terminal and a container, before or while it runs.

use axum::response::Response;

use crate::container::AttachQuery;
use crate::control::call::Call;
use crate::control::hijack::{self, Pipe};
use crate::control::stream::Wire;
use crate::error::Result;

pub async fn attach(call: Call, id: &str) -> Result<Response> {
    let flag = |key| call.query.flag(key);
    let query = AttachQuery {
        logs: flag("logs"),
        stream: flag("stream"),
        stdin: flag("stdin"),
        stdout: flag("stdout"),
        stderr: flag("stderr"),
    };
    let container = call.control.containers.find(id)?;
    let attached = call.control.containers.attach(&container.id, query).await?;
    let pipe = Pipe { output: attached.output, input: attached.stdin, end: None };
    Ok(hijack::answer(call, Wire::of(container.spec.tty), pipe))
}
