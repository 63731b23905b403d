//! What the dashboard shows, gathered when somebody looks.

use std::net::SocketAddr;
use std::sync::Arc;

use super::daemon::Daemon;
use super::dashboard::{DashboardView, ServiceView};
use super::host::Host;
use super::workloads::Workloads;
use crate::container::Containers;
use crate::service::ServiceTable;

#[derive(Clone)]
pub struct Board {
    services: ServiceTable,
    workloads: Workloads,
    containers: Option<Containers>,
}

impl Board {
    pub fn new(host: &Host, workloads: &Workloads, daemon: Option<&Daemon>) -> Board {
        let containers = daemon.map(|daemon| daemon.containers().clone());
        Board { services: host.services.clone(), workloads: workloads.clone(), containers }
    }

    /// `url`: where the page itself answers.
    pub fn view(&self, url: &str) -> DashboardView {
        let published = self.published();
        let address = |name: &str| published.iter().find(|(known, _)| **known == *name).map(|(_, address)| *address);
        let services = self.services.list();
        let views = services.iter().map(|service| ServiceView::new(service, address(&service.name)));
        DashboardView { url: Some(url.to_owned()), services: views.collect() }
    }

    /// Services with a port, and its address as somebody on this machine would type it.
    fn published(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let workloads = self.workloads.addresses.iter().filter_map(|(name, address)| Some((name.clone(), (*address)?)));
        let containers = self.containers.iter().flat_map(Containers::list);
        let containers =
            containers.filter_map(|container| Some((container.name.as_str().into(), container.ports.first()?.host)));
        workloads.chain(containers).map(|(name, address)| (name, reachable(address))).collect()
    }
}

/// A port on every address is on loopback too.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
