//! What one container sees of its networks, asked at each of its calls.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Networks;
use crate::container::reach::{self, Mode, View};
use crate::container::runtime::{Peers, Reach};
use crate::container::spec::Spec;

pub struct Neighbours {
    networks: Networks,
    container: String,
    mode: Mode,
    egress: Vec<String>,
    extra_hosts: Vec<(String, IpAddr)>,
    /// Counts questions, so that containers that share an alias take turns.
    turn: AtomicUsize,
}

impl Neighbours {
    pub fn new(networks: Networks, container: &str, spec: &Spec) -> Neighbours {
        let mode = match spec.network_mode.as_str() {
            "host" => Mode::Host,
            "none" => Mode::None,
            _ => Mode::Bridged,
        };
        let (egress, extra_hosts) = (spec.egress.clone(), spec.extra_hosts.clone());
        Neighbours { networks, container: container.to_owned(), mode, egress, extra_hosts, turn: AtomicUsize::new(0) }
    }

    fn peer(&self, host: &str) -> Option<String> {
        let entries = self.networks.read();
        let own = entries.values().filter(|entry| entry.members.has(&self.container));
        let found: Vec<&str> = own.flat_map(|entry| entry.members.called(host)).collect();
        match found.len() {
            0 => None,
            count => found.get(self.turn.fetch_add(1, Ordering::Relaxed) % count).map(|name| (*name).to_owned()),
        }
    }

    /// On at least one network, and every one of them is internal.
    fn internal(&self) -> bool {
        let entries = self.networks.read();
        let mut own = entries.values().filter(|entry| entry.members.has(&self.container)).peekable();
        own.peek().is_some() && own.all(|entry| entry.network.internal)
    }

    fn view(&self) -> View<'_> {
        View { mode: self.mode, egress: &self.egress, internal: self.internal() }
    }
}

impl Peers for Neighbours {
    fn reach(&self, host: &str, port: u16) -> Reach {
        let reach = |host: &str| reach::reach(&self.view(), host, port, |host| self.peer(host));
        // A name that was added is as good as its address, and no better: what is closed stays closed.
        let addresses = self.addresses(host).unwrap_or_default();
        let mut by_address = addresses.iter().map(|address| reach(&address.to_string()));
        match reach(host) {
            Reach::Container(name) => Reach::Container(name),
            by_name => by_address.find(|found| !matches!(found, Reach::Denied(_))).unwrap_or(by_name),
        }
    }

    fn addresses(&self, host: &str) -> Option<Vec<IpAddr>> {
        let host = host.trim_end_matches('.');
        let named = self.extra_hosts.iter().filter(|(name, _)| name.eq_ignore_ascii_case(host));
        let found: Vec<IpAddr> = named.map(|(_, address)| *address).collect();
        (!found.is_empty()).then_some(found)
    }

    fn permits(&self, host: &str, port: u16, address: IpAddr) -> Result<(), String> {
        reach::permits(&self.view(), host, port, address)
    }
}
