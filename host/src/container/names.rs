//! Names of containers: which are allowed, and inventing one where none was given.

use crate::error::{Error, Result};

const ADJECTIVES: &[&str] = &[
    "able", "agile", "amber", "ample", "bold", "brave", "brisk", "calm", "clever", "coral", "crisp", "deft", "eager",
    "early", "fair", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "hardy", "honest",
    "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "modest", "neat", "noble", "patient",
    "placid", "plucky", "prompt", "proud", "quick", "quiet", "ready", "robust", "sharp", "silent", "sincere", "smart",
    "snug", "solid", "steady", "sunny", "swift", "tidy", "trusty", "upbeat", "vivid", "warm", "wise", "witty", "zesty",
];

const NOUNS: &[&str] = &[
    "anchor", "bay", "beacon", "berth", "bollard", "bow", "breeze", "brig", "buoy", "cable", "canal", "cape", "cargo",
    "clipper", "cove", "crane", "current", "cutter", "deck", "delta", "dinghy", "dock", "dory", "ferry", "fjord",
    "fleet", "galley", "gull", "halyard", "harbour", "haven", "helm", "hull", "inlet", "islet", "jetty", "keel",
    "ketch", "lagoon", "lantern", "ledge", "lighter", "lock", "mast", "mooring", "oar", "pier", "pilot", "port",
    "quay", "reef", "rudder", "sail", "schooner", "sextant", "shoal", "skiff", "sloop", "sound", "strait", "tide",
    "tug", "wharf", "yawl",
];

/// Docker's rule, and its words when broken. A leading slash is part of the syntax, not of the name.
pub fn check(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    if is_word(bare) {
        return Ok(bare);
    }
    Err(Error::invalid(format!("Invalid container name ({bare}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, and short enough to be a file's name.
pub fn is_word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (2..=255).contains(&text.len())
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(inner)
}

/// A name nobody has. `random` picks; after some attempts a digit is added, as in Docker.
pub fn invent(mut random: impl FnMut() -> u64, taken: impl Fn(&str) -> bool) -> String {
    for attempt in 0_u64.. {
        let name = format!("{}_{}", pick(ADJECTIVES, random()), pick(NOUNS, random()));
        let name = if attempt < 6 { name } else { format!("{name}{}", random() % (10 * attempt)) };
        if !taken(&name) {
            return name;
        }
    }
    String::new()
}

fn pick(words: &'static [&'static str], random: u64) -> &'static str {
    let index = usize::try_from(random % words.len() as u64).unwrap_or_default();
    words.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["ab", "web-1", "/web", "a.b_c", "0x"] {
            assert_eq!(check(good).unwrap(), good.trim_start_matches('/'));
        }
        let long = "a".repeat(256);
        for bad in ["", "a", "-web", ".x", "a b", "a/b", "//web", "grün", "../x", &long] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            check("a b").unwrap_err().to_string(),
            "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn invented_names_are_free_and_allowed_even_when_the_words_run_out() {
        let mut taken = BTreeSet::new();
        let mut seed = 1_u64;
        let count = ADJECTIVES.len() * NOUNS.len() + 100;
        for _ in 0..count {
            let random = || {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                seed >> 33
            };
            let name = invent(random, |name| taken.contains(name));
            assert!(check(&name).is_ok() && name.contains('_'), "{name}");
            taken.insert(name);
        }
        assert_eq!(taken.len(), count);
    }
}
