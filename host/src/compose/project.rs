//! A compose file as a project: its services, checked and in the order of their dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::canonical::{Surroundings, canonical};
use super::document::{unknown_in_service, unknown_top};
use super::interpolate::{Lookup, escape, fill};
use super::ports::{Claim, Published, parse};
use super::quantities::plain;
use crate::error::{Error, ErrorKind, Result};

#[derive(Debug)]
pub struct Project {
    pub name: String,
    /// What relative paths start from.
    pub folder: PathBuf,
    /// Those of the chosen profiles.
    pub services: BTreeMap<String, Service>,
    /// Those of other profiles: not started, and not strangers either.
    pub resting: BTreeMap<String, Service>,
    pub networks: Map<String, Value>,
    pub volumes: Map<String, Value>,
    pub warnings: Vec<String>,
}

/// One service, every key in its canonical form.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub keys: Map<String, Value>,
}

/// Which project, and which part of it.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    pub name: &'a str,
    pub folder: &'a Path,
    pub profiles: &'a BTreeSet<String>,
    /// Services named on the command line belong to it whatever their profile.
    pub named: &'a [String],
}

impl Project {
    /// `document` is the YAML as JSON.
    pub fn read(mut document: Value, choice: Choice<'_>, lookup: Lookup<'_>) -> Result<Project> {
        let mut warnings = Vec::new();
        fill(&mut document, lookup, &mut warnings)?;
        let Value::Object(mut top) = document else {
            return Err(Error::invalid("the compose file is no map: it begins with `services:`"));
        };
        unknown_top(&top, &mut warnings)?;
        let Some(Value::Object(written)) = top.remove("services") else {
            return Err(Error::invalid("the compose file has no `services:`"));
        };
        let map = |value: Option<Value>| value.and_then(|value| value.as_object().cloned()).unwrap_or_default();
        let mut project = Project {
            name: choice.name.to_owned(),
            folder: choice.folder.to_owned(),
            services: BTreeMap::new(),
            resting: BTreeMap::new(),
            networks: map(top.remove("networks")),
            volumes: map(top.remove("volumes")),
            warnings,
        };
        for (name, value) in written {
            project.add(name, value, choice, lookup)?;
        }
        project.check_names(choice.named)?;
        project.order()?;
        for service in project.services.values() {
            service.replicas()?;
            project.request(service, 1)?;
        }
        project.warnings.dedup();
        Ok(project)
    }

    fn add(&mut self, name: String, value: Value, choice: Choice<'_>, lookup: Lookup<'_>) -> Result<()> {
        let Value::Object(keys) = value else {
            return Err(Error::invalid(format!("services.{name} must be a map with `image:` or `build:`")));
        };
        unknown_in_service(&name, &keys, &mut self.warnings)?;
        if !keys.contains_key("image") && !keys.contains_key("build") {
            return Err(Error::invalid(format!("service {name:?} has neither an image nor a build context")));
        }
        let (folder, volumes, networks) = (choice.folder, &self.volumes, &self.networks);
        let keys = canonical(&name, keys, &Surroundings { folder, lookup, volumes, networks })?;
        let service = Service { name: name.clone(), keys };
        if choice.named.contains(&name) || service.in_profile(choice.profiles) {
            self.services.insert(name, service);
        } else {
            self.resting.insert(name, service);
        }
        Ok(())
    }

    /// Names that services are called by must be there and mean one of them.
    fn check_names(&self, named: &[String]) -> Result<()> {
        if let Some(name) = named.iter().find(|name| !self.services.contains_key(*name)) {
            let known: Vec<&str> = self.services.keys().map(String::as_str).collect();
            return Err(Error::invalid(format!("no such service: {name}; the file has {}", known.join(", "))));
        }
        let mut taken: BTreeMap<String, &str> = BTreeMap::new();
        for service in self.services.values() {
            let container = self.container_name(service, 1);
            if let Some(other) = taken.insert(container.clone(), &service.name) {
                let (a, b) = (other, &service.name);
                return Err(Error::invalid(format!("services {a} and {b} both have container_name {container}")));
            }
        }
        for service in self.services.values() {
            for (name, _) in service.depends_on() {
                let by = &service.name;
                if let Some(resting) = self.resting.get(&name) {
                    let profiles: Vec<String> = resting.profiles().collect();
                    let how = profiles.join(", ");
                    return Err(Error::invalid(format!(
                        "service {name} is required by {by} but is disabled: enable it with --profile {how}"
                    )));
                }
                if !self.services.contains_key(&name) {
                    return Err(Error::invalid(format!("service {by} depends on undefined service {name}")));
                }
            }
        }
        Ok(())
    }

    /// Services, each after those it depends on.
    pub fn order(&self) -> Result<Vec<&Service>> {
        let mut ordered: Vec<&Service> = Vec::new();
        while ordered.len() < self.services.len() {
            let done = |name: &String| ordered.iter().any(|service| service.name == *name);
            let ready = self.services.values().find(|one| !done(&one.name) && one.depends_on().keys().all(done));
            let Some(service) = ready else {
                let waiting = self.services.keys().filter(|name| !done(name)).map(String::as_str);
                let names = waiting.collect::<Vec<_>>().join(", ");
                return Err(Error::invalid(format!("depends_on of {names} leads in a circle")));
            };
            ordered.push(service);
        }
        Ok(ordered)
    }

    /// Services named and, where `deep`, those they need; all of them where none is named.
    pub fn chosen(&self, named: &[String], deep: bool) -> BTreeSet<String> {
        if named.is_empty() {
            return self.services.keys().cloned().collect();
        }
        let mut all: BTreeSet<String> = named.iter().cloned().collect();
        let mut open: Vec<String> = named.to_vec();
        while let (true, Some(name)) = (deep, open.pop()) {
            let needed = self.services.get(&name).map(Service::depends_on).unwrap_or_default();
            open.extend(needed.into_keys().filter(|needed| all.insert(needed.clone())));
        }
        all
    }

    /// What services want of the host's ports.
    pub fn claims(&self, chosen: &BTreeSet<String>) -> Result<Vec<Claim<'_>>> {
        let mut claims = Vec::new();
        for service in self.services.values().filter(|service| chosen.contains(&service.name)) {
            let (name, ports, replicas) = (&service.name, service.ports()?, service.replicas()?);
            if let Some(port) = ports.iter().find_map(|port| port.published).filter(|_| replicas > 1) {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "the \"{name}\" service specifies a port on the host. If multiple containers for this service \
                         are created on a single host, the port will clash: {replicas} were asked for, and {port} can be \
                         published once; leave the host's port out, which gives each a free one"
                    ),
                ));
            }
            if replicas > 0 {
                claims.push(Claim { kind: "service", name: name.as_str().into(), ports });
            }
        }
        Ok(claims)
    }

    /// `--scale NAME=N`.
    pub fn scale(&mut self, name: &str, replicas: u32) -> Result<()> {
        let known = self.services.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let service = self.services.get_mut(name);
        let service =
            service.ok_or_else(|| Error::invalid(format!("no such service: {name}; the file has {known}")))?;
        service.keys.insert("scale".to_owned(), replicas.into());
        service.replicas().map(drop)
    }

    /// The whole, as `compose config` shows it.
    pub fn canonical(&self) -> Value {
        let services: Map<String, Value> =
            self.services.iter().map(|(name, one)| (name.clone(), one.keys.clone().into())).collect();
        let named = |all: &Map<String, Value>, name: &dyn Fn(&str) -> String| -> Value {
            let one = |(key, value): (&String, &Value)| {
                let mut settings = value.as_object().cloned().unwrap_or_default();
                settings.insert("name".to_owned(), name(key).into());
                (key.clone(), settings.into())
            };
            all.iter().map(one).collect::<Map<_, _>>().into()
        };
        let mut networks = self.networks.clone();
        if self.services.values().any(|service| service.networks().any(|name| name == "default")) {
            networks.entry("default").or_insert_with(|| json!({}));
        }
        let mut whole = json!({"name": self.name, "services": services});
        for (key, all) in [
            ("networks", named(&networks, &|key| self.network_name(key))),
            ("volumes", named(&self.volumes, &|key| self.volume_name(key))),
        ] {
            if all.as_object().is_some_and(|all| !all.is_empty()) {
                whole[key] = all;
            }
        }
        escape(&mut whole);
        whole
    }
}

impl Service {
    /// Service → condition.
    pub fn depends_on(&self) -> BTreeMap<String, String> {
        let all = self.keys.get("depends_on").and_then(Value::as_object).into_iter().flatten();
        all.map(|(name, how)| (name.clone(), plain(&how["condition"]))).collect()
    }

    /// How many containers it has: `scale`, or `deploy.replicas`.
    pub fn replicas(&self) -> Result<u32> {
        let deploy = self.keys.get("deploy").map(|deploy| &deploy["replicas"]);
        let mut written = [("scale", self.keys.get("scale")), ("deploy.replicas", deploy)].into_iter();
        let written = written.find_map(|(key, count)| Some((key, count.filter(|count| !count.is_null())?)));
        let Some((key, count)) = written else { return Ok(1) };
        let name = &self.name;
        let replicas: u32 = plain(count).parse().map_err(|_| {
            Error::invalid(format!("services.{name}.{key}: {} is no number of containers", plain(count)))
        })?;
        match self.text("container_name") {
            Some(own) if replicas > 1 => Err(Error::invalid(format!(
                "the \"{name}\" service is using the custom container name \"{own}\". Docker requires each container \
                 to have a unique name. Remove the custom name to scale the service"
            ))),
            _ => Ok(replicas),
        }
    }

    pub fn ports(&self) -> Result<Vec<Published>> {
        parse(self.keys.get("ports"), &format!("services.{}.ports", self.name))
    }

    /// The networks it joins, by their names in the file.
    pub fn networks(&self) -> impl Iterator<Item = &String> {
        self.keys.get("networks").and_then(Value::as_object).into_iter().flat_map(Map::keys)
    }

    /// The named volumes it mounts, by their names in the file.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        let all = self.keys.get("volumes").and_then(Value::as_array).into_iter().flatten();
        all.filter(|volume| volume["type"] == "volume").filter_map(|volume| volume["source"].as_str())
    }

    fn profiles(&self) -> impl Iterator<Item = String> {
        self.keys.get("profiles").and_then(Value::as_array).into_iter().flatten().map(plain)
    }

    fn in_profile(&self, chosen: &BTreeSet<String>) -> bool {
        let mut own = self.profiles().peekable();
        own.peek().is_none() || chosen.contains("*") || own.any(|profile| chosen.contains(&profile))
    }
}
