//! Who is on one network, found by name or address without looking at each: a call between containers asks this.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use super::{Joining, Network, four};
use crate::container::addresses::mac;
use crate::container::ids;
use crate::container::snapshot::Endpoint;
use crate::container::spec::EndpointSpec;
use crate::error::{Error, ErrorKind, Result};

#[derive(Default)]
pub struct Members {
    by_id: BTreeMap<String, Member>,
    taken: BTreeSet<Ipv4Addr>,
    /// Lower case names and addresses to ids. Several containers may share an alias.
    index: HashMap<String, BTreeSet<String>>,
}

struct Member {
    name: String,
    endpoint: Endpoint,
}

impl Members {
    pub(super) fn join(&mut self, network: &Network, container: &Joining<'_>, spec: &EndpointSpec) -> Result<Endpoint> {
        if self.by_id.contains_key(container.id) {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!("endpoint with name {} already exists in network {}", container.name, network.name),
            ));
        }
        let address = self.address(network, spec.ipv4)?;
        let endpoint = Endpoint {
            network_id: network.id.clone(),
            endpoint_id: ids::random()?,
            address: address.map(IpAddr::V4),
            gateway: network.gateway.map(IpAddr::V4),
            prefix: network.subnet.map(|subnet| subnet.prefix()).unwrap_or_default(),
            mac: address.map(mac).unwrap_or_default(),
            aliases: spec.aliases.clone(),
            names: names(container, spec, network.is_predefined()),
        };
        self.taken.extend(address);
        let member = Member { name: container.name.to_owned(), endpoint: endpoint.clone() };
        self.index(container.id, &member.endpoint);
        self.by_id.insert(container.id.to_owned(), member);
        Ok(endpoint)
    }

    fn address(&self, network: &Network, wanted: Option<IpAddr>) -> Result<Option<Ipv4Addr>> {
        let Some(subnet) = network.subnet else { return Ok(None) };
        let taken = |address: Ipv4Addr| Some(address) == network.gateway || self.taken.contains(&address);
        let Some(wanted) = wanted else {
            let full =
                || Error::new(ErrorKind::Failed, format!("no available IPv4 addresses on network {}", network.name));
            return subnet.free(taken).map(Some).ok_or_else(full);
        };
        match four(wanted) {
            Some(address) if !subnet.contains(address) => Err(Error::invalid(format!(
                "invalid address {wanted}: It does not belong to any of this network's subnets ({subnet})"
            ))),
            Some(address) if taken(address) => Err(Error::new(ErrorKind::Forbidden, "Address already in use")),
            Some(address) => Ok(Some(address)),
            None => Err(Error::invalid(format!("invalid address {wanted}: networks here are IPv4"))),
        }
    }

    pub fn leave(&mut self, container: &str) -> bool {
        let Some(member) = self.by_id.remove(container) else { return false };
        if let Some(address) = member.endpoint.address.and_then(four) {
            self.taken.remove(&address);
        }
        self.unindex(container, &member.endpoint);
        true
    }

    pub fn rename(&mut self, container: &str, name: &str, predefined: bool) {
        let Some(mut member) = self.by_id.remove(container) else { return };
        self.unindex(container, &member.endpoint);
        if !predefined {
            for known in &mut member.endpoint.names {
                if *known == member.name {
                    name.clone_into(known);
                }
            }
        }
        name.clone_into(&mut member.name);
        self.index(container, &member.endpoint);
        self.by_id.insert(container.to_owned(), member);
    }

    fn index(&mut self, container: &str, endpoint: &Endpoint) {
        for key in keys(endpoint) {
            self.index.entry(key).or_default().insert(container.to_owned());
        }
    }

    fn unindex(&mut self, container: &str, endpoint: &Endpoint) {
        for key in keys(endpoint) {
            if let Some(ids) = self.index.get_mut(&key) {
                ids.remove(container);
                if ids.is_empty() {
                    self.index.remove(&key);
                }
            }
        }
    }

    /// Names of the containers that `host`, in lower case, stands for.
    pub fn called(&self, host: &str) -> impl Iterator<Item = &str> {
        let ids = self.index.get(host).into_iter().flatten();
        ids.filter_map(|id| self.by_id.get(id)).map(|member| member.name.as_str())
    }

    pub fn has(&self, container: &str) -> bool {
        self.by_id.contains_key(container)
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn all(&self) -> BTreeMap<String, (String, Endpoint)> {
        self.by_id.iter().map(|(id, member)| (id.clone(), (member.name.clone(), member.endpoint.clone()))).collect()
    }

    /// For messages.
    pub fn describe(&self) -> String {
        let one = |(id, member): (&String, &Member)| format!("name:\"{}\" id:\"{}\"", member.name, ids::short(id));
        self.by_id.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// The default bridge knows no names.
fn names(container: &Joining<'_>, spec: &EndpointSpec, predefined: bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if predefined {
        return names;
    }
    let own = [container.name, ids::short(container.id), container.hostname];
    for name in own.into_iter().chain(spec.aliases.iter().map(String::as_str)) {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn keys(endpoint: &Endpoint) -> impl Iterator<Item = String> {
    let address = endpoint.address.map(|address| address.to_string());
    endpoint.names.iter().map(|name| name.to_ascii_lowercase()).chain(address)
}
