//! `-p`, `-P`, `--expose` and `EXPOSE`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::request::PortBinding;
use crate::container::spec::{GuestPort, Protocol, Publish};
use crate::error::{Error, Result};

/// `5000`, `5000/tcp`, `53/udp`.
pub fn guest_port(text: &str) -> Result<GuestPort> {
    let invalid = || Error::invalid(format!("invalid port specification: \"{text}\""));
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(invalid()),
    };
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
    Ok(GuestPort { port, protocol })
}

/// Ports named by anybody: by the image, by `--expose`, by `-p`.
pub fn exposed<'a>(named: impl Iterator<Item = &'a str>) -> Result<Vec<GuestPort>> {
    let mut ports = BTreeSet::new();
    for text in named {
        // `5000-5002/tcp`, as docker takes it.
        let (range, protocol) = text.split_once('/').unwrap_or((text, ""));
        let Some((first, last)) = range.split_once('-') else {
            ports.insert(guest_port(text)?);
            continue;
        };
        let whole = |port: &str| if protocol.is_empty() { port.to_owned() } else { format!("{port}/{protocol}") };
        let (first, last) = (guest_port(&whole(first))?, guest_port(&whole(last))?);
        if last.port < first.port {
            return Err(Error::invalid(format!("invalid port specification: \"{text}\"")));
        }
        ports.extend((first.port..=last.port).map(|port| GuestPort { port, protocol: first.protocol }));
    }
    Ok(ports.into_iter().collect())
}

pub fn publish(bindings: &BTreeMap<String, Vec<PortBinding>>) -> Result<Vec<Publish>> {
    let mut publish = Vec::new();
    for (guest, bindings) in bindings {
        let guest = guest_port(guest)?;
        if guest.protocol == Protocol::Udp {
            return Err(Error::invalid(format!("port {guest} cannot be published: services here speak HTTP over TCP")));
        }
        // No binding is one on a free port.
        if bindings.is_empty() {
            publish.push(Publish { guest, host_ip: None, host_port: None, host_port_end: None });
        }
        for binding in bindings {
            publish.push(one(guest, binding)?);
        }
    }
    Ok(publish)
}

fn one(guest: GuestPort, PortBinding { host_ip, host_port }: &PortBinding) -> Result<Publish> {
    let invalid_ip = |_| Error::invalid(format!("invalid IP address: {host_ip}"));
    let ip = if host_ip.is_empty() { None } else { Some(host_ip.parse().map_err(invalid_ip)?) };
    let invalid = || Error::invalid(format!("invalid port specification: \"{host_port}\""));
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    let (first, last) = match host_port.split_once('-') {
        Some((first, last)) => (number(first)?, Some(number(last)?)),
        None if host_port.is_empty() => (0, None),
        None => (number(host_port)?, None),
    };
    if last.is_some_and(|last| first == 0 || last < first) {
        return Err(invalid());
    }
    Ok(Publish { guest, host_ip: ip, host_port: (first != 0).then_some(first), host_port_end: last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_ports() {
        for (text, port) in [("5000", "5000/tcp"), ("5000/tcp", "5000/tcp"), ("53/UDP", "53/udp")] {
            assert_eq!(guest_port(text).unwrap().to_string(), port);
        }
        for text in ["", "0", "65536", "x/tcp", "80/sctp", "80/", "-1", "80-90"] {
            let message = format!("invalid port specification: \"{text}\"");
            assert_eq!(guest_port(text).unwrap_err().to_string(), message);
        }
    }

    fn published(json: &str) -> Result<Vec<(String, Option<u16>)>> {
        let bindings = serde_json::from_str(json).unwrap();
        let one = |publish: &Publish| {
            let ip = publish.host_ip.map_or("*".to_owned(), |ip| ip.to_string());
            (format!("{} {ip}", publish.guest), publish.host_port)
        };
        Ok(publish(&bindings)?.iter().map(one).collect())
    }

    #[test]
    fn bindings() {
        let one = published(r#"{"5000/tcp":[{"HostIp":"","HostPort":"5000"},{"HostIp":"127.0.0.1","HostPort":"0"}]}"#);
        assert_eq!(one.unwrap(), [("5000/tcp *".into(), Some(5000)), ("5000/tcp 127.0.0.1".into(), None)]);
        let ranges = serde_json::from_str(r#"{"80":[{"HostPort":"5000-5010"}]}"#).unwrap();
        let range = publish(&ranges).unwrap().remove(0);
        assert_eq!((range.host_port, range.host_port_end), (Some(5000), Some(5010)));
        let ports = exposed(["5000-5002/tcp", "5001", "53-53/udp"].into_iter()).unwrap();
        let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["53/udp", "5000/tcp", "5001/tcp", "5002/tcp"]);
        for text in ["5002-5000", "1-", "-1", "1-2-3", "1-2/sctp", "1-70000"] {
            assert!(exposed([text].into_iter()).is_err(), "{text}");
        }
        assert_eq!(published(r#"{"80":[]}"#).unwrap(), [("80/tcp *".into(), None)]);
        for (json, message) in [
            (r#"{"80":[{"HostIp":"x"}]}"#, "invalid IP address: x"),
            (r#"{"80":[{"HostPort":"99999"}]}"#, "invalid port specification: \"99999\""),
            (r#"{"80":[{"HostPort":"5010-5000"}]}"#, "invalid port specification: \"5010-5000\""),
            (r#"{"80":[{"HostPort":"0-5"}]}"#, "invalid port specification: \"0-5\""),
            (r#"{"80":[{"HostPort":"1-"}]}"#, "invalid port specification: \"1-\""),
            (r#"{"53/udp":[{}]}"#, "port 53/udp cannot be published: services here speak HTTP over TCP"),
        ] {
            assert_eq!(published(json).unwrap_err().to_string(), message);
        }
    }
}
