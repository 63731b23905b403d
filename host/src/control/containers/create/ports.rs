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
    let ports: BTreeSet<GuestPort> = named.map(guest_port).collect::<Result<_>>()?;
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
            publish.push(Publish { guest, host_ip: None, host_port: None });
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
    if host_port.contains('-') {
        return Err(Error::invalid(format!(
            "a range of host ports ({host_port}) for one port is not offered: name one port, or none for a free one"
        )));
    }
    let invalid = |_| Error::invalid(format!("invalid port specification: \"{host_port}\""));
    let port: u16 = if host_port.is_empty() { 0 } else { host_port.parse().map_err(invalid)? };
    Ok(Publish { guest, host_ip: ip, host_port: (port != 0).then_some(port) })
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
        assert_eq!(published(r#"{"80":[]}"#).unwrap(), [("80/tcp *".into(), None)]);
        for (json, message) in [
            (r#"{"80":[{"HostIp":"x"}]}"#, "invalid IP address: x"),
            (r#"{"80":[{"HostPort":"99999"}]}"#, "invalid port specification: \"99999\""),
            (r#"{"53/udp":[{}]}"#, "port 53/udp cannot be published: services here speak HTTP over TCP"),
        ] {
            assert_eq!(published(json).unwrap_err().to_string(), message);
        }
    }
}
