//! The control socket: bound for its owner and group only, served until the host drains.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::call::Link;
use super::{Control, router};
use crate::error::{Error, ErrorKind, Result};

/// After an error of `accept` (out of file descriptors), wait before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whoever may write to the socket rules the host, as with Docker's.
const MODE: u32 = 0o660;

/// Bind `path`. A socket nobody listens on any more is replaced, a live one refused.
pub fn bind(path: &Path) -> Result<UnixListener> {
    let cannot = |what: &str, error: io::Error| {
        Error::new(ErrorKind::Io, format!("cannot {what} the control socket {}", path.display())).because(error)
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| cannot("make the folder of", error))?;
    }
    clear(path)?;
    let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::invalid(format!(
            "the control socket's path {} is too long: about 100 bytes are possible; choose a shorter one",
            path.display()
        )),
        _ => cannot("bind", error),
    })?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(|error| cannot("set the mode of", error))?;
    Ok(listener)
}

/// Make way for a new socket, unless somebody answers there.
fn clear(path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("{} exists and is no socket: remove it, or choose another path for the socket", path.display()),
        ));
    }
    if BlockingStream::connect(path).is_ok() {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("another host already serves {}: stop it, or choose another path for the socket", path.display()),
        ));
    }
    fs::remove_file(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("cannot remove the stale socket {}", path.display())).because(error)
    })
}

/// Accept and serve until `drain` turns true; then finish what is under way, cut what has no end, and return.
pub async fn serve(listener: UnixListener, control: Control, drain: watch::Receiver<bool>) {
    let link = Link::new(drain.clone());
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        tokio::select! {
            biased;
            () = link.drained() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    open.spawn(connection(stream, control.clone(), Link::new(drain.clone())));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections on the control socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn connection(stream: UnixStream, control: Control, link: Link) {
    let service = {
        let link = link.clone();
        service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (control, link) = (control.clone(), link.clone());
            async move { Ok::<_, Infallible>(router::answer(control, link, request.map(Body::new)).await) }
        })
    };
    let mut connection =
        http1::Builder::new().title_case_headers(true).serve_connection(TokioIo::new(stream), service).with_upgrades();
    let result = tokio::select! {
        biased;
        result = &mut connection => result,
        () = link.drained() => {
            if link.is_endless() {
                return;
            }
            Pin::new(&mut connection).graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Clients that leave are daily business.
        tracing::debug!(%error, "control connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("wharf-socket-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_refused() {
        let folder = folder("stale");
        let path = folder.join("wharf.sock");
        let live = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let error = bind(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("another host already serves"));
        drop(live);
        bind(&path).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn a_file_is_not_overwritten() {
        let folder = folder("file");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("notes.txt");
        fs::write(&path, "mine").unwrap();
        assert!(bind(&path).unwrap_err().to_string().contains("is no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        fs::remove_dir_all(&folder).unwrap();
    }
}
