//! Nodes and a value → text.

use super::functions::{self, plain, truth};
use super::parse::{Command, Node, Operand};
use crate::cli::json::Json;

type Evaluated<T> = std::result::Result<T, String>;

struct Scope<'a> {
    dot: Json,
    variables: Vec<(String, Json)>,
    root: &'a Json,
    headings: bool,
}

/// `headings`: the values are headings, which functions must leave as they are.
pub fn render(nodes: &[Node], root: &Json, headings: bool) -> Evaluated<String> {
    let mut scope = Scope { dot: root.clone(), variables: Vec::new(), root, headings };
    let mut out = String::new();
    scope.run(nodes, &mut out)?;
    Ok(out)
}

impl Scope<'_> {
    fn run(&mut self, nodes: &[Node], out: &mut String) -> Evaluated<()> {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Show(pipe) => out.push_str(&plain(&self.pipe(pipe)?)),
                Node::If(pipe, body, otherwise) => {
                    let chosen = if truth(&self.pipe(pipe)?) { body } else { otherwise };
                    self.run(chosen, out)?;
                }
                Node::With(pipe, body, otherwise) => {
                    let value = self.pipe(pipe)?;
                    if truth(&value) {
                        self.inside(value, body, out)?;
                    } else {
                        self.run(otherwise, out)?;
                    }
                }
                Node::Range(key, element, pipe, body, otherwise) => {
                    let elements = elements(self.pipe(pipe)?)?;
                    if elements.is_empty() {
                        self.run(otherwise, out)?;
                    }
                    for (index, value) in elements {
                        let before = self.variables.len();
                        self.variables.extend(key.iter().map(|name| (name.clone(), index.clone())));
                        self.variables.extend(element.iter().map(|name| (name.clone(), value.clone())));
                        self.inside(value, body, out)?;
                        self.variables.truncate(before);
                    }
                }
            }
        }
        Ok(())
    }

    fn inside(&mut self, dot: Json, body: &[Node], out: &mut String) -> Evaluated<()> {
        let outer = std::mem::replace(&mut self.dot, dot);
        let done = self.run(body, out);
        self.dot = outer;
        done
    }

    fn pipe(&self, pipe: &[Command]) -> Evaluated<Json> {
        pipe.iter().try_fold(None, |before, command| self.command(command, before).map(Some)).map(|value| {
            // The parser lets no empty pipe through.
            value.unwrap_or(Json::Null)
        })
    }

    fn command(&self, command: &[Operand], before: Option<Json>) -> Evaluated<Json> {
        let Some((first, rest)) = command.split_first() else { return Ok(Json::Null) };
        let arguments: Vec<Json> =
            rest.iter().map(|operand| self.operand(operand)).chain(before.map(Ok)).collect::<Evaluated<_>>()?;
        match first {
            Operand::Function(name) if self.headings && functions::LETTERS.contains(&name.as_str()) => {
                Ok(arguments.into_iter().next().unwrap_or(Json::Null))
            }
            Operand::Function(name) => functions::call(name, arguments),
            // The one method that rows of lists have.
            Operand::Field(path) if path.as_slice() == ["Label"] && !arguments.is_empty() => {
                Ok(Json::Text(if self.headings {
                    plain(&arguments[0])
                } else {
                    label(&self.dot, &plain(&arguments[0]))
                }))
            }
            _ if !arguments.is_empty() => Err("this value is no function and takes no arguments".to_owned()),
            operand => self.operand(operand),
        }
    }

    fn operand(&self, operand: &Operand) -> Evaluated<Json> {
        match operand {
            Operand::Field(path) => follow(&self.dot, path),
            Operand::Variable(name, path) if name.is_empty() => follow(self.root, path),
            Operand::Variable(name, path) => {
                let found = self.variables.iter().rfind(|(known, _)| known == name);
                let (_, value) = found.ok_or_else(|| format!("undefined variable \"${name}\""))?;
                follow(value, path)
            }
            Operand::Function(name) => functions::call(name, Vec::new()),
            Operand::Text(text) => Ok(Json::Text(text.clone())),
            Operand::Number(number) => Ok(Json::Number((*number).into())),
            Operand::Bool(on) => Ok(Json::Bool(*on)),
            Operand::Inner(pipe, path) => follow(&self.pipe(pipe)?, path),
        }
    }
}

fn follow(value: &Json, path: &[String]) -> Evaluated<Json> {
    let mut at = value;
    for name in path {
        at = at.get(name).ok_or_else(|| missing(at, name))?;
    }
    Ok(at.clone())
}

fn missing(value: &Json, name: &str) -> String {
    let known: Vec<&str> = match value {
        Json::Map(fields) => fields.iter().map(|(name, _)| name.as_str()).collect(),
        _ => Vec::new(),
    };
    let known = if known.is_empty() { "none here".to_owned() } else { known.join(", ") };
    format!("no field .{name}; there are: {known}")
}

/// What a `range` goes over, with the index of each; a map's in the order of its keys, as in Go.
fn elements(value: Json) -> Evaluated<Vec<(Json, Json)>> {
    match value {
        Json::Null => Ok(Vec::new()),
        Json::List(all) => {
            Ok(all.into_iter().enumerate().map(|(index, one)| (Json::Number(index.into()), one)).collect())
        }
        Json::Map(mut fields) => {
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            Ok(fields.into_iter().map(|(name, value)| (Json::Text(name), value)).collect())
        }
        other => Err(format!("range can't iterate over {}", plain(&other))),
    }
}

/// `{{.Label "key"}}` out of the row's `Labels`.
fn label(row: &Json, key: &str) -> String {
    let labels = row.get("Labels").map(plain).unwrap_or_default();
    let found = labels.split(',').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key);
    found.map(|(_, value)| value.to_owned()).unwrap_or_default()
}
