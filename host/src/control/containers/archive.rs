//! `docker cp`, `docker export` and `docker diff`: a container's files as an archive, and archives into them.

use std::io::{self, Read};

use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Serialize;

use crate::container::Containers;
use crate::container::files::{Change, Clash, Files, PathKind, PathStat};
use crate::control::archives::{reader, written};
use crate::control::call::{Call, blocking, empty, ok};
use crate::control::times;
use crate::error::{Error, Result};

/// Bytes of a refused archive that are read all the same.
const REFUSED: u64 = 64 << 20;

const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");
const TAR: HeaderValue = HeaderValue::from_static("application/x-tar");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What the CLI decides by where a copy goes.
#[derive(Serialize)]
struct StatHeader<'a> {
    name: &'a str,
    size: u64,
    /// Go's `FileMode`.
    mode: u32,
    mtime: String,
    #[serde(rename = "linkTarget")]
    link_target: &'a str,
}

pub async fn archive(mut call: Call, method: &Method, id: &str) -> Result<Response> {
    if method == Method::PUT {
        let mut body = reader(std::mem::take(&mut call.body));
        let found = path(&call, id);
        let clash = if call.query.flag("noOverwriteDirNonDir") { Clash::Refused } else { Clash::Replaced };
        let (containers, id) = (call.control.containers.clone(), id.to_owned());
        blocking(move || {
            let taken = found.and_then(|path| containers.files(&id)?.unpack(&path, &mut body, clash));
            // Whatever came of it: a client that is still sending sees a broken connection, and not the answer.
            let _ = io::copy(&mut body.take(REFUSED), &mut io::sink());
            taken
        })
        .await?;
        return empty(StatusCode::OK);
    }
    let path = path(&call, id)?;
    let files = open(&call.control.containers, id).await?;
    let (files, path, stat) = blocking(move || {
        let stat = files.stat(&path)?;
        Ok((files, path, stat))
    })
    .await?;
    let header = stat_header(&stat)?;
    let mut response = if method == Method::HEAD {
        empty(StatusCode::OK)?
    } else {
        files.tell_archive();
        written(TAR, move |out| files.pack(&path, out))
    };
    response.headers_mut().insert(STAT, header);
    Ok(response)
}

fn path(call: &Call, id: &str) -> Result<String> {
    call.control.containers.find(id)?;
    let path = call.query.text("path").map(str::to_owned);
    path.ok_or_else(|| Error::invalid("bad parameter: path cannot be empty"))
}

pub async fn export(call: Call, id: &str) -> Result<Response> {
    let files = open(&call.control.containers, id).await?;
    Ok(written(BYTES, move |out| files.export(out)))
}

pub async fn changes(call: Call, id: &str) -> Result<Response> {
    let files = open(&call.control.containers, id).await?;
    let changes = blocking(move || Ok(files.changes())).await?;
    let row = |change: &Change| {
        let kind = match change {
            Change::Modified(_) => 0,
            Change::Added(_) => 1,
        };
        serde_json::json!({"Path": change.path(), "Kind": kind})
    };
    ok(&changes.iter().map(row).collect::<Vec<_>>())
}

async fn open(containers: &Containers, id: &str) -> Result<Files> {
    let (containers, id) = (containers.clone(), id.to_owned());
    blocking(move || containers.files(&id)).await
}

fn stat_header(stat: &PathStat) -> Result<HeaderValue> {
    let special = match stat.kind {
        PathKind::Folder => 1 << 31,
        PathKind::Link => 1 << 27,
        PathKind::Special => 1 << 26,
        PathKind::File => 0,
    };
    let bit = |mask: u32, go: u32| if stat.mode & mask == 0 { 0 } else { go };
    let marks = bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20);
    let header = StatHeader {
        name: &stat.name,
        size: stat.size,
        mode: special | marks | stat.mode & 0o777,
        mtime: times::rfc3339(stat.modified),
        link_target: &stat.link_target,
    };
    let text = serde_json::to_vec(&header).map_err(|error| Error::invalid("a path's header").because(error))?;
    HeaderValue::try_from(STANDARD.encode(text)).map_err(|error| Error::invalid("a path's header").because(error))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_paths_header_is_dockers() {
        let stat = PathStat {
            name: "data".into(),
            size: 0,
            kind: PathKind::Folder,
            mode: 0o1755,
            modified: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            link_target: String::new(),
        };
        let header = STANDARD.decode(stat_header(&stat).unwrap()).unwrap();
        assert_eq!(
            String::from_utf8(header).unwrap(),
            "{\"name\":\"data\",\"size\":0,\"mode\":2148532717,\"mtime\":\"2023-11-14T22:13:20.000000000Z\",\
             \"linkTarget\":\"\"}"
        );
    }
}
