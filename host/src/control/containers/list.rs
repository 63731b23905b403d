//! `docker ps`: which containers, and a row for each.

use std::collections::HashMap;
use std::time::SystemTime;

use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::create::ports::guest_port;
use super::inspect;
use super::shapes::{self, EndpointShape, MountShape};
use crate::container::spec::GuestPort;
use crate::container::{Snapshot, Status};
use crate::control::call::{Call, blocking, ok};
use crate::control::filters::Filters;
use crate::control::{Control, status, times};
use crate::error::{Error, Result};
use crate::image::Digest;

const KNOWN: [&str; 14] = [
    "id", "name", "label", "status", "exited", "ancestor", "before", "since", "network", "volume", "publish", "expose",
    "health", "is-task",
];

/// One row.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Row {
    id: String,
    names: Vec<String>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    created: u64,
    ports: Vec<PortShape>,
    labels: Value,
    state: &'static str,
    status: String,
    host_config: Value,
    network_settings: Networks,
    mounts: Vec<MountShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    /// Ours: what its models run on, as `docker inspect` has it.
    wharf: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Networks {
    networks: std::collections::BTreeMap<String, EndpointShape>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PortShape {
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    protocol: crate::container::spec::Protocol,
}

pub async fn list(call: Call) -> Result<Response> {
    let filters = Filters::parse(&call.query, &KNOWN)?;
    let limit = usize::try_from(call.query.number("limit")?.unwrap_or(0)).unwrap_or(0);
    let all = call.query.flag("all") || limit > 0;
    let chosen = Chosen::read(&call.control, &filters).await?;
    let mut containers = call.control.containers.list();
    containers.retain(|container| chosen.admits(container, &filters, all));
    if limit > 0 {
        containers.truncate(limit);
    }
    ok(&rows(&call.control, containers, call.query.flag("size")).await?)
}

/// What filters refer to by name, looked up once.
struct Chosen {
    ancestors: Vec<Digest>,
    before: Option<SystemTime>,
    since: Option<SystemTime>,
    published: Vec<GuestPort>,
    exposed: Vec<GuestPort>,
    codes: Vec<i32>,
}

impl Chosen {
    async fn read(control: &Control, filters: &Filters) -> Result<Chosen> {
        let created = |key| match filters.values(key).next() {
            Some(name) => control.containers.find(name).map(|container| Some(container.created)),
            None => Ok(None),
        };
        let ports = |key| filters.values(key).map(guest_port).collect::<Result<Vec<_>>>();
        let code = |text: &str| text.parse().map_err(|_| Error::invalid(format!("invalid filter 'exited={text}'")));
        let states = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
        if let Some(wrong) = filters.values("status").find(|wanted| !states.contains(wanted)) {
            return Err(Error::invalid(format!("invalid filter 'status={wrong}'")));
        }
        let (before, since) = (created("before")?, created("since")?);
        let names: Vec<String> = filters.values("ancestor").map(str::to_owned).collect();
        let images = control.images.clone();
        let ancestors = if names.is_empty() {
            Vec::new()
        } else {
            let find =
                move || Ok(names.iter().filter_map(|name| images.find(name).ok()).map(|image| image.id).collect());
            blocking(find).await?
        };
        let codes = filters.values("exited").map(code).collect::<Result<_>>()?;
        Ok(Chosen { ancestors, before, since, published: ports("publish")?, exposed: ports("expose")?, codes })
    }

    fn admits(&self, container: &Snapshot, filters: &Filters, all: bool) -> bool {
        let spec = &container.spec;
        let shown = all || filters.has("status") || filters.has("exited") || container.status.is_live();
        let has_mount = |wanted: &str| {
            let hit = |mount: &crate::container::ResolvedMount| {
                mount.volume.as_deref() == Some(wanted) || mount.target == wanted || mount.source.as_os_str() == wanted
            };
            container.mounts.iter().any(hit)
        };
        let on_network = |wanted: &str| {
            let mut networks = container.endpoints.iter();
            networks.any(|(name, endpoint)| name == wanted || endpoint.network_id.starts_with(wanted))
        };
        let health = container.health.as_ref().map_or("none", |health| status::health_word(health.status));
        let publishes = |port: &GuestPort| spec.publish.iter().any(|publish| publish.guest == *port);
        shown
            && filters.admits_id("id", &container.id)
            && (filters.admits_name("name", &container.name)
                || filters.admits_name("name", &format!("/{}", container.name)))
            && filters.admits_labels(&spec.labels)
            && filters.admits("status", |wanted| wanted == container.status.word())
            && (self.codes.is_empty()
                || container.status == Status::Exited && self.codes.contains(&container.exit.code))
            && (!filters.has("ancestor") || self.ancestors.contains(&spec.image_id))
            && self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
            && filters.admits("network", on_network)
            && filters.admits("volume", has_mount)
            && (self.published.is_empty() || self.published.iter().any(publishes))
            && (self.exposed.is_empty() || self.exposed.iter().any(|port| spec.exposed.contains(port)))
            && filters.admits("health", |wanted| wanted == health)
            && filters.admits("is-task", |wanted| !["1", "true"].contains(&wanted))
    }
}

/// What the image store says of the images in the rows.
#[derive(Default)]
struct Known {
    /// What a name means now.
    names: HashMap<String, Digest>,
    sizes: HashMap<String, u64>,
}

pub async fn rows(control: &Control, containers: Vec<Snapshot>, sizes: bool) -> Result<Vec<Row>> {
    let images = control.images.clone();
    let wanted: Vec<(String, Digest)> =
        containers.iter().map(|container| (container.spec.image.clone(), container.spec.image_id.clone())).collect();
    let known = blocking(move || {
        let mut known = Known::default();
        for (name, id) in wanted {
            if !known.names.contains_key(&name)
                && let Ok(image) = images.find(&name)
            {
                known.names.insert(name, image.id);
            }
            let id = id.to_string();
            if sizes
                && !known.sizes.contains_key(&id)
                && let Ok(image) = images.find(&id)
            {
                known.sizes.insert(id, image.size);
            }
        }
        Ok(known)
    });
    let known = known.await?;
    let now = SystemTime::now();
    Ok(containers.iter().map(|container| row(container, &known, sizes, now)).collect())
}

fn row(container: &Snapshot, known: &Known, sizes: bool, now: SystemTime) -> Row {
    let spec = &container.spec;
    let image_id = spec.image_id.to_string();
    // A name that means another image by now would mislead.
    let image = if known.names.get(&spec.image) == Some(&spec.image_id) { &spec.image } else { &image_id };
    Row {
        id: container.id.clone(),
        names: vec![format!("/{}", container.name)],
        image: image.clone(),
        command: shapes::command(spec),
        created: times::unix(container.created),
        ports: ports(container),
        labels: json!(spec.labels),
        state: container.status.word(),
        status: status::text(container, now),
        host_config: json!({"NetworkMode": spec.network_mode}),
        network_settings: Networks { networks: shapes::endpoints(container) },
        mounts: shapes::mounts(container),
        // A container's files are its image's: it writes to mounts only.
        size_rw: sizes.then_some(0),
        size_root_fs: sizes.then(|| known.sizes.get(&image_id).copied().unwrap_or_default()),
        image_id,
        wharf: json!({"Devices": container.devices.iter().map(inspect::device).collect::<Vec<_>>()}),
    }
}

/// Published ones, then those only exposed; none unless it runs.
fn ports(container: &Snapshot) -> Vec<PortShape> {
    if !container.status.has_task() {
        return Vec::new();
    }
    let bound = container.ports.iter().map(|port| PortShape {
        ip: Some(port.host.ip().to_string()),
        private_port: port.guest.port,
        public_port: Some(port.host.port()),
        protocol: port.guest.protocol,
    });
    let is_bound = |guest: &GuestPort| container.ports.iter().any(|port| port.guest == *guest);
    let exposed = container.spec.exposed.iter().filter(|guest| !is_bound(guest));
    let exposed = exposed.map(|guest| PortShape {
        ip: None,
        private_port: guest.port,
        public_port: None,
        protocol: guest.protocol,
    });
    bound.chain(exposed).collect()
}
