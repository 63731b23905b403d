//! Pieces of JSON that the list of containers and `inspect` have in common. Pure.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use crate::container::spec::{MountKind, Spec};
use crate::container::{Endpoint, ResolvedMount, Snapshot};
use crate::control::times;

/// What runs, and its arguments.
pub fn path_and_args(spec: &Spec) -> (String, Vec<String>) {
    let mut words = spec.entrypoint.iter().chain(&spec.command).cloned();
    (words.next().unwrap_or_default(), words.collect())
}

/// The column COMMAND: arguments with blanks in quotes.
pub fn command(spec: &Spec) -> String {
    let (path, arguments) = path_and_args(spec);
    let quoted = arguments.into_iter().map(|word| if word.contains(' ') { format!("'{word}'") } else { word });
    std::iter::once(path).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// `12:07`, in UTC.
pub fn clock(time: SystemTime) -> String {
    times::rfc3339(time).get(11..16).unwrap_or("00:00").to_owned()
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountShape {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    source: String,
    destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<&'static str>,
    mode: &'static str,
    #[serde(rename = "RW")]
    writable: bool,
    propagation: &'static str,
}

pub fn mounts(container: &Snapshot) -> Vec<MountShape> {
    container.mounts.iter().map(mount).collect()
}

fn mount(mount: &ResolvedMount) -> MountShape {
    let (kind, mode, propagation) = match mount.kind {
        MountKind::Bind => ("bind", "", "rprivate"),
        MountKind::Volume => ("volume", "z", ""),
        MountKind::Tmpfs => ("tmpfs", "", ""),
    };
    MountShape {
        kind,
        name: mount.volume.clone(),
        source: if mount.kind == MountKind::Tmpfs { String::new() } else { mount.source.display().to_string() },
        destination: mount.target.clone(),
        driver: (mount.kind == MountKind::Volume).then_some("local"),
        mode: if mount.read_only { "ro" } else { mode },
        writable: !mount.read_only,
        propagation,
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointShape {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<IpamShape>,
    links: Option<Vec<String>>,
    aliases: Option<Vec<String>>,
    mac_address: String,
    driver_opts: Option<BTreeMap<String, String>>,
    gw_priority: i64,
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: &'static str,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: &'static str,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "DNSNames")]
    dns_names: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct IpamShape {
    #[serde(rename = "IPv4Address")]
    ipv4: String,
}

/// By the network's name.
pub fn endpoints(container: &Snapshot) -> BTreeMap<String, EndpointShape> {
    let shape = |(name, endpoint): (&String, &Endpoint)| {
        let fixed = container.spec.endpoints.get(name).and_then(|asked| asked.ipv4);
        (name.clone(), endpoint_shape(endpoint, fixed.map(|ipv4| IpamShape { ipv4: ipv4.to_string() })))
    };
    container.endpoints.iter().map(shape).collect()
}

fn endpoint_shape(endpoint: &Endpoint, ipam_config: Option<IpamShape>) -> EndpointShape {
    let filled = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    EndpointShape {
        ipam_config,
        links: None,
        aliases: filled(&endpoint.aliases),
        mac_address: endpoint.mac.clone(),
        driver_opts: None,
        gw_priority: 0,
        network_id: endpoint.network_id.clone(),
        endpoint_id: endpoint.endpoint_id.clone(),
        gateway: endpoint.gateway.map(|address| address.to_string()).unwrap_or_default(),
        ip_address: endpoint.address.map(|address| address.to_string()).unwrap_or_default(),
        ip_prefix_len: if endpoint.address.is_some() { endpoint.prefix } else { 0 },
        ipv6_gateway: "",
        global_ipv6_address: "",
        global_ipv6_prefix_len: 0,
        dns_names: filled(&endpoint.names),
    }
}
