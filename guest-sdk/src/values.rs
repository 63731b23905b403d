//! Named strings (a query, path parameters) as whatever type a handler asks for. A serde deserializer of
//! our own, so that every error names the field, what was seen and what was expected.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// A struct or map by name, a tuple by position, or, if there is one pair, its value.
pub(crate) fn from_pairs<T: DeserializeOwned>(pairs: Vec<(String, String)>) -> Result<T, ValueError> {
    let mut fields: Vec<Field> = Vec::new();
    for (name, value) in pairs {
        match fields.iter_mut().find(|field| field.name == name) {
            Some(field) => field.values.push(value),
            None => fields.push(Field { name, values: vec![value] }),
        }
    }
    T::deserialize(Fields(&fields))
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ValueError(String);

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

impl de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        ValueError(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        ValueError(format!("`{field}` is missing"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        ValueError(format!("expected one of `{}`, got `{variant}`", expected.join("`, `")))
    }
}

/// A name and all values given for it: one, but for `?tag=a&tag=b`.
struct Field {
    name: String,
    values: Vec<String>,
}

#[derive(Clone, Copy)]
struct Fields<'a>(&'a [Field]);

impl<'a> Fields<'a> {
    fn only(self) -> Result<Values<'a>, ValueError> {
        match self.0 {
            [field] => Ok(Values::of(field)),
            fields => Err(ValueError(format!("expected one value, there are {}", fields.len()))),
        }
    }
}

macro_rules! only_value {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            self.only()?.$method(visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Fields<'_> {
    type Error = ValueError;

    only_value! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_map(FieldMap { fields: self.0, value: None })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_seq(FieldSeq(self.0))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, ValueError> {
        if length != self.0.len() {
            return Err(ValueError(format!("expected {length} values, there are {}", self.0.len())));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if self.0.is_empty() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! { i128 u128 bytes byte_buf unit_struct map struct ignored_any }
}

struct FieldMap<'a> {
    fields: &'a [Field],
    value: Option<&'a Field>,
}

impl<'de> MapAccess<'de> for FieldMap<'_> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        let Some((field, rest)) = self.fields.split_first() else { return Ok(None) };
        (self.fields, self.value) = (rest, Some(field));
        seed.deserialize(field.name.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        match self.value.take() {
            Some(field) => seed.deserialize(Values::of(field)),
            None => Err(ValueError("a value was asked for before its name".to_owned())),
        }
    }
}

struct FieldSeq<'a>(&'a [Field]);

impl<'de> SeqAccess<'de> for FieldSeq<'_> {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ValueError> {
        let Some((field, rest)) = self.0.split_first() else { return Ok(None) };
        self.0 = rest;
        seed.deserialize(Values::of(field)).map(Some)
    }
}

/// The values of one field.
#[derive(Clone, Copy)]
struct Values<'a> {
    name: &'a str,
    values: &'a [String],
}

impl<'a> Values<'a> {
    fn of(field: &'a Field) -> Self {
        Values { name: &field.name, values: &field.values }
    }

    fn text(self) -> Result<&'a str, ValueError> {
        match self.values {
            [value] => Ok(value),
            values => Err(ValueError(format!("`{}` is given {} times, expected once", self.name, values.len()))),
        }
    }

    fn parse<T: std::str::FromStr>(self, expected: &str) -> Result<T, ValueError> {
        let text = self.text()?;
        text.parse().map_err(|_| ValueError(format!("`{}`: expected {expected}, got `{text}`", self.name)))
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $expected:literal)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            visitor.$visit(self.parse($expected)?)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Values<'_> {
    type Error = ValueError;

    parsed! {
        deserialize_i8 visit_i8 "a whole number" deserialize_i16 visit_i16 "a whole number"
        deserialize_i32 visit_i32 "a whole number" deserialize_i64 visit_i64 "a whole number"
        deserialize_u8 visit_u8 "a whole number" deserialize_u16 visit_u16 "a whole number"
        deserialize_u32 visit_u32 "a whole number" deserialize_u64 visit_u64 "a whole number"
        deserialize_f32 visit_f32 "a number" deserialize_f64 visit_f64 "a number"
        deserialize_char visit_char "one character"
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.text()? {
            "true" | "1" | "on" | "yes" | "" => visitor.visit_bool(true),
            "false" | "0" | "off" | "no" => visitor.visit_bool(false),
            other => Err(ValueError(format!("`{}`: expected true or false, got `{other}`", self.name))),
        }
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_seq(ValueSeq(self))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let variant = visitor.visit_enum(self.text()?.into_deserializer());
        variant.map_err(|ValueError(message)| ValueError(format!("`{}`: {message}", self.name)))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier
    }
}

struct ValueSeq<'a>(Values<'a>);

impl<'de> SeqAccess<'de> for ValueSeq<'_> {
    type Error = ValueError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ValueError> {
        let Some((_, rest)) = self.0.values.split_first() else { return Ok(None) };
        let (first, name) = (self.0.values.get(..1).unwrap_or_default(), self.0.name);
        self.0.values = rest;
        seed.deserialize(Values { name, values: first }).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Format {
        Jpeg,
        Png,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Options {
        score: f32,
        draw: Option<Format>,
        #[serde(default)]
        ids: Vec<u8>,
        #[serde(default)]
        all: bool,
    }

    fn parse<T: DeserializeOwned>(pairs: &[(&str, &str)]) -> Result<T, String> {
        let pairs = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        from_pairs(pairs).map_err(|error| error.to_string())
    }

    #[test]
    fn structs_take_fields_by_name_and_ignore_others() {
        let pairs = [("score", "0.5"), ("draw", "png"), ("ids", "1"), ("ids", "2"), ("x", "1"), ("x", "2")];
        let wanted = Options { score: 0.5, draw: Some(Format::Png), ids: vec![1, 2], all: false };
        assert_eq!(parse(&pairs), Ok(wanted));
    }

    #[test]
    fn errors_name_the_field() {
        let options = |pairs: &[(&str, &str)]| parse::<Options>(pairs).unwrap_err();
        assert_eq!(options(&[]), "`score` is missing");
        assert_eq!(options(&[("score", "high")]), "`score`: expected a number, got `high`");
        assert_eq!(options(&[("score", "1"), ("score", "2")]), "`score` is given 2 times, expected once");
        assert_eq!(options(&[("score", "1"), ("draw", "gif")]), "`draw`: expected one of `jpeg`, `png`, got `gif`");
        assert_eq!(options(&[("score", "1"), ("ids", "300")]), "`ids`: expected a whole number, got `300`");
        assert_eq!(options(&[("score", "1"), ("all", "maybe")]), "`all`: expected true or false, got `maybe`");
    }

    #[test]
    fn tuples_and_single_values_go_by_position() {
        assert_eq!(parse(&[("a", "x"), ("b", "2")]), Ok(("x".to_owned(), 2u8)));
        assert_eq!(parse(&[("a", "x")]), Ok("x".to_owned()));
        assert_eq!(parse::<u8>(&[("a", "1"), ("b", "2")]), Err("expected one value, there are 2".to_owned()));
        assert_eq!(parse::<(u8, u8)>(&[("a", "1")]), Err("expected 2 values, there are 1".to_owned()));
    }
}
