//! `docker logs`: lines as frames, with or without their times.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::SystemTime;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream::unfold;

use crate::container::{LogEntry, LogQuery};
use crate::control::call::Call;
use crate::control::query::Query;
use crate::control::stream::{self, Wire};
use crate::control::times;
use crate::error::{Error, ErrorKind, Result};

/// What is written before a line's text.
#[derive(Clone, Copy)]
struct Prefix {
    time: bool,
    details: bool,
}

pub async fn logs(call: Call, id: &str) -> Result<Response> {
    let query = read(&call.query, SystemTime::now())?;
    let container = call.control.containers.find(id)?;
    if container.spec.log.driver == "none" {
        return Err(Error::new(ErrorKind::Unimplemented, "configured logging driver does not support reading"));
    }
    if query.follow {
        call.never_ends();
    }
    let wire = Wire::of(container.spec.tty);
    let prefix = Prefix { time: call.query.flag("timestamps"), details: call.query.flag("details") };
    let reader = call.control.containers.logs(&container.id, query).await?;
    let frames = unfold(reader, move |mut reader| async move {
        let entry = reader.next().await?;
        Some((Ok::<_, Infallible>(wire.pack(entry.stream, line(&entry, prefix))), reader))
    });
    Ok(stream::response(wire.content_type(call.minor), Body::from_stream(frames)))
}

fn read(query: &Query, now: SystemTime) -> Result<LogQuery> {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    // "all", and what Docker takes for it: anything that is no count.
    let tail = query.text("tail").and_then(|tail| tail.parse().ok());
    let (since, until) = (query.time("since", now)?, query.time("until", now)?);
    Ok(LogQuery { follow: query.flag("follow"), tail, since, until, stdout, stderr })
}

fn line(entry: &LogEntry, prefix: Prefix) -> Bytes {
    if !prefix.time && !prefix.details {
        return entry.text.clone();
    }
    let mut line = BytesMut::new();
    if prefix.time {
        line.extend_from_slice(times::rfc3339(entry.time).as_bytes());
        line.extend_from_slice(b" ");
    }
    if prefix.details {
        line.extend_from_slice(details(&entry.attrs).as_bytes());
    }
    line.extend_from_slice(&entry.text);
    line.freeze()
}

/// `k=v,k2=v2 `, as in Docker escaped as in a URL, and with the blank even where there are none.
fn details(attributes: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> =
        attributes.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
    format!("{} ", pairs.join(","))
}

/// Go's `url.QueryEscape`.
fn escape(text: &str) -> String {
    let escaped: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    escaped.replace('*', "%2A").replace("%7E", "~")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn query(text: &str) -> Result<LogQuery> {
        read(&Query::parse(Some(text)), UNIX_EPOCH + Duration::from_secs(1000))
    }

    #[test]
    fn queries_of_both_worlds() {
        let cli = query("stdout=1&stderr=1&follow=1&tail=10&since=400.000000000").unwrap();
        assert!(cli.follow && cli.stdout && cli.stderr);
        assert_eq!((cli.tail, cli.since), (Some(10), Some(UNIX_EPOCH + Duration::from_secs(400))));
        let python = query("stderr=True&stdout=False&timestamps=0&follow=0&tail=all&since=0&until=0").unwrap();
        assert!(!python.follow && !python.stdout && python.stderr);
        assert_eq!((python.tail, python.since, python.until), (None, None, None));
        assert_eq!(query("tail=-1&stdout=1").unwrap().tail, None);
    }

    #[test]
    fn a_stream_must_be_chosen() {
        let error = query("follow=1").unwrap_err();
        assert_eq!(error.to_string(), "Bad parameters: you must choose at least one stream");
    }

    #[test]
    fn details_are_joined_by_commas() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(details(&BTreeMap::from([pair("a", "1"), pair("b", "2")])), "a=1,b=2 ");
        assert_eq!(details(&BTreeMap::from([pair("a/b", "x y,~*")])), "a%2Fb=x+y%2C~%2A ");
        assert_eq!(details(&BTreeMap::new()), " ");
    }
}
