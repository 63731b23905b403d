//! The routes under `/networks`.

use std::collections::BTreeMap;

use axum::response::Response;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::call::{Call, blocking, created, empty, no_content, ok};
use super::containers::create::merge::endpoint;
use super::containers::create::request::EndpointRequest;
use super::containers::prune::filter as prune_filter;
use super::filters::Filters;
use super::router::unknown;
use super::times;
use crate::container::{Endpoint, Network, NetworkSpec};
use crate::error::{Error, Result};

pub async fn route(call: Call, method: &Method, path: &[&str]) -> Result<Response> {
    match (method.as_str(), path) {
        ("GET", []) => list(&call),
        ("GET", [id]) => ok(&shape(&call.control.containers.networks().find(id)?)),
        ("POST", ["create"]) => create(call).await,
        ("POST", ["prune"]) => prune(call).await,
        ("POST", [id, "connect"]) => connect(call, id).await,
        ("POST", [id, "disconnect"]) => disconnect(call, id).await,
        ("DELETE", [id]) => remove(call, id).await,
        _ => Err(unknown()),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct CreateRequest {
    name: String,
    driver: String,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Ipam {
    config: Vec<IpamConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct IpamConfig {
    subnet: Option<String>,
    gateway: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ConnectRequest {
    container: String,
    endpoint_config: EndpointRequest,
    force: bool,
}

async fn create(mut call: Call) -> Result<Response> {
    let request: CreateRequest = call.json().await?;
    let mut ranges = request.ipam.config.into_iter();
    let range = ranges.next().unwrap_or_default();
    if ranges.next().is_some() {
        return Err(Error::invalid("a network has one subnet here: name one --subnet"));
    }
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let spec = NetworkSpec {
        name: request.name,
        driver: request.driver,
        subnet: given(range.subnet),
        gateway: given(range.gateway),
        internal: request.internal,
        attachable: request.attachable,
        labels: request.labels,
        options: request.options,
    };
    let networks = call.control.containers.networks().clone();
    let network = blocking(move || networks.create(spec)).await?;
    let warning = if request.enable_ipv6 { "--ipv6 has no effect here: networks are IPv4." } else { "" };
    created(&json!({"Id": network.id, "Warning": warning}))
}

fn list(call: &Call) -> Result<Response> {
    let known = ["name", "id", "driver", "label", "scope", "type", "dangling"];
    let filters = Filters::parse(&call.query, &known)?;
    let dangling = filters.flag("dangling")?;
    if let Some(wrong) = filters.values("type").find(|kind| !["custom", "builtin"].contains(kind)) {
        return Err(Error::invalid(format!("invalid filter: 'type'='{wrong}'")));
    }
    let mut networks = call.control.containers.networks().list();
    networks.retain(|network| {
        let predefined = network.is_predefined();
        filters.admits_name("name", &network.name)
            && filters.admits_id("id", &network.id)
            && filters.admits("driver", |driver| driver == network.driver)
            && filters.admits("scope", |scope| scope == "local")
            && filters.admits("type", |kind| (kind == "builtin") == predefined)
            && filters.admits_labels(&network.labels)
            && dangling.is_none_or(|dangling| dangling == (!predefined && network.members.is_empty()))
    });
    ok(&networks.iter().map(shape).collect::<Vec<_>>())
}

fn shape(network: &Network) -> Value {
    let range = network.subnet.map(|subnet| {
        let gateway = network.gateway.map(|gateway| gateway.to_string());
        json!({"Subnet": subnet.to_string(), "Gateway": gateway.unwrap_or_default()})
    });
    let members: Map<String, Value> =
        network.members.iter().map(|(id, (name, endpoint))| (id.clone(), member(name, endpoint))).collect();
    json!({
        "Name": network.name, "Id": network.id, "Created": times::rfc3339(network.created), "Scope": "local",
        "Driver": network.driver, "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": Vec::from_iter(range)},
        "Internal": network.internal, "Attachable": network.attachable, "Ingress": false,
        "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": members, "Options": network.options,
        "Labels": network.labels,
    })
}

fn member(name: &str, endpoint: &Endpoint) -> Value {
    let address = endpoint.address.map(|address| format!("{address}/{}", endpoint.prefix));
    json!({
        "Name": name, "EndpointID": endpoint.endpoint_id, "MacAddress": endpoint.mac,
        "IPv4Address": address.unwrap_or_default(), "IPv6Address": "",
    })
}

async fn connect(mut call: Call, id: &str) -> Result<Response> {
    let request: ConnectRequest = call.json().await?;
    let spec = endpoint(&request.endpoint_config)?;
    call.control.containers.connect(id, &request.container, spec).await?;
    empty(StatusCode::OK)
}

async fn disconnect(mut call: Call, id: &str) -> Result<Response> {
    let request: ConnectRequest = call.json().await?;
    call.control.containers.disconnect(id, &request.container, request.force).await?;
    empty(StatusCode::OK)
}

async fn remove(call: Call, id: &str) -> Result<Response> {
    let (networks, id) = (call.control.containers.networks().clone(), id.to_owned());
    blocking(move || networks.remove(&id)).await?;
    no_content()
}

async fn prune(call: Call) -> Result<Response> {
    let filters = Filters::parse(&call.query, &["until", "label", "label!"])?;
    let (networks, filter) = (call.control.containers.networks().clone(), prune_filter(&filters)?);
    let pruned = blocking(move || networks.prune(&filter)).await?;
    ok(&json!({"NetworksDeleted": pruned.removed}))
}
