//! Addresses of networks and of containers on them. A component has no network card: addresses exist because people and
//! programs look at them, and because a call to one is a call to its container. Pure.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A range of IPv4 addresses, `172.17.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    network: u32,
    prefix: u8,
}

impl Subnet {
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Subnet> {
        if prefix > 32 {
            return Err(Error::invalid(format!("invalid subnet {address}/{prefix}: a prefix is at most 32")));
        }
        Ok(Subnet { network: address.to_bits() & mask(prefix), prefix })
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.network
    }

    pub fn overlaps(self, other: Subnet) -> bool {
        let prefix = self.prefix.min(other.prefix);
        self.network & mask(prefix) == other.network & mask(prefix)
    }

    /// The first usable address.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.wrapping_add(u32::from(self.prefix < 31)))
    }

    /// The lowest address that nobody has; never the network's own, nor the broadcast address.
    pub fn free(self, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let last = self.network | !mask(self.prefix);
        let usable = if self.prefix < 31 { self.network.saturating_add(1)..=last - 1 } else { self.network..=last };
        usable.map(Ipv4Addr::from_bits).find(|address| !taken(*address))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.network), self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Subnet> {
        let wrong =
            || Error::invalid(format!("invalid subnet {text}: write an address and a prefix, e.g. 10.1.0.0/16"));
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        Subnet::new(address.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?)
    }
}

impl TryFrom<String> for Subnet {
    type Error = Error;

    fn try_from(text: String) -> Result<Subnet> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

/// Docker's own choice for networks that ask for none: 172.17/16 up to 172.31/16, then pieces of 192.168/16.
pub fn free_subnet(taken: impl Fn(Subnet) -> bool) -> Option<Subnet> {
    let large = (17..=31).map(|second| Subnet { network: Ipv4Addr::new(172, second, 0, 0).to_bits(), prefix: 16 });
    let small = (0..16).map(|part| Subnet { network: Ipv4Addr::new(192, 168, part * 16, 0).to_bits(), prefix: 20 });
    large.chain(small).find(|subnet| !taken(*subnet))
}

/// What Docker derives from an address: two fixed bytes, then the address itself.
pub fn mac(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_are_parsed_and_shown() {
        assert_eq!(subnet("10.1.2.3/16").to_string(), "10.1.0.0/16");
        assert_eq!(subnet("10.1.0.0/16").gateway(), Ipv4Addr::new(10, 1, 0, 1));
        for bad in ["", "10.1.0.0", "10.1.0.0/33", "10.1.0/16", "a/8", "::/64", "10.0.0.0/-1"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn overlap_is_mutual() {
        for (one, two, overlap) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("0.0.0.0/0", "10.1.0.0/16", true),
        ] {
            assert_eq!(subnet(one).overlaps(subnet(two)), overlap);
            assert_eq!(subnet(two).overlaps(subnet(one)), overlap);
        }
    }

    #[test]
    fn addresses_run_out_without_giving_the_broadcast_address() {
        let small = subnet("10.0.0.0/29");
        let mut given = vec![small.gateway()];
        while let Some(address) = small.free(|address| given.contains(&address)) {
            given.push(address);
        }
        let ends: Vec<_> = given.iter().map(|address| address.octets()[3]).collect();
        assert_eq!(ends, [1, 2, 3, 4, 5, 6]);
        assert_eq!(subnet("10.0.0.7/32").free(|_| false), Some(Ipv4Addr::new(10, 0, 0, 7)));
        assert_eq!(
            subnet("255.255.255.252/30").free(|a| a.octets()[3] == 253),
            Some(Ipv4Addr::new(255, 255, 255, 254))
        );
    }

    #[test]
    fn networks_get_dockers_ranges_until_none_is_left() {
        let mut given: Vec<Subnet> = Vec::new();
        while let Some(next) = free_subnet(|subnet| given.iter().any(|taken| taken.overlaps(subnet))) {
            given.push(next);
        }
        assert_eq!(given.len(), 15 + 16);
        assert_eq!(given[0].to_string(), "172.17.0.0/16");
        assert_eq!(given[30].to_string(), "192.168.240.0/20");
    }
}
