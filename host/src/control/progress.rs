//! Long work told as it goes: builds, pulls, pushes and loads answer with JSON lines.
//!
//! Nothing is sent before the first line, so that work that fails at once has a status of its own; afterwards an error
//! can only be the last line.

use std::future::Future;

use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::stream;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Progress;
use crate::image::build::ToolFailed;

/// Lines a client may be behind.
const BACKLOG: usize = 1024;

/// Where work says how far it is.
#[derive(Clone)]
pub struct Reporter {
    lines: mpsc::Sender<Bytes>,
}

impl Reporter {
    /// For work on a thread of its own: waits for slow clients. A client that left is not waited for.
    pub fn tell(&self, progress: Progress) {
        let line = stream::line(&to_json(progress));
        // A build waits on its thread for a base image, and hears of the pull within the runtime, where plain blocking
        // panics.
        let _ = tokio::task::block_in_place(|| self.lines.blocking_send(line));
    }

    /// For asynchronous work: a client that reads too slowly misses some lines.
    pub fn try_tell(&self, progress: Progress) {
        let _ = self.lines.try_send(stream::line(&to_json(progress)));
    }
}

/// Run `work`, which lasts no longer than its client listens, and answer with its lines.
pub async fn answer<F>(work: impl FnOnce(Reporter) -> F) -> Result<Response>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (lines, mut told) = mpsc::channel(BACKLOG);
    let work = work(Reporter { lines });
    let (outcomes, mut outcome) = mpsc::channel(1);
    let mut running = JoinSet::new();
    running.spawn(async move {
        let _ = outcomes.send(work.await).await;
    });
    let Some(first) = told.recv().await else {
        // It ended without a word.
        ended(outcome.recv().await)?;
        return Ok(stream::response(stream::JSON, axum::body::Body::empty()));
    };
    let (pieces, body) = mpsc::channel(1);
    tokio::spawn(async move {
        // Dropped with this task, which stops the work.
        let _running = running;
        let mut next = Some(first);
        while let Some(line) = next {
            if pieces.send(line).await.is_err() {
                return;
            }
            next = tokio::select! {
                line = told.recv() => line,
                () = pieces.closed() => return,
            };
        }
        if let Err(error) = ended(outcome.recv().await) {
            let _ = pieces.send(stream::line(&failure(&error))).await;
        }
    });
    Ok(stream::response(stream::JSON, stream::body(body)))
}

fn ended(outcome: Option<Result<()>>) -> Result<()> {
    outcome.unwrap_or_else(|| Err(Error::new(ErrorKind::Failed, "the work was aborted; the host's log says why")))
}

#[derive(Serialize)]
struct Failure {
    #[serde(rename = "errorDetail")]
    detail: Detail,
    error: String,
}

/// `code` is what `docker build` exits with.
#[derive(Serialize)]
struct Detail {
    code: i32,
    message: String,
}

fn failure(error: &Error) -> Failure {
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let code = causes.find_map(|cause| cause.downcast_ref::<ToolFailed>()).map_or(1, |failed| failed.code);
    let message = error.chain();
    Failure { detail: Detail { code, message: message.clone() }, error: message }
}

fn to_json(progress: Progress) -> Value {
    match progress {
        Progress::Stream(text) => json!({"stream": text}),
        Progress::Aux(value) => json!({"aux": value}),
        Progress::Status { id, status, current, total } => {
            let mut line = json!({"status": status});
            if let Some(id) = id {
                line["id"] = id.into();
            }
            match (current, total) {
                (Some(current), Some(total)) => {
                    line["progressDetail"] = json!({"current": current, "total": total});
                    line["progress"] = bar(current, total).into();
                }
                (Some(current), None) => line["progressDetail"] = json!({"current": current}),
                (None, _) if line.get("id").is_some() => line["progressDetail"] = json!({}),
                (None, _) => {}
            }
            line
        }
    }
}

/// `[=====>     ]  1.2MB/3.4MB`, for clients that draw no bar themselves.
fn bar(current: u64, total: u64) -> String {
    const WIDTH: u64 = 50;
    let total = total.max(1);
    let current = current.min(total);
    let done = usize::try_from(u128::from(current) * u128::from(WIDTH) / u128::from(total)).unwrap_or_default();
    let head = if done < WIDTH as usize { format!("{}>", "=".repeat(done)) } else { "=".repeat(done) };
    format!("[{head:<50}]  {}/{}", size(current), size(total))
}

/// Docker's units: thousands, up to four digits.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value >= 100.0 || unit == 0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn body(response: Response) -> String {
        String::from_utf8(to_bytes(response.into_body(), 10_000).await.unwrap().to_vec()).unwrap()
    }

    fn status(id: Option<&str>, status: &str, current: Option<u64>, total: Option<u64>) -> Value {
        to_json(Progress::Status { id: id.map(Into::into), status: status.into(), current, total })
    }

    #[test]
    fn lines_are_dockers() {
        assert_eq!(to_json(Progress::Stream("Step\n".into())), json!({"stream": "Step\n"}));
        assert_eq!(to_json(Progress::Aux(json!({"ID": "x"}))), json!({"aux": {"ID": "x"}}));
        assert_eq!(status(None, "Digest: x", None, None), json!({"status": "Digest: x"}));
        let waiting = status(Some("ab"), "Pulling fs layer", None, None);
        assert_eq!(waiting, json!({"status": "Pulling fs layer", "id": "ab", "progressDetail": {}}));
        let loading = status(Some("ab"), "Downloading", Some(1_500_000), Some(3_000_000));
        assert_eq!(loading["progressDetail"], json!({"current": 1_500_000, "total": 3_000_000}));
        let bar = "[=========================>                        ]  1.50MB/3.00MB";
        assert_eq!(loading["progress"], bar);
    }

    #[test]
    fn a_full_bar_has_no_head() {
        assert_eq!(bar(300, 300), format!("[{}]  300B/300B", "=".repeat(50)));
        assert!(bar(5, 0).ends_with("1B/1B"));
    }

    #[tokio::test]
    async fn work_that_fails_at_once_has_a_status() {
        let work = |_| async { Err(Error::invalid("dockerfile parse error")) };
        assert_eq!(answer(work).await.unwrap_err().to_string(), "dockerfile parse error");
    }

    #[tokio::test]
    async fn a_late_error_is_the_last_line() {
        let response = answer(|reporter: Reporter| async move {
            reporter.try_tell(Progress::Stream("Step 1".into()));
            Err(Error::invalid("no"))
        });
        let text = body(response.await.unwrap()).await;
        assert_eq!(
            text,
            "{\"stream\":\"Step 1\"}\r\n{\"errorDetail\":{\"code\":1,\"message\":\"no\"},\"error\":\"no\"}\r\n"
        );
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_the_work() {
        let (alive, mut ended) = mpsc::channel::<()>(1);
        let response = answer(|reporter: Reporter| async move {
            let _alive = alive;
            reporter.try_tell(Progress::Stream("Step 1".into()));
            std::future::pending().await
        });
        drop(response.await.unwrap());
        assert!(ended.recv().await.is_none());
    }
}
