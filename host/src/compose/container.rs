//! A service → the body of the request that makes its container.

use serde_json::{Map, Value, json};

use super::project::{Project, Service};
use super::quantities::plain;
use super::{mounts, ports};
use crate::error::{Error, Result};

impl Project {
    /// For the container of that number, from 1 up.
    pub fn request(&self, service: &Service, number: u32) -> Result<Value> {
        let on = |key: &str| service.keys.get(key).is_some_and(|value| *value == true);
        let variables = service.keys.get("environment").and_then(Value::as_object).into_iter().flatten();
        let variables: Vec<String> = variables.map(|(name, value)| format!("{name}={}", plain(value))).collect();
        let (exposed, bindings) = ports::bindings(&service.ports()?, service.keys.get("expose"));
        let (mode, endpoints) = self.attachments(service)?;
        let mut body = json!({
            "Image": self.image(service), "Env": variables, "Labels": self.labels(service, number), "ExposedPorts": exposed,
            "Tty": on("tty"), "OpenStdin": on("stdin_open"), "HostConfig": self.host(service, bindings, &mode)?,
            "NetworkingConfig": {"EndpointsConfig": endpoints},
        });
        // What is not written is left to the image.
        let written = [
            ("Cmd", service.keys.get("command").cloned()),
            ("Entrypoint", service.keys.get("entrypoint").cloned()),
            ("WorkingDir", service.text("working_dir").map(Value::from)),
            ("User", service.keys.get("user").map(|user| plain(user).into())),
            ("Hostname", service.text("hostname").map(Value::from)),
            ("StopSignal", service.text("stop_signal").map(Value::from)),
            ("StopTimeout", service.stop_timeout()?.map(Value::from)),
            ("Healthcheck", service.health()?),
        ];
        for (field, value) in written {
            if let Some(value) = value {
                body[field] = value;
            }
        }
        Ok(body)
    }

    fn host(&self, service: &Service, bindings: Value, mode: &str) -> Result<Value> {
        let text = |key: &str| service.text(key).unwrap_or_default();
        let on = |key: &str| service.keys.get(key).is_some_and(|value| *value == true);
        let volumes = service.keys.get("volumes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let field = format!("services.{}.volumes", service.name);
        let name = |key: &str| self.volume_name(key);
        let mut host = mounts::request(volumes, service.keys.get("tmpfs"), &name, &field)?;
        let others = json!({
            "PortBindings": bindings, "NetworkMode": mode, "RestartPolicy": service.restart()?,
            "Memory": service.memory()?, "NanoCpus": service.nano_cpus()?, "DeviceRequests": service.gpus()?,
            "Runtime": text("runtime"), "LogConfig": service.log(), "IpcMode": text("ipc"), "PidMode": text("pid"),
            "Privileged": on("privileged"), "ReadonlyRootfs": on("read_only"), "ShmSize": service.shared_memory()?,
            "CapAdd": service.list("cap_add")?, "SecurityOpt": service.list("security_opt")?,
            "CpusetCpus": service.keys.get("cpuset").map(plain).unwrap_or_default(),
            "ExtraHosts": service.extra_hosts()?,
            "PidsLimit": service.keys.get("pids_limit").and_then(Value::as_i64).unwrap_or(0),
        });
        if let (Value::Object(host), Value::Object(others)) = (&mut host, others) {
            host.extend(others);
            if let Some(init) = service.keys.get("init").filter(|init| init.is_boolean()) {
                host.insert("Init".to_owned(), init.clone());
            }
        }
        Ok(host)
    }

    /// The mode, and every network it joins with its names there.
    fn attachments(&self, service: &Service) -> Result<(String, Value)> {
        if let Some(mode) = service.text("network_mode") {
            return Ok((self.network_mode(service, mode)?, json!({})));
        }
        let joined = service.keys.get("networks").and_then(Value::as_object).into_iter().flatten();
        let mut endpoints = Map::new();
        for (key, how) in joined {
            let own = how["aliases"].as_array().into_iter().flatten().map(plain);
            let names: Vec<String> = std::iter::once(service.name.clone()).chain(own).collect();
            let mut endpoint = json!({"Aliases": names});
            if let Some(address) = how["ipv4_address"].as_str() {
                endpoint["IPAMConfig"] = json!({"IPv4Address": address});
            }
            endpoints.insert(self.network_name(key), endpoint);
        }
        // Where there are several, the mode names the first.
        let mode = endpoints.keys().next().cloned().unwrap_or_else(|| "none".to_owned());
        Ok((mode, endpoints.into()))
    }

    fn network_mode(&self, service: &Service, mode: &str) -> Result<String> {
        let Some(name) = mode.strip_prefix("service:") else { return Ok(mode.to_owned()) };
        let field = format!("services.{}.network_mode", service.name);
        let other = self.services.get(name).ok_or_else(|| Error::invalid(format!("{field}: no service {name}")))?;
        Ok(format!("container:{}", self.container_name(other, 1)))
    }
}
