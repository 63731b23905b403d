//! Variables and quotes in a word of a Dockerfile, by Docker's rules: `$a`, `${a}`, `${a:-b}`, `${a:+b}`, `${a:?b}` and the same
//! without the colon.

use std::iter::Peekable;
use std::str::Chars;

use crate::error::{Error, Result};

/// What a name stands for; `None` if it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Nested defaults, each a call deep.
const DEEPEST: usize = 32;

/// The word without its quotes, with its variables replaced.
pub fn expand(word: &str, escape: char, lookup: Lookup<'_>) -> Result<String> {
    let mut expansion = Expansion { rest: word.chars().peekable(), escape, lookup, depth: 0 };
    expansion.until(None)
}

/// The same for a text in which quotes are only characters: a here-document.
pub fn expand_text(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String> {
    let mut expansion = Expansion { rest: text.chars().peekable(), escape, lookup, depth: 0 };
    let mut out = String::new();
    while let Some(c) = expansion.rest.next() {
        match c {
            '$' => out += &expansion.variable()?,
            c if c == escape && expansion.rest.peek() == Some(&'$') => out.extend(expansion.rest.next()),
            c => out.push(c),
        }
    }
    Ok(out)
}

struct Expansion<'a> {
    rest: Peekable<Chars<'a>>,
    escape: char,
    lookup: Lookup<'a>,
    depth: usize,
}

impl Expansion<'_> {
    fn until(&mut self, end: Option<char>) -> Result<String> {
        let mut out = String::new();
        while let Some(c) = self.rest.next() {
            match c {
                c if Some(c) == end => return Ok(out),
                '\'' => loop {
                    match self.rest.next() {
                        Some('\'') => break,
                        Some(c) => out.push(c),
                        None => return Err(unfinished('\'')),
                    }
                },
                '"' => out += &self.quoted()?,
                '$' => out += &self.variable()?,
                c if c == self.escape => out.push(self.rest.next().unwrap_or(c)),
                c => out.push(c),
            }
        }
        end.map_or(Ok(out), |end| Err(unfinished(end)))
    }

    fn quoted(&mut self) -> Result<String> {
        let mut out = String::new();
        while let Some(c) = self.rest.next() {
            match c {
                '"' => return Ok(out),
                '$' => out += &self.variable()?,
                c if c == self.escape => match self.rest.peek() {
                    Some(next) if matches!(next, '"' | '$') || *next == self.escape => out.extend(self.rest.next()),
                    _ => out.push(c),
                },
                c => out.push(c),
            }
        }
        Err(unfinished('"'))
    }

    fn variable(&mut self) -> Result<String> {
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { (self.lookup)(&name).unwrap_or_default() });
        }
        let name = self.name();
        if name.is_empty() {
            return Err(Error::invalid("a variable's name is missing in ${…}"));
        }
        let colon = self.rest.next_if_eq(&':').is_some();
        let value = (self.lookup)(&name).filter(|value| !colon || !value.is_empty());
        let operator = self.rest.next();
        if operator == Some('}') && !colon {
            return Ok(value.unwrap_or_default());
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Error::invalid(format!("variables are nested more than {DEEPEST} deep")));
        }
        let other = self.until(Some('}'))?;
        self.depth -= 1;
        match operator {
            Some('-') => Ok(value.unwrap_or(other)),
            Some('+') => Ok(value.map(|_| other).unwrap_or_default()),
            Some('?') => value.ok_or_else(|| {
                let reason = if other.is_empty() { "not allowed to be unset" } else { &other };
                Error::invalid(format!("{name}: {reason}"))
            }),
            _ => Err(Error::invalid(format!("unsupported modifier in ${{{name}…}}: use :-, :+ or :?"))),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }
}

fn unfinished(quote: char) -> Error {
    Error::invalid(format!("unexpected end of statement while looking for matching {quote}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn words_expand_as_dockers_do() {
        for (word, expanded) in [
            ("$A/x", "one/x"),
            ("${A}x", "onex"),
            ("${B:-two}", "two"),
            ("${EMPTY:-two}|${EMPTY-two}", "two|"),
            ("${A:+yes}${B:+no}", "yes"),
            ("${B:-${A}}", "one"),
            ("'$A' \"$A\"", "$A one"),
            (r#"\$A "\$A \x""#, r"$A $A \x"),
            ("$ $", "$ $"),
        ] {
            assert_eq!(expand(word, '\\', &lookup).unwrap(), expanded, "{word}");
        }
        assert_eq!(expand_text("\"$A\" \\$A", '\\', &lookup).unwrap(), "\"one\" $A");
    }

    #[test]
    fn broken_words_are_errors() {
        let deep = "${B:-".repeat(10_000);
        for word in ["'a", "\"a", "${A", "${}", "${A/x}", "${B:?missing}", "${A:}", deep.as_str()] {
            assert!(expand(word, '\\', &lookup).is_err(), "{word}");
        }
        assert_eq!(expand("${B:?set it}", '\\', &lookup).unwrap_err().to_string(), "B: set it");
    }
}
