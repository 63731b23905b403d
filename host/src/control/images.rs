//! The routes under `/images` that concern what is stored here; pulls and pushes are in `transfer`, builds in `build`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::response::Response;
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::call::{Call, blocking, empty, not_offered, ok};
use super::containers::prune::filter as prune_filter;
use super::filters::{Filters, glob};
use super::router::unknown;
use super::{Control, archives, times, transfer};
use crate::container::{Event, EventKind};
use crate::error::{Error, Result};
use crate::image::{Digest, Image, PruneFilter, Reference, Removed, Use};

pub async fn route(call: Call, method: &Method, path: &[&str]) -> Result<Response> {
    match (method.as_str(), path) {
        ("GET", ["json"]) => list(call).await,
        ("GET", ["get"]) => {
            let names = call.query.all("names").flat_map(|names| names.split(',')).map(str::to_owned).collect();
            archives::save(call, names).await
        }
        ("GET", ["search"]) => not_offered("search is not offered: a registry's own pages say what it has"),
        ("POST", ["load"]) => archives::load(call).await,
        ("POST", ["create"]) => transfer::pull(call).await,
        ("POST", ["prune"]) => prune(call).await,
        ("GET", [name @ .., "json"]) if !name.is_empty() => inspect(call, &name.join("/")).await,
        ("GET", [name @ .., "history"]) if !name.is_empty() => history(call, &name.join("/")).await,
        ("GET", [name @ .., "get"]) if !name.is_empty() => archives::save(call, vec![name.join("/")]).await,
        ("POST", [name @ .., "push"]) if !name.is_empty() => transfer::push(call, &name.join("/")).await,
        ("POST", [name @ .., "tag"]) if !name.is_empty() => tag(call, &name.join("/")).await,
        ("DELETE", name) if !name.is_empty() => remove(call, &name.join("/")).await,
        _ => Err(unknown()),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Row {
    pub id: String,
    parent_id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    created: u64,
    size: u64,
    /// -1 where nobody counted, like `containers`.
    pub shared_size: i64,
    labels: BTreeMap<String, String>,
    pub containers: i64,
}

pub fn row(image: &Image) -> Row {
    Row {
        id: image.id.to_string(),
        parent_id: image.parent.as_ref().map(Digest::to_string).unwrap_or_default(),
        repo_tags: image.tags.clone(),
        repo_digests: image.repo_digests.clone(),
        created: times::unix(image.created),
        size: image.size,
        shared_size: -1,
        labels: image.labels().clone(),
        containers: -1,
    }
}

async fn list(call: Call) -> Result<Response> {
    let known = ["reference", "dangling", "label", "before", "since", "until"];
    let filters = Filters::parse(&call.query, &known)?;
    let dangling = filters.flag("dangling")?;
    let until = filters.values("until").next().map(|text| times::parse(text, SystemTime::now())).transpose()?;
    let images = call.control.images.clone();
    let rows = move || {
        let created = |key| match filters.values(key).next() {
            Some(name) => images.find(name).map(|image| Some(image.created)),
            None => Ok(None),
        };
        let (before, since) = (created("before")?, created("since")?);
        let mut list = images.list()?;
        list.retain(|image| {
            dangling.is_none_or(|dangling| dangling == image.tags.is_empty())
                && before.is_none_or(|before| image.created < before)
                && since.is_none_or(|since| image.created > since)
                && until.is_none_or(|until| image.created < until)
                && filters.admits_labels(image.labels())
        });
        if filters.has("reference") {
            // Only the names that match are shown.
            for image in &mut list {
                image.tags.retain(|tag| filters.admits("reference", |pattern| refers(pattern, tag)));
            }
            list.retain(|image| !image.tags.is_empty());
        }
        Ok(list.iter().map(row).collect::<Vec<_>>())
    };
    ok(&blocking(rows).await?)
}

/// A pattern without a tag means every tag.
fn refers(pattern: &str, tag: &str) -> bool {
    let name = tag.rfind(':').filter(|at| !tag[*at..].contains('/')).map_or(tag, |at| &tag[..at]);
    glob(pattern, tag) || glob(pattern, name)
}

async fn inspect(call: Call, name: &str) -> Result<Response> {
    let (images, name) = (call.control.images.clone(), name.to_owned());
    let image = blocking(move || images.find(&name)).await?;
    ok(&shape(&image))
}

fn shape(image: &Image) -> Value {
    let run = &image.config.config;
    let set = |names: Vec<&String>| {
        let entries: serde_json::Map<String, Value> = names.into_iter().map(|name| (name.clone(), json!({}))).collect();
        if entries.is_empty() { Value::Null } else { Value::Object(entries) }
    };
    let health = run.healthcheck.as_ref().map(|check| serde_json::to_value(check).unwrap_or_default());
    let config = json!({
        "Entrypoint": run.entrypoint, "Cmd": run.cmd, "Env": run.env,
        "ExposedPorts": set(run.exposed_ports.iter().collect()), "Volumes": set(run.volumes.iter().collect()),
        "WorkingDir": run.working_dir, "Labels": run.labels, "User": run.user, "StopSignal": run.stop_signal,
        "Healthcheck": health, "OnBuild": null,
    });
    let created = image.config.created.clone().unwrap_or_else(|| times::rfc3339(image.created));
    json!({
        "Id": image.id.to_string(), "RepoTags": image.tags, "RepoDigests": image.repo_digests,
        "Parent": image.parent.as_ref().map(Digest::to_string).unwrap_or_default(), "Comment": "", "Created": created,
        "DockerVersion": "", "Author": image.config.author.clone().unwrap_or_default(), "Config": config,
        // Gone from the API since 1.45; docker-compose 1.29 dies without it.
        "ContainerConfig": config,
        "Architecture": image.config.architecture, "Os": image.config.os, "Size": image.size,
        "GraphDriver": {"Name": "overlay2", "Data": null},
        "RootFS": {"Type": "layers", "Layers": image.config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": times::rfc3339_or_never(image.last_tagged)},
        "Descriptor": {
            "mediaType": image.media_type, "digest": image.manifest.to_string(), "size": image.manifest_size,
        },
    })
}

async fn history(call: Call, name: &str) -> Result<Response> {
    let (images, name) = (call.control.images.clone(), name.to_owned());
    let entries = blocking(move || images.history(&images.find(&name)?)).await?;
    let lines = entries.iter().map(|entry| {
        let tags = (!entry.tags.is_empty()).then_some(&entry.tags);
        json!({
            "Id": entry.id.as_ref().map_or_else(|| "<missing>".to_owned(), Digest::to_string),
            "Created": times::unix(entry.created), "CreatedBy": entry.created_by, "Tags": tags, "Size": entry.size,
            "Comment": entry.comment,
        })
    });
    ok(&lines.collect::<Vec<_>>())
}

async fn tag(call: Call, name: &str) -> Result<Response> {
    let Some(repository) = call.query.text("repo") else {
        return Err(Error::invalid("invalid reference format: the new name is missing"));
    };
    let text = format!("{repository}:{}", call.query.text("tag").unwrap_or("latest"));
    let reference: Reference = text.parse()?;
    let (images, name, to) = (call.control.images.clone(), name.to_owned(), reference.clone());
    let id = blocking(move || {
        let id = images.find(&name)?.id;
        images.tag(&id, &to)?;
        Ok(id)
    });
    tell(&call.control, "tag", &id.await?.to_string(), &reference.familiar());
    empty(StatusCode::CREATED)
}

async fn remove(call: Call, name: &str) -> Result<Response> {
    let (force, prune_parents) = (call.query.flag("force"), !call.query.flag("noprune"));
    let (control, name) = (call.control.clone(), name.to_owned());
    let removed = blocking(move || {
        let use_of = |id: &Digest| -> Use { control.containers.use_of(id) };
        control.images.remove(&name, force, prune_parents, &use_of)
    });
    ok(&told(&call.control, &removed.await?))
}

/// Tell listeners what was removed, and give the answer.
fn told(control: &Control, removed: &[Removed]) -> Vec<Value> {
    let one = |removed: &Removed| match removed {
        Removed::Untagged(name) => {
            tell(control, "untag", name, name);
            json!({"Untagged": name})
        }
        Removed::Deleted(id) => {
            tell(control, "delete", &id.to_string(), &id.to_string());
            json!({"Deleted": id.to_string()})
        }
    };
    removed.iter().map(one).collect()
}

pub fn tell(control: &Control, action: &str, id: &str, name: &str) {
    control.containers.events().publish(Event::new(EventKind::Image, action, id).with("name", name));
}

/// Without `dangling=false` only images without a name.
async fn prune(call: Call) -> Result<Response> {
    let filters = Filters::parse(&call.query, &["dangling", "until", "label", "label!"])?;
    let common = prune_filter(&filters)?;
    let filter = PruneFilter {
        all: !filters.flag("dangling")?.unwrap_or(true),
        until: common.until,
        labels: common.labels,
        without_labels: common.without_labels,
    };
    let control = call.control.clone();
    let pruned = blocking(move || control.images.prune(&filter, &|id: &Digest| control.containers.uses(id))).await?;
    let deleted = told(&call.control, &pruned.removed);
    tell(&call.control, "prune", "", "");
    ok(&json!({"ImagesDeleted": deleted, "SpaceReclaimed": pruned.reclaimed}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_match_short_names() {
        for (pattern, tag, fits) in [
            ("app", "app:latest", true),
            ("app:latest", "app:latest", true),
            ("app:v1", "app:latest", false),
            ("a*", "app:latest", true),
            ("*:latest", "app:latest", true),
            ("localhost:5000/app", "localhost:5000/app:1", true),
            ("*/app", "localhost:5000/app:1", true),
            ("app", "localhost:5000/app:1", false),
        ] {
            assert_eq!(refers(pattern, tag), fits, "{pattern} {tag}");
        }
    }
}
