//! `-v`, `--mount`, `--tmpfs` and the volumes an image declares, as one list of mounts. Pure: whether a folder exists is
//! found out by whoever mounts it.

use std::collections::BTreeSet;

use super::request::{HostConfig, MountRequest};
use crate::container::spec::{MountKind, MountSpec};
use crate::error::{Error, Result};

/// Suffixes of `-v` that say who shares a mount, which nobody does here.
const SHARING: [&str; 12] = [
    "z",
    "Z",
    "cached",
    "delegated",
    "consistent",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "bind-recursive",
];

/// `declared` are paths that get a volume of their own unless something else is mounted there.
pub fn mounts<'a>(config: &HostConfig, declared: impl Iterator<Item = &'a str>) -> Result<Vec<MountSpec>> {
    let mut mounts = Mounts::default();
    for mount in &config.mounts {
        mounts.add(from_mount(mount)?)?;
    }
    let from_flags = mounts.taken.clone();
    for bind in &config.binds {
        let mount = from_bind(bind)?;
        // Compose names one mount in both notations.
        if !from_flags.contains(&mount.target) {
            mounts.add(mount)?;
        }
    }
    for target in config.tmpfs.keys() {
        let target = target_path(target).ok_or_else(|| Error::invalid(not_absolute("tmpfs", target)))?;
        mounts.add(MountSpec { kind: MountKind::Tmpfs, ..anonymous(target) })?;
    }
    for target in declared {
        let Some(target) = target_path(target) else {
            return Err(Error::invalid(format!(
                "invalid volume specification: '{target}': invalid mount path: '{target}' mount path must be absolute"
            )));
        };
        if !mounts.taken.contains(&target) {
            mounts.add(MountSpec { anonymous: true, ..anonymous(target) })?;
        }
    }
    Ok(mounts.list)
}

#[derive(Default)]
struct Mounts {
    list: Vec<MountSpec>,
    taken: BTreeSet<String>,
}

impl Mounts {
    fn add(&mut self, mount: MountSpec) -> Result<()> {
        if !self.taken.insert(mount.target.clone()) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", mount.target)));
        }
        self.list.push(mount);
        Ok(())
    }
}

fn anonymous(target: String) -> MountSpec {
    let (kind, source) = (MountKind::Volume, String::new());
    MountSpec { kind, source, target, read_only: false, anonymous: false, create_source: false, no_copy: false }
}

/// `SOURCE:TARGET[:OPTIONS]`, or a target alone.
fn from_bind(bind: &str) -> Result<MountSpec> {
    let invalid = |why: &str| Err(Error::invalid(format!("invalid volume specification: '{bind}'{why}")));
    let parts: Vec<&str> = bind.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] if !source.is_empty() => (*source, *target, ""),
        [source, target, options] if !source.is_empty() => (*source, *target, *options),
        _ => return invalid(""),
    };
    let Some(path) = target_path(target) else {
        return invalid(&format!(": invalid mount path: '{target}' mount path must be absolute"));
    };
    if path == "/" {
        return invalid(": invalid specification: destination can't be '/'");
    }
    let (mut read_only, mut no_copy) = (false, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "nocopy" | "volume-nocopy" => no_copy = true,
            option if SHARING.contains(&option) => {}
            _ => return Err(Error::invalid(format!("invalid mode: {options}"))),
        }
    }
    let kind = if source.starts_with('/') { MountKind::Bind } else { MountKind::Volume };
    if kind == MountKind::Volume && !source.is_empty() && !is_volume_name(source) {
        return Err(Error::invalid(format!(
            "create {source}: \"{source}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    let create_source = kind == MountKind::Bind;
    Ok(MountSpec {
        kind,
        source: source.to_owned(),
        target: path,
        read_only,
        anonymous: source.is_empty(),
        create_source,
        no_copy,
    })
}

fn from_mount(mount: &MountRequest) -> Result<MountSpec> {
    let invalid = |why: String| Err(Error::invalid(format!("invalid mount config for type \"{}\": {why}", mount.kind)));
    let kind = match mount.kind.as_str() {
        "bind" => MountKind::Bind,
        "volume" => MountKind::Volume,
        "tmpfs" => MountKind::Tmpfs,
        other => return invalid(format!("mount type unknown: \"{other}\"")),
    };
    if mount.target.is_empty() {
        return invalid("field Target must not be empty".to_owned());
    }
    let Some(target) = target_path(&mount.target) else {
        return invalid(format!("invalid mount path: '{}' mount path must be absolute", mount.target));
    };
    if target == "/" {
        return invalid("invalid specification: destination can't be '/'".to_owned());
    }
    match kind {
        MountKind::Bind if mount.source.is_empty() => return invalid("field Source must not be empty".to_owned()),
        MountKind::Bind if !mount.source.starts_with('/') => {
            return invalid(format!("invalid mount path: '{}' mount path must be absolute", mount.source));
        }
        MountKind::Tmpfs if !mount.source.is_empty() => {
            return invalid("field Source must not be specified".to_owned());
        }
        _ => {}
    }
    let anonymous = kind == MountKind::Volume && mount.source.is_empty();
    let (source, read_only) = (mount.source.clone(), mount.read_only);
    let no_copy = mount.volume_options.no_copy;
    Ok(MountSpec { kind, source, target, read_only, anonymous, create_source: false, no_copy })
}

fn is_volume_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() > 1
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn not_absolute(kind: &str, target: &str) -> String {
    format!("invalid mount config for type \"{kind}\": invalid mount path: '{target}' mount path must be absolute")
}

/// Absolute, without `.`, `..` and doubled slashes; `None` for a relative one.
fn target_path(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.strip_prefix('/')?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> String {
        match from_bind(text) {
            Ok(mount) => {
                let mode = if mount.read_only { "ro" } else { "rw" };
                format!("{:?} {} {} {mode} {}", mount.kind, mount.source, mount.target, mount.anonymous)
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn binds() {
        for (text, expected) in [
            ("/m:/m2:ro", "Bind /m /m2 ro false"),
            ("/m:/m2", "Bind /m /m2 rw false"),
            ("vol1:/data/", "Volume vol1 /data rw false"),
            ("vol1:/data:z,ro", "Volume vol1 /data ro false"),
            ("/data", "Volume  /data rw true"),
            ("/m:/a/../b//c", "Bind /m /b/c rw false"),
            ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
            (":/x", "invalid volume specification: ':/x'"),
            ("/m:/x:what", "invalid mode: what"),
            ("/m:/", "invalid volume specification: '/m:/': invalid specification: destination can't be '/'"),
            ("/m:x", "invalid volume specification: '/m:x': invalid mount path: 'x' mount path must be absolute"),
        ] {
            assert_eq!(bind(text), expected, "{text}");
        }
        assert!(bind("./m:/x").ends_with("use absolute path"));
    }

    #[test]
    fn a_declared_volume_gives_way_and_a_double_is_refused() {
        let config = |json: &str| serde_json::from_str::<HostConfig>(json).unwrap();
        let mount = r#""Mounts":[{"Type":"volume","Source":"v1","Target":"/d"}]"#;
        let both = config(&format!(r#"{{{mount},"Binds":["v1:/d","w1:/e"],"Tmpfs":{{"/t":"size=1m"}}}}"#));
        let list = mounts(&both, ["/e", "/f"].into_iter()).unwrap();
        let targets: Vec<_> = list.iter().map(|mount| (mount.target.as_str(), mount.anonymous)).collect();
        assert_eq!(targets, [("/d", false), ("/e", false), ("/t", false), ("/f", true)]);
        let twice = config(r#"{"Binds":["v1:/d","w1:/d"]}"#);
        assert_eq!(mounts(&twice, [].into_iter()).unwrap_err().to_string(), "Duplicate mount point: /d");
    }

    #[test]
    fn mounts_that_make_no_sense_are_named() {
        let message = |kind: &str, source: &str, target: &str| {
            let (kind, source, target) = (kind.to_owned(), source.to_owned(), target.to_owned());
            from_mount(&MountRequest { kind, source, target, ..MountRequest::default() }).unwrap_err().to_string()
        };
        let prefix = "invalid mount config for type";
        assert_eq!(message("npipe", "", "/x"), format!("{prefix} \"npipe\": mount type unknown: \"npipe\""));
        assert_eq!(message("bind", "", "/x"), format!("{prefix} \"bind\": field Source must not be empty"));
        assert_eq!(message("volume", "v", ""), format!("{prefix} \"volume\": field Target must not be empty"));
        assert_eq!(message("tmpfs", "v", "/x"), format!("{prefix} \"tmpfs\": field Source must not be specified"));
    }
}
