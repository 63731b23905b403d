//! `filters=`: which of many a client wants to see. Pure.
//!
//! Values of one key are alternatives, except labels, which must all be there; keys must all agree.

use std::collections::{BTreeMap, BTreeSet};

use regex_lite::Regex;
use serde::Deserialize;

use super::query::Query;
use crate::error::{Error, Result};

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filters {
    keys: BTreeMap<String, BTreeSet<String>>,
}

/// The CLI sends `{"label":{"a=b":true}}`, Python `{"label":["a=b"]}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Map(BTreeMap<String, bool>),
    List(Vec<String>),
    One(String),
}

impl Filters {
    /// A key that is not `known` is the client's mistake.
    pub fn parse(query: &Query, known: &[&str]) -> Result<Filters> {
        let sent: BTreeMap<String, Values> = query.json("filters")?;
        let mut keys = BTreeMap::new();
        for (key, values) in sent {
            if !known.contains(&key.as_str()) {
                return Err(Error::invalid(format!("invalid filter '{key}'")));
            }
            let values: BTreeSet<String> = match values {
                Values::Map(map) => map.into_iter().filter(|(_, on)| *on).map(|(value, _)| value).collect(),
                Values::List(list) => list.into_iter().collect(),
                Values::One(value) => BTreeSet::from([value]),
            };
            if !values.is_empty() {
                keys.insert(key, values);
            }
        }
        Ok(Filters { keys })
    }

    pub fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.keys.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether one of the key's values `fits`; true without the key.
    pub fn admits(&self, key: &str, fits: impl FnMut(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).any(fits)
    }

    /// One of the key's values is the same or the beginning (an id).
    pub fn admits_id(&self, key: &str, id: &str) -> bool {
        self.admits(key, |wanted| id.starts_with(wanted))
    }

    /// One of the key's values is found in `name`: as a regular expression where it is one.
    pub fn admits_name(&self, key: &str, name: &str) -> bool {
        self.admits(key, |wanted| match Regex::new(wanted) {
            Ok(pattern) => pattern.is_match(name),
            Err(_) => name.contains(wanted),
        })
    }

    /// `label` and `label!`.
    pub fn admits_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").all(has) && !self.values("label!").any(has)
    }

    /// A key whose value is a boolean.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.values(key).next() else { return Ok(None) };
        match value {
            "1" | "true" | "True" | "TRUE" | "t" => Ok(Some(true)),
            "0" | "false" | "False" | "FALSE" | "f" => Ok(Some(false)),
            _ => Err(Error::invalid(format!("invalid filter '{key}={value}'"))),
        }
    }
}

/// `*`, `?` and the rest literally; `*` stops at a `/`, as in Docker's `reference=`.
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut expression = String::from("^");
    for c in pattern.chars() {
        match c {
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            c => expression.push_str(&regex_lite::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push('$');
    Regex::new(&expression).is_ok_and(|expression| expression.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(json: &str) -> Result<Filters> {
        let encoded: String = form_urlencoded::byte_serialize(json.as_bytes()).collect();
        Filters::parse(
            &Query::parse(Some(&format!("filters={encoded}"))),
            &["label", "label!", "name", "id", "dangling"],
        )
    }

    #[test]
    fn both_encodings_say_the_same() {
        let map = filters(r#"{"label":{"a=b":true,"gone":false},"name":{}}"#).unwrap();
        assert_eq!(map, filters(r#"{"label": ["a=b"]}"#).unwrap());
        assert_eq!(map, filters(r#"{"label":"a=b"}"#).unwrap());
        assert!(!map.has("name"));
        assert_eq!(filters("").unwrap(), Filters::default());
        assert_eq!(filters("{}").unwrap(), Filters::default());
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(filters(r#"{"xyz":["1"]}"#).unwrap_err().to_string(), "invalid filter 'xyz'");
        assert!(filters(r#"{"label":3}"#).is_err() && filters("[").is_err());
        let odd = filters(r#"{"dangling":["maybe"]}"#).unwrap();
        assert_eq!(odd.flag("dangling").unwrap_err().to_string(), "invalid filter 'dangling=maybe'");
    }

    #[test]
    fn labels_are_joined_with_and() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2=3".to_owned())]);
        for (json, admitted) in [
            ("{}", true),
            (r#"{"label":["a","b=2=3"]}"#, true),
            (r#"{"label":["a","c"]}"#, false),
            (r#"{"label":["a=2"]}"#, false),
            (r#"{"label!":["c"]}"#, true),
            (r#"{"label!":["c","a=1"]}"#, false),
        ] {
            assert_eq!(filters(json).unwrap().admits_labels(&labels), admitted, "{json}");
        }
    }

    #[test]
    fn names_are_patterns_and_ids_beginnings() {
        for (pattern, admitted) in [("we", true), ("^/?web$", true), ("^eb", false), ("w.b", true), ("(", false)] {
            let filters = filters(&format!(r#"{{"name":["nothing","{pattern}"]}}"#)).unwrap();
            assert_eq!(filters.admits_name("name", "web"), admitted, "{pattern}");
        }
        assert!(filters(r#"{"id":["ab"]}"#).unwrap().admits_id("id", "abcd"));
        assert!(!filters(r#"{"id":["b"]}"#).unwrap().admits_id("id", "abcd"));
    }

    #[test]
    fn globs_stop_at_slashes() {
        for (pattern, text, fits) in [
            ("app", "app", true),
            ("app*", "app:latest", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("a?p", "app", true),
            ("a.p", "app", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
