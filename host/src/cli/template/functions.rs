//! What a template may call: Go's own functions and docker's.

use std::cmp::Ordering;

use crate::cli::json::Json;

pub const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "print", "printf",
    "println", "split", "title", "truncate", "upper",
];

/// Those that change the letters of a value, which a heading keeps.
pub const LETTERS: &[&str] = &["json", "lower", "title", "truncate", "upper"];

pub fn call(name: &str, arguments: Vec<Json>) -> std::result::Result<Json, String> {
    let text = |at: usize| arguments.get(at).map(plain).unwrap_or_default();
    let least = match name {
        "print" | "println" => 0,
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "join" | "split" | "truncate" => 2,
        _ => 1,
    };
    if arguments.len() < least {
        return Err(format!("wrong number of args for {name}: want {least} got {}", arguments.len()));
    }
    let compared = |test: fn(Ordering) -> bool| Json::Bool(test(compare(&arguments[0], &arguments[1])));
    Ok(match name {
        "json" => Json::Text(arguments[0].compact()),
        "upper" => Json::Text(text(0).to_uppercase()),
        "lower" => Json::Text(text(0).to_lowercase()),
        "title" => Json::Text(title(&text(0))),
        "truncate" => Json::Text(text(0).chars().take(text(1).parse().unwrap_or(usize::MAX)).collect()),
        "split" => Json::List(text(0).split(text(1).as_str()).map(|part| Json::Text(part.to_owned())).collect()),
        "join" => match &arguments[0] {
            Json::List(all) => Json::Text(all.iter().map(plain).collect::<Vec<_>>().join(&text(1))),
            _ => return Err("join needs a list".to_owned()),
        },
        "len" => Json::Number(length(&arguments[0]).into()),
        "index" => arguments[1..].iter().try_fold(arguments[0].clone(), |value, key| index(&value, key))?,
        "not" => Json::Bool(!truth(&arguments[0])),
        "and" => arguments.iter().find(|value| !truth(value)).or(arguments.last()).cloned().unwrap_or(Json::Null),
        "or" => arguments.iter().find(|value| truth(value)).or(arguments.last()).cloned().unwrap_or(Json::Null),
        "eq" => Json::Bool(arguments[1..].iter().any(|other| compare(&arguments[0], other).is_eq())),
        "ne" => compared(Ordering::is_ne),
        "lt" => compared(Ordering::is_lt),
        "le" => compared(Ordering::is_le),
        "gt" => compared(Ordering::is_gt),
        "ge" => compared(Ordering::is_ge),
        "print" => Json::Text(arguments.iter().map(plain).collect::<String>()),
        "println" => Json::Text(arguments.iter().map(plain).collect::<Vec<_>>().join(" ") + "\n"),
        "printf" => Json::Text(printf(&text(0), &arguments[1..])),
        other => return Err(format!("function {other:?} not defined")),
    })
}

/// As Go prints it, near enough: strings bare, lists and maps in its brackets, a map in the order of its keys.
pub fn plain(value: &Json) -> String {
    match value {
        Json::Text(text) => text.clone(),
        Json::Null => "<no value>".to_owned(),
        Json::Bool(on) => on.to_string(),
        Json::Number(number) => number.to_string(),
        Json::List(all) => format!("[{}]", all.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Json::Map(fields) => {
            let mut pairs: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

pub fn truth(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(on) => *on,
        Json::Number(number) => number.as_f64() != Some(0.0),
        other => length(other) > 0,
    }
}

fn length(value: &Json) -> usize {
    match value {
        Json::List(all) => all.len(),
        Json::Map(fields) => fields.len(),
        Json::Text(text) => text.len(),
        _ => 0,
    }
}

fn index(value: &Json, key: &Json) -> std::result::Result<Json, String> {
    match (value, key) {
        (Json::Map(_), key) => Ok(value.get(&plain(key)).cloned().unwrap_or(Json::Null)),
        (Json::List(all), Json::Number(at)) => {
            let found = at.as_u64().and_then(|at| all.get(usize::try_from(at).ok()?));
            found.cloned().ok_or_else(|| format!("index out of range: {at}"))
        }
        _ => Err(format!("cannot index {} by {}", plain(value), plain(key))),
    }
}

fn compare(one: &Json, other: &Json) -> Ordering {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => {
            one.as_f64().partial_cmp(&other.as_f64()).unwrap_or(Ordering::Equal)
        }
        _ => plain(one).cmp(&plain(other)),
    }
}

fn title(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// `%s`, `%d` and `%v` show a value, `%q` quotes it; widths are not read.
fn printf(format: &str, values: &[Json]) -> String {
    let mut values = values.iter();
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        match (letter, letter == '%') {
            (_, false) => out.push(letter),
            _ => match letters.next() {
                Some('q') => out += &format!("{:?}", values.next().map(plain).unwrap_or_default()),
                Some('%') | None => out.push('%'),
                Some(_) => out += &values.next().map(plain).unwrap_or_default(),
            },
        }
    }
    out
}
