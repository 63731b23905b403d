//! What names mean while a Dockerfile runs: ARG before the first FROM, ARG in a stage, ENV, and values from the command
//! line.

use std::collections::{BTreeMap, BTreeSet};

use super::settings;
use crate::image::ImageConfig;

/// Given without an ARG, and part of no image.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
/// Seconds since 1970 that take the place of the clock, for images that are the same each time.
pub const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Arguments of a whole build.
#[derive(Debug)]
pub struct Arguments {
    given: BTreeMap<String, String>,
    consumed: BTreeSet<String>,
    /// What builders know without being told.
    automatic: BTreeMap<String, String>,
    /// Declared before the first FROM.
    global: BTreeMap<String, String>,
}

impl Arguments {
    pub fn new(given: &BTreeMap<String, String>, platform: (&str, &str)) -> Arguments {
        let (os, architecture) = platform;
        let mut automatic = BTreeMap::new();
        for side in ["TARGET", "BUILD"] {
            automatic.insert(format!("{side}PLATFORM"), format!("{os}/{architecture}"));
            automatic.insert(format!("{side}OS"), os.to_owned());
            automatic.insert(format!("{side}ARCH"), architecture.to_owned());
        }
        Arguments { given: given.clone(), consumed: BTreeSet::new(), automatic, global: BTreeMap::new() }
    }

    /// An ARG before the first FROM.
    pub fn declare_global(&mut self, name: &str, default: Option<String>) {
        self.consumed.insert(name.to_owned());
        if let Some(value) = self.given.get(name).cloned().or(default) {
            self.global.insert(name.to_owned(), value);
        }
    }

    /// What a name means in a FROM.
    pub fn global(&self, name: &str) -> Option<String> {
        self.global.get(name).or_else(|| self.automatic.get(name)).cloned()
    }

    /// The value of an ARG in a stage.
    pub fn declare(&mut self, name: &str, default: Option<String>) -> Option<String> {
        self.consumed.insert(name.to_owned());
        self.given.get(name).cloned().or(default).or_else(|| self.global(name))
    }

    /// Proxies that were given: tools see them, images do not.
    pub fn proxies(&self) -> impl Iterator<Item = (String, String)> {
        self.given.iter().filter(|(name, _)| is_proxy(name)).map(|(name, value)| (name.clone(), value.clone()))
    }

    /// Given, and not asked for by any ARG.
    pub fn unused(&self) -> Vec<&str> {
        let unused = self.given.keys().filter(|name| {
            !self.consumed.contains(*name) && !is_proxy(name) && *name != EPOCH && !self.automatic.contains_key(*name)
        });
        unused.map(String::as_str).collect()
    }
}

fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// What a name means in a stage: ENV hides ARG.
pub fn value(config: &ImageConfig, args: &BTreeMap<String, String>, name: &str) -> Option<String> {
    settings::env_value(config, name).or_else(|| args.get(name).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_from_the_command_line_the_stage_and_the_top() {
        let given = [("A", "given"), ("LOST", "x"), ("https_proxy", "p")];
        let given = given.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut arguments = Arguments::new(&given, ("wasi", "wasm"));
        arguments.declare_global("B", Some("top".into()));
        arguments.declare_global("C", None);
        for (name, default, value) in [
            ("A", Some("default"), Some("given")),
            ("B", None, Some("top")),
            ("B", Some("default"), Some("default")),
            ("C", None, None),
            ("TARGETPLATFORM", None, Some("wasi/wasm")),
        ] {
            let found = arguments.declare(name, default.map(str::to_owned));
            assert_eq!(found.as_deref(), value, "{name}");
        }
        assert_eq!(arguments.unused(), ["LOST"]);
        assert_eq!(arguments.global("B").as_deref(), Some("top"));
        assert_eq!(arguments.proxies().count(), 1);
    }

    #[test]
    fn env_hides_arg() {
        let args = [("A".to_owned(), "arg".to_owned())].into();
        let mut config = ImageConfig::default();
        assert_eq!(value(&config, &args, "A").as_deref(), Some("arg"));
        settings::env(&mut config, "A", "env");
        assert_eq!(value(&config, &args, "A").as_deref(), Some("env"));
    }
}
