//! `HostConfig` as `inspect` shows it: what was sent, and Docker's defaults for the rest. Pure.

use serde_json::{Map, Value, json};

const NULLS: [&str; 13] = [
    "Binds",
    "VolumesFrom",
    "CapAdd",
    "CapDrop",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "SecurityOpt",
    "DeviceCgroupRules",
    "DeviceRequests",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
];
const LISTS: [&str; 12] = [
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
    "Devices",
    "Ulimits",
    "MaskedPaths",
    "ReadonlyPaths",
];
const NUMBERS: [&str; 15] = [
    "OomScoreAdj",
    "CpuShares",
    "Memory",
    "NanoCpus",
    "BlkioWeight",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "MemoryReservation",
    "MemorySwap",
    "CpuCount",
    "CpuPercent",
    "IOMaximumIOps",
    "IOMaximumBandwidth",
];
const TEXTS: [&str; 10] = [
    "ContainerIDFile",
    "VolumeDriver",
    "Cgroup",
    "PidMode",
    "UTSMode",
    "UsernsMode",
    "Isolation",
    "CgroupParent",
    "CpusetCpus",
    "CpusetMems",
];
const FLAGS: [&str; 4] = ["AutoRemove", "Privileged", "PublishAllPorts", "ReadonlyRootfs"];

/// What was sent wins; what Docker fills in for empty values is filled in too.
pub fn host_config(sent: Map<String, Value>, default_runtime: &str, network_mode: &str) -> Value {
    let mut stored = defaults();
    stored.extend(sent);
    let fill = |stored: &mut Map<String, Value>, key: &str, value: Value| {
        let empty = stored.get(key).is_none_or(|found| *found == json!("") || *found == json!(0));
        if empty {
            stored.insert(key.to_owned(), value);
        }
    };
    fill(&mut stored, "IpcMode", json!("private"));
    fill(&mut stored, "CgroupnsMode", json!("private"));
    fill(&mut stored, "ShmSize", json!(64 << 20));
    fill(&mut stored, "Runtime", json!(default_runtime));
    stored.insert("NetworkMode".to_owned(), json!(network_mode));
    nested(&mut stored, "LogConfig", &[("Type", json!("json-file")), ("Config", json!({}))]);
    nested(&mut stored, "RestartPolicy", &[("Name", json!("no")), ("MaximumRetryCount", json!(0))]);
    Value::Object(stored)
}

fn nested(stored: &mut Map<String, Value>, key: &str, defaults: &[(&str, Value)]) {
    let entry = stored.entry(key).or_insert_with(|| json!({}));
    let Value::Object(fields) = entry else { return };
    for (name, default) in defaults {
        let found = fields.entry(*name).or_insert_with(|| default.clone());
        if *found == json!("") {
            *found = default.clone();
        }
    }
}

fn defaults() -> Map<String, Value> {
    let kinds: [(&[&str], Value); 6] = [
        (&NULLS, Value::Null),
        (&LISTS, json!([])),
        (&NUMBERS, json!(0)),
        (&TEXTS, json!("")),
        (&FLAGS, json!(false)),
        (&["PortBindings"], json!({})),
    ];
    let mut defaults = Map::new();
    for (keys, value) in kinds {
        defaults.extend(keys.iter().map(|key| ((*key).to_owned(), value.clone())));
    }
    defaults.insert("ConsoleSize".to_owned(), json!([0, 0]));
    defaults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_comes_back_and_the_rest_is_filled_in() {
        let Value::Object(sent) = json!({
            "Binds": ["/m:/m"], "Runtime": "", "ShmSize": 0, "NetworkMode": "default", "Unknown": {"kept": 1},
            "LogConfig": {"Type": "", "Config": {"max-size": "5m"}}, "IpcMode": "host",
        }) else {
            unreachable!()
        };
        let stored = host_config(sent, "wharf", "bridge");
        for (key, value) in [
            ("Binds", json!(["/m:/m"])),
            ("Unknown", json!({"kept": 1})),
            ("LogConfig", json!({"Type": "json-file", "Config": {"max-size": "5m"}})),
            ("RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
            ("NetworkMode", json!("bridge")),
            ("IpcMode", json!("host")),
            ("ShmSize", json!(67_108_864)),
            ("Runtime", json!("wharf")),
            ("Memory", json!(0)),
        ] {
            assert_eq!(stored[key], value, "{key}");
        }
    }
}
