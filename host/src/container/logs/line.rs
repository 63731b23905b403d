//! One line of a json-file log: `{"log":"text\n","stream":"stdout","time":"2026-05-30T12:07:14.123456789Z"}`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::LogEntry;
use crate::container::runtime::Stream;

/// A line on its way to the file, without its newline.
#[derive(Clone, Debug)]
pub struct Line {
    pub time: SystemTime,
    pub stream: Stream,
    pub text: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Written<'a> {
    log: Cow<'a, str>,
    stream: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attrs: Cow<'a, BTreeMap<String, String>>,
    time: Cow<'a, str>,
}

/// Append the line, with the newline that ends its record. What is not UTF-8 is replaced, as in Docker.
pub fn encode(line: &Line, attrs: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    let mut text = String::from_utf8_lossy(&line.text).into_owned();
    text.push('\n');
    let written = Written {
        log: text.into(),
        stream: word(line.stream).into(),
        attrs: Cow::Borrowed(attrs),
        time: rfc3339(line.time).into(),
    };
    let start = out.len();
    // Strings into memory: it cannot fail, and if it did, a half line must not stay.
    match serde_json::to_writer(&mut *out, &written) {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(start),
    }
}

/// `None` for what is no record: a line somebody else wrote into the file, or a crash of the machine.
pub fn decode(record: &[u8]) -> Option<LogEntry> {
    let written: Written<'_> = serde_json::from_slice(record).ok()?;
    let time: Timestamp = written.time.parse().ok()?;
    let stream = if written.stream == word(Stream::Stderr) { Stream::Stderr } else { Stream::Stdout };
    let text = Bytes::from(written.log.into_owned().into_bytes());
    Some(LogEntry { time: time.into(), stream, text, attrs: Arc::new(written.attrs.into_owned()) })
}

fn word(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// Nine digits, so that times sort as text. A clock that is thousands of years off shows the epoch.
pub fn rfc3339(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn encoded(stream: Stream, text: &'static [u8], attrs: &[(&str, &str)]) -> String {
        let time = UNIX_EPOCH + Duration::new(1_780_142_834, 120_000_000);
        let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut out = Vec::new();
        encode(&Line { time, stream, text: Bytes::from_static(text) }, &attrs, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_format_is_dockers() {
        assert_eq!(
            encoded(Stream::Stdout, b"hi \"you\" \x1b[1m \xff", &[]),
            "{\"log\":\"hi \\\"you\\\" \\u001b[1m \u{fffd}\\n\",\"stream\":\"stdout\",\
             \"time\":\"2026-05-30T12:07:14.120000000Z\"}\n"
        );
        assert_eq!(
            encoded(Stream::Stderr, b"", &[("k", "v")]),
            "{\"log\":\"\\n\",\"stream\":\"stderr\",\"attrs\":{\"k\":\"v\"},\"time\":\"2026-05-30T12:07:14.120000000Z\"}\n"
        );
    }

    #[test]
    fn what_was_written_is_read_back() {
        let text = encoded(Stream::Stderr, "grün\ttab\0".as_bytes(), &[("k", "v")]);
        let entry = decode(text.trim_end().as_bytes()).unwrap();
        assert_eq!(entry.text, "grün\ttab\0\n");
        assert_eq!(entry.stream, Stream::Stderr);
        assert_eq!(entry.time, UNIX_EPOCH + Duration::new(1_780_142_834, 120_000_000));
        assert_eq!(entry.attrs.get("k").map(String::as_str), Some("v"));
    }

    #[test]
    fn garbage_is_no_line() {
        for record in
            ["", "{", "null", "{\"log\":1}", "{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"noon\"}", "\0\0\0"]
        {
            assert!(decode(record.as_bytes()).is_none(), "{record:?}");
        }
    }
}
