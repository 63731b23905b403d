//! Instructions that change only an image's configuration. Their words are expanded already.

use crate::image::{HealthConfig, ImageConfig};

/// Set `NAME=VALUE`, in the place of an earlier value.
pub fn env(config: &mut ImageConfig, name: &str, value: &str) {
    let pair = format!("{name}={value}");
    let env = &mut config.config.env;
    match env.iter_mut().find(|other| other.split('=').next() == Some(name)) {
        Some(other) => *other = pair,
        None => env.push(pair),
    }
}

pub fn env_value(config: &ImageConfig, name: &str) -> Option<String> {
    let mut pairs = config.config.env.iter().filter_map(|pair| pair.split_once('='));
    pairs.find(|(other, _)| *other == name).map(|(_, value)| value.to_owned())
}

/// Environment as pairs.
pub fn environment(config: &ImageConfig) -> Vec<(String, String)> {
    let pairs = config.config.env.iter().filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// `5000`, `5000/udp`, `5000-5002`. `None` for what is no port.
pub fn expose(config: &mut ImageConfig, word: &str) -> Option<()> {
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    if first == 0 || first > last || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return None;
    }
    config.config.exposed_ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    Some(())
}

/// A path in the image, from the working directory if it is relative; always absolute and without `..`.
pub fn resolve(working_dir: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{working_dir}/{path}") };
    let mut names: Vec<&str> = Vec::new();
    for name in whole.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

pub fn healthcheck(config: &mut ImageConfig, check: &HealthConfig) {
    config.config.healthcheck = Some(check.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_paths() {
        let mut config = ImageConfig::default();
        for word in ["5000", "53/UDP", "8000-8002/tcp"] {
            expose(&mut config, word).unwrap();
        }
        let ports: Vec<&str> = config.config.exposed_ports.iter().map(String::as_str).collect();
        assert_eq!(ports, ["5000/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        for word in ["", "http", "0", "5-1", "70000", "1/icmp"] {
            assert!(expose(&mut config, word).is_none(), "{word}");
        }
        assert_eq!(resolve("/app", "../x/./y/"), "/x/y");
        assert_eq!(resolve("", "/../a"), "/a");
    }

    #[test]
    fn a_later_value_replaces_an_earlier_one() {
        let mut config = ImageConfig::default();
        for value in ["1", "2=3"] {
            env(&mut config, "A", value);
        }
        assert_eq!(config.config.env, ["A=2=3"]);
        assert_eq!(env_value(&config, "A").as_deref(), Some("2=3"));
    }
}
