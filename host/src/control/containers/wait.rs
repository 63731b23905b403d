//! `wait`: the headers leave at once, since `docker run` starts the container only when it has them; the exit code
//! follows whenever it comes.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::once;
use serde_json::json;

use crate::container::WaitCondition;
use crate::container::runtime::Exit;
use crate::control::call::Call;
use crate::control::stream;
use crate::error::{Error, Result};

pub async fn wait(call: Call, id: &str) -> Result<Response> {
    let condition = match call.query.text("condition") {
        None | Some("not-running") => WaitCondition::NotRunning,
        Some("next-exit") => WaitCondition::NextExit,
        Some("removed") => WaitCondition::Removed,
        Some(other) => return Err(Error::invalid(format!("invalid condition: \"{other}\""))),
    };
    // Registered when this returns, so that no exit is missed however soon it comes.
    let exit = call.control.containers.wait(id, condition).await?;
    call.never_ends();
    let answer = once(async move { Ok::<_, Infallible>(answer(&exit.await)) });
    Ok(stream::response(stream::JSON, Body::from_stream(answer)))
}

/// No `Error`: with one, `docker run` would exit 125 whatever the code.
fn answer(exit: &Exit) -> Bytes {
    format!("{}\n", json!({"StatusCode": exit.code})).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_all_it_says() {
        let exit = Exit { code: 137, out_of_memory: true, error: "killed".into() };
        assert_eq!(answer(&exit), "{\"StatusCode\":137}\n");
    }
}
