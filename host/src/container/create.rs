//! `create`: settle what was left open (name, networks, volumes), then make the record. Whatever fails leaves nothing
//! behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::cell::{Cell, blocking};
use super::engine::{Containers, Shared, unbroken};
use super::record::Record;
use super::snapshot::Created;
use super::spec::{EndpointSpec, MountKind, MountSpec, RestartPolicy, Spec};
use super::volumes::VolumeSpec;
use super::{disk, files, health, ids};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Digest;

/// One instance of a component cannot live with less.
const LEAST_MEMORY: u64 = 6 << 20;

impl Containers {
    /// `name`: with or without slash; `None` invents one.
    pub async fn create(&self, name: Option<&str>, spec: Spec) -> Result<Created> {
        let shared = self.shared.clone();
        let name = name.map(str::to_owned);
        unbroken(async move {
            shared.check_open()?;
            let warnings = check(&spec)?;
            let id = blocking(move || make(&shared, name.as_deref(), spec)).await?;
            Ok(Created { id, warnings })
        })
        .await
    }
}

/// What is wrong with the request by itself; what is only odd becomes a warning.
fn check(spec: &Spec) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if spec.auto_remove && spec.restart != RestartPolicy::No {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    if spec.memory.is_some_and(|memory| memory < LEAST_MEMORY) {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if let Some(("container", _)) = spec.network_mode.split_once(':') {
        return Err(Error::new(
            ErrorKind::Unimplemented,
            format!(
                "--network {} is not offered: put both containers on one network (network create) and call by name",
                spec.network_mode
            ),
        ));
    }
    let mut targets = BTreeSet::new();
    for mount in &spec.mounts {
        check_mount(mount)?;
        if !targets.insert(mount.target.trim_end_matches('/')) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", mount.target)));
        }
    }
    if spec.network_mode == "host" && (!spec.publish.is_empty() || spec.publish_all) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    if let Some(Err(error)) = spec.healthcheck.as_ref().map(|check| health::parse(&check.test)) {
        warnings.push(format!("{error}. The container runs without a health check"));
    }
    Ok(warnings)
}

fn check_mount(mount: &MountSpec) -> Result<()> {
    if !mount.target.starts_with('/') {
        let target = &mount.target;
        return Err(Error::invalid(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    if mount.target.trim_matches('/').is_empty() {
        return Err(Error::invalid("invalid specification: destination can't be '/'"));
    }
    if mount.target.split('/').any(|part| part == "..") {
        return Err(Error::invalid(format!("invalid mount path: '{}' must not contain '..'", mount.target)));
    }
    if mount.kind == MountKind::Bind && !Path::new(&mount.source).is_absolute() {
        return Err(Error::invalid(format!(
            "invalid mount config for type \"bind\": invalid mount path: '{}' mount path must be absolute",
            mount.source
        )));
    }
    Ok(())
}

/// Blocking.
fn make(shared: &Arc<Shared>, name: Option<&str>, spec: Spec) -> Result<String> {
    let id = ids::random()?;
    let mut seed = ids::random_number()?;
    let random = || {
        // SplitMix64: names need to look random, not to be unguessable.
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    };
    let name = shared.table().reserve(name, &id, random)?;
    let mut held = Vec::new();
    let made = finish(shared, &id, &name, spec, &mut held);
    if made.is_err() {
        for mount in held {
            release(shared, &id, &mount, true);
        }
        shared.table().free(&name);
    }
    made.map(|()| id)
}

fn finish(shared: &Arc<Shared>, id: &str, name: &str, mut spec: Spec, held: &mut Vec<MountSpec>) -> Result<()> {
    let image = spec.image_id.clone();
    for mount in &mut spec.mounts {
        let settled = settle_mount(shared, id, &image, mount);
        // Held even if it could not be filled.
        held.push(mount.clone());
        settled?;
    }
    let networks = settle_networks(shared, &mut spec);
    let record = Record::new(id.to_owned(), name.to_owned(), spec, networks);
    record.create(&shared.folder)?;
    let cell = Cell::new(&shared.folder, record, shared.writer.queue());
    shared.table().insert(cell.clone());
    shared.tell(&cell, "create", &[]);
    Ok(())
}

fn settle_mount(shared: &Shared, id: &str, image: &Digest, mount: &mut MountSpec) -> Result<()> {
    match mount.kind {
        MountKind::Bind => settle_bind(mount),
        MountKind::Tmpfs => Ok(()),
        MountKind::Volume => {
            let name = Some(mount.source.clone()).filter(|name| !name.is_empty());
            mount.anonymous = name.is_none();
            let spec = VolumeSpec { name, anonymous: mount.anonymous, ..VolumeSpec::default() };
            mount.source = shared.volumes.hold(spec, id)?.name;
            if mount.no_copy {
                return Ok(());
            }
            let root = shared.images.rootfs(image)?;
            files::seed(&root, &mount.target, &shared.volumes.content(&mount.source))
        }
    }
}

/// `-v` makes the folder, `--mount` insists on it.
pub fn settle_bind(mount: &MountSpec) -> Result<()> {
    let source = Path::new(&mount.source);
    if source.exists() {
        return Ok(());
    }
    if mount.create_source {
        return disk::create_folder(source);
    }
    Err(Error::invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        mount.source
    )))
}

/// The container has the volume no longer; `remove` takes a volume made for it alone along.
pub fn release(shared: &Shared, id: &str, mount: &MountSpec, remove: bool) {
    if mount.kind != MountKind::Volume {
        return;
    }
    shared.volumes.release(&mount.source, id);
    let gone = if remove && mount.anonymous { shared.volumes.remove(&mount.source, true) } else { Ok(()) };
    if let Err(error) = gone {
        tracing::warn!("volume {} is left: {}", mount.source, error.chain());
    }
}

/// The mode and the endpoints say the same thing twice, and `default` is another word for `bridge`. A network that does
/// not exist is reported by `start`, as in Docker.
fn settle_networks(shared: &Shared, spec: &mut Spec) -> BTreeMap<String, EndpointSpec> {
    if ["", "default"].contains(&spec.network_mode.as_str()) {
        "bridge".clone_into(&mut spec.network_mode);
    }
    let called = |name: &str| shared.networks.find(name).map_or_else(|_| name.to_owned(), |network| network.name);
    spec.network_mode = called(&spec.network_mode);
    let mut networks = BTreeMap::new();
    for (name, endpoint) in &spec.endpoints {
        networks.insert(called(name), endpoint.clone());
    }
    if networks.is_empty() || ["host", "none"].contains(&spec.network_mode.as_str()) {
        let own = networks.remove(&spec.network_mode).unwrap_or_default();
        networks = BTreeMap::from([(spec.network_mode.clone(), own)]);
    } else if spec.network_mode != "bridge" {
        networks.entry(spec.network_mode.clone()).or_default();
    }
    networks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::fixture;

    #[test]
    fn requests_that_cannot_be_are_refused() {
        let mount = |kind, source: &str, target: &str| MountSpec {
            kind,
            source: source.into(),
            target: target.into(),
            read_only: false,
            anonymous: false,
            create_source: true,
            no_copy: false,
        };
        let with = |mounts: Vec<MountSpec>| Spec { mounts, ..fixture::spec() };
        let volume = |target: &str| mount(MountKind::Volume, "v", target);
        for (spec, expected) in [
            (with(vec![volume("rel")]), "invalid mount path: 'rel' mount path must be absolute"),
            (with(vec![volume("//")]), "invalid specification: destination can't be '/'"),
            (with(vec![volume("/a/../b")]), "must not contain '..'"),
            (with(vec![volume("/a"), volume("/a/")]), "Duplicate mount point: /a/"),
            (with(vec![mount(MountKind::Bind, "rel", "/a")]), "'rel' mount path must be absolute"),
            (Spec { memory: Some(1), ..fixture::spec() }, "Minimum memory limit allowed is 6MB"),
            (
                Spec { auto_remove: true, restart: RestartPolicy::Always, ..fixture::spec() },
                "can't create 'AutoRemove' container with restart policy",
            ),
            (Spec { network_mode: "container:x".into(), ..fixture::spec() }, "--network container:x is not offered"),
        ] {
            let error = check(&spec).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
