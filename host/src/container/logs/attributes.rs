//! What every line of a container's log carries beside its text: `--log-opt tag=…`, `labels=…`, `env=…` and their `-regex`
//! forms, as Docker's json-file keeps them in `attrs` and `logs --details` shows them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use regex_lite::Regex;

use crate::container::spec::Spec;
use crate::error::{Error, Result};

/// Of a template: plain text, or a field by its number in [`FIELDS`].
enum Piece<'a> {
    Text(&'a str),
    Field(usize),
}

const FIELDS: [&str; 8] =
    [".ID", ".FullID", ".Name", ".ImageID", ".ImageFullID", ".ImageName", ".Command", ".DaemonName"];

/// Characters of a short id.
const SHORT: usize = 12;

/// Whether these options can be followed.
pub fn check(options: &BTreeMap<String, String>) -> Result<()> {
    for (option, value) in options {
        match option.as_str() {
            "tag" => drop(pieces(value)?),
            "labels-regex" | "env-regex" => drop(pattern(option, value)?),
            _ => {}
        }
    }
    Ok(())
}

/// The attributes of a container that is called `name` now. What [`check`] refuses is left out.
pub fn of(spec: &Spec, id: &str, name: &str) -> BTreeMap<String, String> {
    let option = |option: &str| spec.log.options.get(option).filter(|value| !value.is_empty());
    let chosen = |list: &str, regex: &str| {
        let names: BTreeSet<&str> = option(list).into_iter().flat_map(|list| list.split(',')).map(str::trim).collect();
        let pattern = option(regex).and_then(|value| pattern(regex, value).ok());
        move |key: &str| names.contains(key) || pattern.as_ref().is_some_and(|pattern| pattern.is_match(key))
    };
    let (is_label, is_variable) = (chosen("labels", "labels-regex"), chosen("env", "env-regex"));
    let labels = spec.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let labels = labels.filter(|(key, _)| is_label(key));
    let variables = spec.environment.iter().filter_map(|pair| pair.split_once('='));
    let variables = variables.filter(|(key, _)| is_variable(key));
    let pairs = labels.chain(variables).map(|(key, value)| (key.to_owned(), value.to_owned()));
    let tag = option("tag").and_then(|template| Some(render(&pieces(template).ok()?, spec, id, name)));
    pairs.chain(tag.map(|tag| ("tag".to_owned(), tag))).collect()
}

fn render(pieces: &[Piece<'_>], spec: &Spec, id: &str, name: &str) -> String {
    let image = spec.image_id.to_string();
    let command = || spec.entrypoint.iter().chain(&spec.command).map(String::as_str).collect::<Vec<_>>().join(" ");
    let text = |piece: &Piece<'_>| match piece {
        Piece::Text(text) => (*text).to_owned(),
        Piece::Field(0) => short(id),
        Piece::Field(1) => id.to_owned(),
        Piece::Field(2) => name.to_owned(),
        Piece::Field(3) => short(&image),
        Piece::Field(4) => image.clone(),
        Piece::Field(5) => spec.image.clone(),
        Piece::Field(6) => command(),
        Piece::Field(_) => "wharf".to_owned(),
    };
    pieces.iter().map(text).collect()
}

/// Docker counts an image's `sha256:` among the twelve; so does this.
fn short(id: &str) -> String {
    id.chars().take(SHORT).collect()
}

/// `{{.Name}}/{{.ID}}`: fields and text, without the functions of Go's templates.
fn pieces(template: &str) -> Result<Vec<Piece<'_>>> {
    let wrong = |what: &str| {
        let fields = FIELDS.map(|field| format!("{{{{{field}}}}}")).join(" ");
        Error::invalid(format!("log-opt tag={template}: {what}; it may hold text and {fields}"))
    };
    let (mut pieces, mut rest) = (Vec::new(), template);
    while let Some((text, after)) = rest.split_once("{{") {
        let (field, after) = after.split_once("}}").ok_or_else(|| wrong("{{ has no }}"))?;
        let known = FIELDS.iter().position(|known| *known == field.trim());
        let known = known.ok_or_else(|| wrong(&format!("{{{{{field}}}}} is not known")))?;
        pieces.extend([Piece::Text(text), Piece::Field(known)]);
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

fn pattern(option: &str, text: &str) -> Result<Regex> {
    Regex::new(text)
        .map_err(|error| Error::invalid(format!("log-opt {option}={text}: no regular expression")).because(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::fixture;

    fn attributes(options: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let mut spec = fixture::spec();
        spec.labels = [("team", "vision"), ("stage", "test")].iter().map(pair).collect();
        spec.environment = vec!["LANG=C".into(), "LANGUAGE=en".into(), "HOME=/".into()];
        spec.log.options = options.iter().map(pair).collect();
        check(&spec.log.options).unwrap();
        of(&spec, &"0123456789abcdef".repeat(4), "eyes")
    }

    #[test]
    fn lines_carry_what_was_asked_for() {
        let shown = |options: &[(&str, &str)]| {
            let pairs = attributes(options).into_iter().map(|(key, value)| format!("{key}={value}"));
            pairs.collect::<Vec<_>>().join(",")
        };
        assert_eq!(shown(&[("max-size", "1m"), ("tag", "")]), "");
        assert_eq!(shown(&[("tag", "{{.Name}}/{{ .ID }}!")]), "tag=eyes/0123456789ab!");
        assert_eq!(shown(&[("labels", "team, none"), ("env", "HOME")]), "HOME=/,team=vision");
        assert_eq!(shown(&[("labels-regex", "^st"), ("env-regex", "^LANG")]), "LANG=C,LANGUAGE=en,stage=test");
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for (option, value, text) in [
            ("tag", "{{.Nmae}}", "{{.Nmae}} is not known; it may hold text and {{.ID}}"),
            ("tag", "{{upper .Name}}", "is not known"),
            ("tag", "{{.Name", "{{ has no }}"),
            ("env-regex", "(", "log-opt env-regex=(: no regular expression"),
        ] {
            let error = check(&BTreeMap::from([(option.to_owned(), value.to_owned())])).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
