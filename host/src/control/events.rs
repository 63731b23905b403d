//! `docker events`: what happens, as it happens.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::SystemTime;

use axum::body::Body;
use axum::response::Response;
use futures_util::stream::unfold;
use serde::Serialize;

use super::call::Call;
use super::filters::Filters;
use super::{stream, times};
use crate::container::{Event, EventKind};
use crate::error::Result;

const KNOWN: [&str; 12] = [
    "type",
    "event",
    "container",
    "image",
    "label",
    "network",
    "volume",
    "daemon",
    "scope",
    "plugin",
    "node",
    "service",
];

pub fn stream(call: Call) -> Result<Response> {
    let filters = Filters::parse(&call.query, &KNOWN)?;
    let now = SystemTime::now();
    let (since, until) = (call.query.time("since", now)?, call.query.time("until", now)?);
    let reader = call.control.containers.events().subscribe(since, until);
    call.never_ends();
    // The reader holds what it needs; the call's own state ends here.
    let events = unfold((reader, filters), |(mut reader, filters)| async move {
        loop {
            let event = reader.next().await?;
            if admits(&filters, &event) {
                return Some((Ok::<_, Infallible>(stream::line(&shape(&event))), (reader, filters)));
            }
        }
    });
    Ok(stream::response(stream::JSON, Body::from_stream(events)))
}

fn kind_word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Container => "container",
        EventKind::Image => "image",
        EventKind::Network => "network",
        EventKind::Volume => "volume",
        EventKind::Daemon => "daemon",
    }
}

fn admits(filters: &Filters, event: &Event) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
    let is = |kind: EventKind, wanted: &str| {
        event.kind == kind && (event.id.starts_with(wanted) || attribute("name") == wanted)
    };
    // `exec_start: sh` is found as `exec_start`, and `health_status: healthy` both ways.
    let action = |wanted: &str| event.action == wanted || event.action.split(": ").next() == Some(wanted);
    let image = |wanted: &str| {
        let name = if event.kind == EventKind::Container { attribute("image") } else { attribute("name") };
        let untagged = name.rsplit_once(':').map_or(name, |(name, _)| name);
        name == wanted || untagged == wanted || event.kind == EventKind::Image && event.id == wanted
    };
    filters.admits("type", |wanted| wanted == kind_word(event.kind))
        && filters.admits("event", action)
        && filters.admits("container", |wanted| is(EventKind::Container, wanted))
        && filters.admits("network", |wanted| is(EventKind::Network, wanted))
        && filters.admits("volume", |wanted| is(EventKind::Volume, wanted))
        && filters.admits("daemon", |_| event.kind == EventKind::Daemon)
        && filters.admits("image", image)
        && filters.admits("scope", |wanted| wanted == "local")
        && ["plugin", "node", "service"].iter().all(|key| !filters.has(key))
        && filters.admits_labels(&event.attributes)
}

/// `status`, `id` and `from` repeat the rest for older clients.
#[derive(Serialize)]
struct Shape<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Action")]
    action: &'a str,
    #[serde(rename = "Actor")]
    actor: Actor<'a>,
    scope: &'static str,
    time: u64,
    #[serde(rename = "timeNano")]
    time_nano: u64,
}

#[derive(Serialize)]
struct Actor<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Attributes")]
    attributes: &'a BTreeMap<String, String>,
}

fn shape(event: &Event) -> Shape<'_> {
    let repeated = matches!(event.kind, EventKind::Container | EventKind::Image);
    let image = event.attributes.get("image").map(String::as_str);
    Shape {
        status: repeated.then_some(&event.action),
        id: repeated.then_some(&event.id),
        from: image.filter(|_| event.kind == EventKind::Container),
        kind: kind_word(event.kind),
        action: &event.action,
        actor: Actor { id: &event.id, attributes: &event.attributes },
        scope: "local",
        time: times::unix(event.time),
        time_nano: times::unix_nanos(event.time),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::control::query::Query;

    fn died() -> Event {
        let event = Event::new(EventKind::Container, "die", "abcdef").with("image", "app:v1").with("name", "n1");
        let time = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        Event { time, ..event.with("exitCode", "137").with("project", "p") }
    }

    #[test]
    fn an_event_is_one_line() {
        let line = String::from_utf8(stream::line(&shape(&died())).to_vec()).unwrap();
        let expected = "{\"status\":\"die\",\"id\":\"abcdef\",\"from\":\"app:v1\",\"Type\":\"container\",\"Action\":\"die\",\
            \"Actor\":{\"ID\":\"abcdef\",\"Attributes\":{\"exitCode\":\"137\",\"image\":\"app:v1\",\"name\":\"n1\",\
            \"project\":\"p\"}},\"scope\":\"local\",\"time\":1700000000,\"timeNano\":1700000000123456789}\r\n";
        assert_eq!(line, expected);
        let network = Event::new(EventKind::Network, "create", "n").with("name", "mynet");
        assert!(shape(&network).status.is_none() && shape(&network).from.is_none());
    }

    #[test]
    fn filters() {
        let exec = Event { action: "exec_start: sh -c x".to_owned(), ..died() };
        for (json, die, started) in [
            ("{}", true, true),
            (r#"{"type":{"container":true}}"#, true, true),
            (r#"{"type":["image"]}"#, false, false),
            (r#"{"event":["die","start"]}"#, true, false),
            (r#"{"event":["exec_start"]}"#, false, true),
            (r#"{"container":["n1"]}"#, true, true),
            (r#"{"container":["abc"]}"#, true, true),
            (r#"{"container":["n"]}"#, false, false),
            (r#"{"image":["app"]}"#, true, true),
            (r#"{"image":["other"]}"#, false, false),
            (r#"{"label":["project=p"]}"#, true, true),
            (r#"{"label":["project=q"]}"#, false, false),
            (r#"{"network":["n1"]}"#, false, false),
        ] {
            let encoded: String = form_urlencoded::byte_serialize(json.as_bytes()).collect();
            let filters = Filters::parse(&Query::parse(Some(&format!("filters={encoded}"))), &KNOWN).unwrap();
            assert_eq!((admits(&filters, &died()), admits(&filters, &exec)), (die, started), "{json}");
        }
    }
}
