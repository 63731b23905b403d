//! JSON with its fields in the order they came: what `inspect` shows is the daemon's order, not the alphabet's.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Number, Value};

use crate::error::{Error, ErrorKind, Result};

#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    pub fn parse(text: &str) -> Result<Json> {
        serde_json::from_str(text)
            .map_err(|error| Error::new(ErrorKind::Failed, "the daemon's answer is not JSON").because(error))
    }

    /// A field of a map.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let Json::Map(fields) = self else { return None };
        fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// In one line, as it goes over the wire.
    pub fn compact(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Four blanks a level, as docker shows what it inspects.
    pub fn indented(&self) -> String {
        let mut out = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        match self.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)) {
            Ok(()) => String::from_utf8_lossy(&out).into_owned(),
            Err(_) => String::new(),
        }
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Json {
        match value {
            Value::Null => Json::Null,
            Value::Bool(on) => Json::Bool(*on),
            Value::Number(number) => Json::Number(number.clone()),
            Value::String(text) => Json::Text(text.clone()),
            Value::Array(all) => Json::List(all.iter().map(Json::from).collect()),
            Value::Object(fields) => Json::from(fields),
        }
    }
}

impl From<&Map<String, Value>> for Json {
    fn from(fields: &Map<String, Value>) -> Json {
        Json::Map(fields.iter().map(|(name, value)| (name.clone(), Json::from(value))).collect())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(on) => serializer.serialize_bool(*on),
            Json::Number(number) => number.serialize(serializer),
            Json::Text(text) => serializer.serialize_str(text),
            Json::List(all) => {
                let mut list = serializer.serialize_seq(Some(all.len()))?;
                for one in all {
                    list.serialize_element(one)?;
                }
                list.end()
            }
            Json::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Json, D::Error> {
        deserializer.deserialize_any(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Json;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, on: bool) -> std::result::Result<Json, E> {
        Ok(Json::Bool(on))
    }

    fn visit_u64<E>(self, number: u64) -> std::result::Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> std::result::Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> std::result::Result<Json, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = list.next_element()? {
            all.push(one);
        }
        Ok(Json::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Json::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_indentation_are_kept() {
        let json = Json::parse(r#"{"b":1,"a":[true,null],"e":{},"l":[],"n":-1.5,"t":"<x>"}"#).unwrap();
        assert_eq!(json.compact(), r#"{"b":1,"a":[true,null],"e":{},"l":[],"n":-1.5,"t":"<x>"}"#);
        let list = Json::List(vec![Json::parse(r#"{"b":1,"a":{}}"#).unwrap()]);
        assert_eq!(list.indented(), "[\n    {\n        \"b\": 1,\n        \"a\": {}\n    }\n]");
        assert_eq!(json.get("b"), Some(&Json::Number(1.into())));
    }
}
