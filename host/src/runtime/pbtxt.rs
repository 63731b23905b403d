//! The text form of protobuf messages, as `config.pbtxt` is written in: syntax only, for any message. What the fields
//! mean is [`instances`](super::instances)'s business.

use std::iter::Peekable;
use std::str::Chars;

/// Deeper nesting is no configuration of anybody's.
const DEEPEST: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number, a name of an enum, `true`; or the inside of quotes.
    Scalar(String),
    Message(Message),
}

/// Fields in their order; one that is repeated, or given as a list, stands here several times.
pub type Message = Vec<(String, Value)>;

/// The error is one clause with the line.
pub fn parse(text: &str) -> Result<Message, String> {
    let mut parser = Parser { rest: text.chars().peekable(), line: 1 };
    let message = parser.message(None, 0)?;
    Ok(message)
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
}

impl Parser<'_> {
    /// Up to `end`, which is taken; `None` is the end of the text.
    fn message(&mut self, end: Option<char>, depth: usize) -> Result<Message, String> {
        if depth > DEEPEST {
            return Err(self.wrong("messages are nested too deep"));
        }
        let mut fields = Vec::new();
        loop {
            self.skip_space();
            if self.rest.peek().copied() == end {
                self.next();
                return Ok(fields);
            }
            let Some(name) = self.word() else { return Err(self.unexpected("a field's name")) };
            self.skip_space();
            let has_colon = self.take(':');
            self.skip_space();
            match self.rest.peek() {
                Some('[') => self.list(&name, &mut fields, depth)?,
                Some('{' | '<') => fields.push((name, self.nested(depth)?)),
                _ if has_colon => fields.push((name, self.scalar()?)),
                _ => return Err(self.unexpected("`:` or `{`")),
            }
            self.skip_space();
            if !self.take(',') {
                self.take(';');
            }
        }
    }

    fn list(&mut self, name: &str, fields: &mut Message, depth: usize) -> Result<(), String> {
        self.next();
        loop {
            self.skip_space();
            match self.rest.peek() {
                Some(']') => {
                    self.next();
                    return Ok(());
                }
                Some('{' | '<') => fields.push((name.to_owned(), self.nested(depth)?)),
                _ => fields.push((name.to_owned(), self.scalar()?)),
            }
            self.skip_space();
            if !self.take(',') && self.rest.peek() != Some(&']') {
                return Err(self.unexpected("`,` or `]`"));
            }
        }
    }

    fn nested(&mut self, depth: usize) -> Result<Value, String> {
        let end = if self.next() == Some('<') { '>' } else { '}' };
        self.message(Some(end), depth + 1).map(Value::Message)
    }

    fn scalar(&mut self) -> Result<Value, String> {
        match self.rest.peek().copied() {
            Some(quote @ ('"' | '\'')) => {
                self.next();
                let mut text = String::new();
                loop {
                    match self.next() {
                        Some(end) if end == quote => return Ok(Value::Scalar(text)),
                        None | Some('\n') => return Err(self.wrong("a quote is not closed")),
                        Some('\\') => text.extend(self.next()),
                        Some(other) => text.push(other),
                    }
                }
            }
            _ => self.word().map(Value::Scalar).ok_or_else(|| self.unexpected("a value")),
        }
    }

    fn word(&mut self) -> Option<String> {
        let mut word = String::new();
        while let Some(letter) = self.rest.peek().copied().filter(|c| c.is_ascii_alphanumeric() || "_.+-/".contains(*c))
        {
            word.push(letter);
            self.next();
        }
        (!word.is_empty()).then_some(word)
    }

    fn skip_space(&mut self) {
        while let Some(letter) = self.rest.peek().copied() {
            if letter == '#' {
                while self.rest.peek().is_some_and(|letter| *letter != '\n') {
                    self.next();
                }
            } else if letter.is_whitespace() {
                self.next();
            } else {
                return;
            }
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.rest.peek() == Some(&wanted);
        if is_there {
            self.next();
        }
        is_there
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.rest.next();
        self.line += usize::from(letter == Some('\n'));
        letter
    }

    fn unexpected(&mut self, wanted: &str) -> String {
        match self.rest.peek().copied() {
            Some(seen) => self.wrong(&format!("{wanted} is expected, and {seen:?} is there")),
            None => self.wrong(&format!("{wanted} is expected, and the file ends")),
        }
    }

    fn wrong(&self, what: &str) -> String {
        format!("line {}: {what}", self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str) -> Value {
        Value::Scalar(text.to_owned())
    }

    #[test]
    fn what_triton_writes_is_read() {
        let text = "# of eyes\nname: \"eyes\"\nmax_batch_size : 8\ninput [ { name: 'x' dims: [ 1, 3 ] } ]\n\
                    instance_group { count: 2, kind: KIND_GPU; gpus: 1 gpus: 2 }\ninstance_group < kind: KIND_CPU >\n\
                    dynamic_batching { }";
        let own = |name: &str, value| (name.to_owned(), value);
        assert_eq!(
            parse(text).unwrap(),
            [
                own("name", scalar("eyes")),
                own("max_batch_size", scalar("8")),
                own(
                    "input",
                    Value::Message(vec![own("name", scalar("x")), own("dims", scalar("1")), own("dims", scalar("3"))])
                ),
                own(
                    "instance_group",
                    Value::Message(vec![
                        own("count", scalar("2")),
                        own("kind", scalar("KIND_GPU")),
                        own("gpus", scalar("1")),
                        own("gpus", scalar("2"))
                    ])
                ),
                own("instance_group", Value::Message(vec![own("kind", scalar("KIND_CPU"))])),
                own("dynamic_batching", Value::Message(vec![])),
            ]
        );
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_line() {
        for (text, words) in [
            ("name: \"eyes\"\nmax_batch_size 8", "line 2: `:` or `{` is expected, and '8' is there"),
            ("input [ { name: \"x\" }", "line 1: `,` or `]` is expected, and the file ends"),
            ("name: \"eyes\n", "a quote is not closed"),
            ("a {", "line 1: a field's name is expected, and the file ends"),
            ("}", "a field's name is expected, and '}' is there"),
            ("a: [1 2]", "`,` or `]` is expected, and '2' is there"),
            ("a:", "a value is expected, and the file ends"),
            (&"a{".repeat(100), "nested too deep"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
