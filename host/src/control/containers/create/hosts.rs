//! `--add-host`. Pure.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::{Error, Result};

/// Docker's word for the machine itself, as containers reach it. There is no bridge here: it is the loopback, which only
/// an entry of the allow-list opens.
const GATEWAY: &str = "host-gateway";

/// `NAME:ADDRESS`, `NAME:host-gateway`; an IPv6 address with or without brackets.
pub fn extra(entries: &[String]) -> Result<Vec<(String, IpAddr)>> {
    entries.iter().map(|entry| one(entry)).collect()
}

fn one(entry: &str) -> Result<(String, IpAddr)> {
    let bad = || Error::invalid(format!("bad format for add-host: \"{entry}\""));
    let (name, address) = entry.split_once([':', '=']).ok_or_else(bad)?;
    if name.is_empty() || name.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(bad());
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = match bare {
        GATEWAY => IpAddr::V4(Ipv4Addr::LOCALHOST),
        text => text.parse().map_err(|_| Error::invalid(format!("invalid IP address in add-host: \"{address}\"")))?,
    };
    Ok((name.trim_end_matches('.').to_ascii_lowercase(), address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        for (entry, name, address) in [
            ("api:10.0.0.5", "api", "10.0.0.5"),
            ("API.:10.0.0.5", "api", "10.0.0.5"),
            ("six:2001:db8::1", "six", "2001:db8::1"),
            ("six:[::1]", "six", "::1"),
            ("host.docker.internal:host-gateway", "host.docker.internal", "127.0.0.1"),
        ] {
            assert_eq!(one(entry).unwrap(), (name.to_owned(), address.parse().unwrap()), "{entry}");
        }
        for entry in ["", "api", ":10.0.0.5", "a b:10.0.0.5", "api:", "api:10.0.0", "api:10.0.0.5:80"] {
            assert!(one(entry).is_err(), "{entry}");
        }
    }
}
