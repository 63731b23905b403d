//! `network connect` and `disconnect`: what a container is on is part of its record, and changes at once while it runs.

use std::sync::Arc;

use super::cell::Cell;
use super::engine::{Containers, Shared, unbroken};
use super::networks::{Joining, Network};
use super::spec::EndpointSpec;
use super::state::{Status, Verb};
use crate::error::{Error, ErrorKind, Result};

impl Containers {
    pub async fn connect(&self, network: &str, container: &str, spec: EndpointSpec) -> Result<()> {
        let network = self.shared.networks.find(network)?;
        let (shared, cell) = self.lookup(container)?;
        unbroken(async move { shared.connect(&network, &cell, spec).await }).await
    }

    /// `force`: being on it no longer is no error.
    pub async fn disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        let network = self.shared.networks.find(network)?;
        let (shared, cell) = self.lookup(container)?;
        unbroken(async move { shared.disconnect(&network, &cell, force).await }).await
    }
}

impl Shared {
    async fn connect(&self, network: &Network, cell: &Arc<Cell>, spec: EndpointSpec) -> Result<()> {
        let _gate = cell.gate.lock().await;
        cell.step(Verb::Update)?;
        let (name, hostname, status, known, mode) = {
            let live = cell.live();
            let record = &live.record;
            let known = record.networks.contains_key(&network.name);
            (record.name.clone(), record.spec.hostname.clone(), record.status, known, record.spec.network_mode.clone())
        };
        if known {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!("endpoint with name {name} already exists in network {}", network.name),
            ));
        }
        if let Some(only) = ["host", "none"].into_iter().find(|only| mode == *only || network.name == *only) {
            // What has no networks of its own cannot have one more, and what has some cannot have none.
            if !(mode == "none" && cell.live().record.networks.is_empty()) {
                return Err(Error::new(
                    ErrorKind::Forbidden,
                    format!(
                        "container cannot be connected to {}: it would be on network {only} and another",
                        network.name
                    ),
                ));
            }
        }
        if matches!(status, Status::Running | Status::Paused) {
            let joining = Joining { id: &cell.id, name: &name, hostname: &hostname };
            let (joined, endpoint) = self.networks.join(&network.id, &joining, &spec)?;
            cell.live().endpoints.insert(joined, endpoint);
        }
        cell.live().record.networks.insert(network.name.clone(), spec);
        if let Err(error) = cell.save().await {
            self.forget(network, cell);
            return Err(error);
        }
        Ok(())
    }

    async fn disconnect(&self, network: &Network, cell: &Arc<Cell>, force: bool) -> Result<()> {
        let _gate = cell.gate.lock().await;
        cell.step(Verb::Update)?;
        let before = cell.live().record.networks.get(&network.name).cloned();
        let Some(before) = before else {
            if force {
                return Ok(());
            }
            let message = format!("container {} is not connected to network {}", cell.id, network.name);
            return Err(Error::new(ErrorKind::Forbidden, message));
        };
        if network.name == "host" {
            return Err(Error::new(
                ErrorKind::Forbidden,
                "container cannot be disconnected from host network or connected to host network",
            ));
        }
        cell.live().record.networks.remove(&network.name);
        if let Err(error) = cell.save().await {
            cell.live().record.networks.insert(network.name.clone(), before);
            return Err(error);
        }
        self.forget(network, cell);
        Ok(())
    }

    fn forget(&self, network: &Network, cell: &Cell) {
        {
            let mut live = cell.live();
            live.record.networks.remove(&network.name);
            live.endpoints.remove(&network.name);
        }
        self.networks.leave(&network.id, &cell.id);
    }
}
