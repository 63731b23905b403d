//! `ports`: short and long forms, ranges; and who asks for one port of the host at once.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::quantities::plain;
use crate::error::{Error, ErrorKind, Result};

const EVERYWHERE: &str = "0.0.0.0";

/// One port of a container and where it shows; `published` is `None` for a port the daemon chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub address: String,
    pub published: Option<u16>,
    pub target: u16,
    pub protocol: String,
}

impl Published {
    /// Canonical: the long form of compose files.
    pub fn written(&self) -> Value {
        let mut long = json!({"target": self.target, "protocol": self.protocol, "mode": "ingress"});
        if let Some(port) = self.published {
            long["published"] = port.to_string().into();
        }
        if !self.address.is_empty() {
            long["host_ip"] = self.address.clone().into();
        }
        long
    }

    fn meets(&self, other: &Published) -> bool {
        let whole = |address: &str| matches!(address, "" | EVERYWHERE | "::");
        let (a, b) = (&self.address, &other.address);
        self.published.is_some()
            && self.published == other.published
            && self.protocol == other.protocol
            && (a == b || whole(a) || whole(b))
    }
}

pub fn parse(value: Option<&Value>, field: &str) -> Result<Vec<Published>> {
    let mut all = Vec::new();
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Array(entries)) => {
            for entry in entries {
                all.extend(one(entry, field)?);
            }
        }
        Some(_) => return Err(Error::invalid(format!("{field}: write a list, such as `- 5001:5000`"))),
    }
    Ok(all)
}

fn one(entry: &Value, field: &str) -> Result<Vec<Published>> {
    let (address, outside, inside, protocol) = match entry {
        Value::Object(long) => {
            let text = |key: &str| long.get(key).map(plain).unwrap_or_default();
            (text("host_ip"), text("published"), text("target"), text("protocol"))
        }
        entry => {
            let text = plain(entry);
            let (rest, protocol) = text.rsplit_once('/').unwrap_or((&text, "tcp"));
            let (rest, inside) = rest.rsplit_once(':').unwrap_or(("", rest));
            let (address, outside) = rest.rsplit_once(':').unwrap_or(("", rest));
            (address.trim_matches(['[', ']']).to_owned(), outside.to_owned(), inside.to_owned(), protocol.to_owned())
        }
    };
    let wrong =
        |what: &str| Error::invalid(format!("{field}: {}: {what}; write [IP:][HOST:]CONTAINER[/tcp]", plain(entry)));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(wrong("no such protocol"));
    }
    let inside = range(&inside).filter(|inside| *inside.start() > 0).ok_or_else(|| wrong("no container port"))?;
    let outside = match outside.as_str() {
        "" | "0" => None,
        text => Some(range(text).ok_or_else(|| wrong("bad host port"))?),
    };
    if outside.as_ref().is_some_and(|outside| outside.len() != inside.len()) {
        return Err(wrong("the ranges differ in length"));
    }
    let make = |(index, target)| Published {
        address: address.clone(),
        published: outside.clone().and_then(|mut range| range.nth(index)),
        target,
        protocol: protocol.clone(),
    };
    Ok(inside.enumerate().map(make).collect())
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?).filter(|range| !range.is_empty())
}

/// `ExposedPorts` and `PortBindings` of the API.
pub fn bindings(published: &[Published], expose: Option<&Value>) -> (Value, Value) {
    let mut exposed = Map::new();
    let mut bound: Map<String, Value> = Map::new();
    for port in expose.and_then(Value::as_array).into_iter().flatten().map(plain) {
        exposed.insert(if port.contains('/') { port } else { format!("{port}/tcp") }, json!({}));
    }
    for port in published {
        let key = format!("{}/{}", port.target, port.protocol);
        let outside = port.published.map(|port| port.to_string()).unwrap_or_default();
        exposed.insert(key.clone(), json!({}));
        if let Value::Array(all) = bound.entry(key).or_insert_with(|| json!([])) {
            all.push(json!({"HostIp": port.address, "HostPort": outside}));
        }
    }
    (exposed.into(), bound.into())
}

/// Who wants ports: `service web` or `container "other"`.
pub struct Claim<'a> {
    pub kind: &'static str,
    pub name: Cow<'a, str>,
    pub ports: Vec<Published>,
}

/// The first two that ask for one port of the host: the second could never start.
pub fn check(claims: &[Claim<'_>]) -> Result<()> {
    for (index, later) in claims.iter().enumerate() {
        for earlier in &claims[..index] {
            let clash = |port: &&Published| earlier.ports.iter().any(|other| port.meets(other));
            if let Some(port) = later.ports.iter().find(clash) {
                return Err(conflict(earlier, later, port));
            }
        }
    }
    Ok(())
}

fn conflict(earlier: &Claim<'_>, later: &Claim<'_>, port: &Published) -> Error {
    let number = port.published.unwrap_or_default();
    let address = if port.address.is_empty() { EVERYWHERE } else { &port.address };
    let whole = if address.contains(':') { format!("[{address}]:{number}") } else { format!("{address}:{number}") };
    let who = if earlier.kind == later.kind {
        format!("{}s {} and {}", later.kind, earlier.name, later.name)
    } else {
        format!("{} {} and {} {}", later.kind, later.name, earlier.kind, earlier.name)
    };
    let message = format!(
        "{who} both publish host port {number} ({whole}): give one of them another host port, or stop it. \
         Bind for {whole} failed: port is already allocated"
    );
    Error::new(ErrorKind::Conflict, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(entry: Value) -> Value {
        bindings(&parse(Some(&json!([entry])), "a.ports").unwrap(), None).1
    }

    #[test]
    fn every_form() {
        let cases = [
            (json!("5001:5000"), json!({"5000/tcp": [{"HostIp": "", "HostPort": "5001"}]})),
            (json!(5000), json!({"5000/tcp": [{"HostIp": "", "HostPort": ""}]})),
            (json!("127.0.0.1:0:5000/tcp"), json!({"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]})),
            (json!("[::1]:80:5000"), json!({"5000/tcp": [{"HostIp": "::1", "HostPort": "80"}]})),
            (
                json!("8000-8001:5000-5001"),
                json!({
                    "5000/tcp": [{"HostIp": "", "HostPort": "8000"}], "5001/tcp": [{"HostIp": "", "HostPort": "8001"}],
                }),
            ),
            (
                json!({"target": 5000, "published": "5001", "host_ip": "127.0.0.1", "protocol": "udp"}),
                json!({"5000/udp": [{"HostIp": "127.0.0.1", "HostPort": "5001"}]}),
            ),
        ];
        for (entry, expected) in cases {
            assert_eq!(bound(entry.clone()), expected, "{entry}");
            // The canonical form means the same.
            let written = parse(Some(&json!([entry])), "a").unwrap().iter().map(Published::written).collect();
            assert_eq!(bindings(&parse(Some(&Value::Array(written)), "a").unwrap(), None).1, expected);
        }
    }

    #[test]
    fn mistakes() {
        for wrong in [json!("x:5000"), json!("1-2:5000"), json!("5001:"), json!("1:2/xyz"), json!("70000:1"), json!({})]
        {
            let error = parse(Some(&json!([wrong])), "services.a.ports").unwrap_err().to_string();
            assert!(error.starts_with("services.a.ports: "), "{error}");
        }
        assert!(parse(Some(&json!("5001:5000")), "a.ports").is_err());
    }

    #[test]
    fn who_meets_whom() {
        let claim = |name: &'static str, text: &str| Claim {
            kind: "service",
            name: name.into(),
            ports: parse(Some(&json!([text])), "p").unwrap(),
        };
        let meets = |a: &str, b: &str| check(&[claim("a", a), claim("b", b)]).is_err();
        assert!(meets("5001:5000", "5001:80") && meets("127.0.0.1:5001:1", "5001:1"));
        assert!(meets("5000-5002:1-3", "5001:1"));
        assert!(!meets("5001:1", "5001:1/udp") && !meets("127.0.0.1:1:1", "127.0.0.2:1:1") && !meets("1", "1"));
        let foreign = Claim { kind: "container", name: "old".into(), ports: claim("", "5001:1").ports };
        let error = check(&[foreign, claim("web", "127.0.0.1:5001:5000")]).unwrap_err().to_string();
        assert!(
            error.starts_with("service web and container old both publish host port 5001 (127.0.0.1:5001): "),
            "{error}"
        );
    }
}
