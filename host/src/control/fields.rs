//! JSON objects whose fields keep the order they are written in: docker's, which people read and scripts cut.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

/// Names and values, in order. A name is given once.
#[derive(Debug, Default)]
pub struct Fields(Vec<(&'static str, Field)>);

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Field {
    Plain(Value),
    Object(Fields),
    List(Vec<Fields>),
}

impl Fields {
    pub fn new() -> Fields {
        Fields::default()
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Fields {
        self.0.push((name, Field::Plain(value.into())));
        self
    }

    #[must_use]
    pub fn object(mut self, name: &'static str, fields: Fields) -> Fields {
        self.0.push((name, Field::Object(fields)));
        self
    }

    #[must_use]
    pub fn list(mut self, name: &'static str, items: Vec<Fields>) -> Fields {
        self.0.push((name, Field::List(items)));
        self
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order() {
        let inner = || Fields::new().with("z", 1).with("a", "b");
        let fields = Fields::new().with("b", true).object("a", inner()).list("0", vec![inner()]);
        let text = serde_json::to_string(&fields).unwrap();
        assert_eq!(text, r#"{"b":true,"a":{"z":1,"a":"b"},"0":[{"z":1,"a":"b"}]}"#);
    }
}
