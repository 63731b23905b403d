//! A request's query: what clients of Go and of Python send, read alike. Pure.

use std::time::SystemTime;

use serde::de::DeserializeOwned;

use super::times;
use crate::error::{Error, Result};

#[derive(Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// `raw` is the part behind the `?`, as it came.
    pub fn parse(raw: Option<&str>) -> Query {
        let pairs = form_urlencoded::parse(raw.unwrap_or_default().as_bytes());
        Query { pairs: pairs.into_owned().collect() }
    }

    /// Every value of a key that may be repeated.
    pub fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// An empty value counts as none.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.all(key).find(|value| !value.is_empty())
    }

    /// Absent is false.
    pub fn flag(&self, key: &str) -> bool {
        self.flag_or(key, false)
    }

    pub fn flag_or(&self, key: &str, absent: bool) -> bool {
        self.text(key).map_or(absent, truth)
    }

    pub fn number(&self, key: &str) -> Result<Option<i64>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Error::invalid(format!("invalid value {text:?} for {key:?}: a whole number is expected"))),
        }
    }

    /// A moment; 0 is "no limit", as Python sends it.
    pub fn time(&self, key: &str, now: SystemTime) -> Result<Option<SystemTime>> {
        self.text(key).filter(|text| *text != "0").map(|text| times::parse(text, now)).transpose()
    }

    /// A value that is JSON itself; absent and empty are the type's default.
    pub fn json<T: DeserializeOwned + Default>(&self, key: &str) -> Result<T> {
        let Some(text) = self.text(key) else { return Ok(T::default()) };
        serde_json::from_str(text).map_err(|error| Error::invalid(format!("{key} is not valid JSON")).because(error))
    }
}

/// Docker's reading of booleans: Go clients send `1`, Python's `True` and `False`.
fn truth(text: &str) -> bool {
    !["", "0", "no", "false", "none"].iter().any(|no| text.eq_ignore_ascii_case(no))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_of_both_worlds() {
        let query = Query::parse(Some("a=1&b=0&c=True&d=False&e=&f=no&g=NONE&h=yes&i"));
        let flags: String =
            "abcdefghij".chars().map(|key| if query.flag(&key.to_string()) { '1' } else { '0' }).collect();
        assert_eq!(flags, "1010000100");
        assert!(query.flag_or("absent", true) && !query.flag_or("b", true));
    }

    #[test]
    fn values_are_decoded() {
        let query = Query::parse(Some("t=app&t=localhost%3A5000%2Fapp&e=&n=-1&x=a+b&buildargs=%7B%22A%22%3Anull%7D"));
        assert_eq!(query.all("t").collect::<Vec<_>>(), ["app", "localhost:5000/app"]);
        assert_eq!((query.text("e"), query.text("x")), (None, Some("a b")));
        assert_eq!(query.number("n").unwrap(), Some(-1));
        assert!(query.number("x").unwrap_err().to_string().contains("\"a b\""));
        let arguments: std::collections::BTreeMap<String, Option<String>> = query.json("buildargs").unwrap();
        assert_eq!(arguments["A"], None);
        assert_eq!(query.json::<Vec<u8>>("e").unwrap(), [0_u8; 0]);
        assert!(query.json::<Vec<u8>>("x").is_err());
    }

    #[test]
    fn zero_is_no_moment() {
        let query = Query::parse(Some("since=0&until=10"));
        assert_eq!(query.time("since", SystemTime::now()).unwrap(), None);
        assert!(query.time("until", SystemTime::now()).unwrap().is_some());
    }
}
