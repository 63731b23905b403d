//! A Dockerfile's text as logical lines: comments and continuations resolved, here-documents attached, positions kept.

use crate::error::{Error, Result};

/// Where something stands: a line and a column, from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// What is wrong with a file and where, in Docker's words first.
pub fn parse_error(file: &str, at: Position, message: &str) -> Error {
    let Position { line, column } = at;
    Error::invalid(format!("dockerfile parse error on line {line}: {message} ({file}:{line}:{column})"))
}

/// A file written inside the Dockerfile: `<<EOF` … `EOF`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    pub name: String,
    pub content: String,
    /// Whether variables in it are expanded: its name was not quoted.
    pub expand: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// One instruction, continuations joined.
    pub text: String,
    pub heredocs: Vec<Heredoc>,
    /// Where each piece of `text` came from: its offset, and the position of its first character.
    pieces: Vec<(usize, Position)>,
}

impl Line {
    pub fn start(&self) -> Position {
        self.position(0)
    }

    /// Where the character at an offset of `text` stands in the file.
    pub fn position(&self, offset: usize) -> Position {
        let piece = self.pieces.iter().rev().find(|(start, _)| *start <= offset);
        piece.map_or(Position { line: 1, column: 1 }, |(start, at)| {
            let before = self.text.get(*start..offset).unwrap_or_default();
            Position { line: at.line, column: at.column + before.chars().count() }
        })
    }
}

/// The lines of a Dockerfile, and the character that continues and escapes.
#[derive(Debug)]
pub struct Text {
    pub lines: Vec<Line>,
    pub escape: char,
}

pub fn read(file: &str, text: &str) -> Result<Text> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = escape(file, text)?;
    let mut physical = text.lines().enumerate().peekable();
    let mut lines = Vec::new();
    while let Some((number, first)) = physical.next() {
        if is_blank(first) {
            continue;
        }
        let mut line = Line { text: String::new(), heredocs: Vec::new(), pieces: Vec::new() };
        let mut next = Some((number, first));
        while let Some((number, raw)) = next.take() {
            let content = if line.text.is_empty() { raw.trim_start() } else { raw };
            let column = raw.chars().count() - content.chars().count() + 1;
            line.pieces.push((line.text.len(), Position { line: number + 1, column }));
            match content.trim_end().strip_suffix(escape) {
                Some(more) => {
                    line.text.push_str(more);
                    // Comments and empty lines inside an instruction are not part of it.
                    while physical.next_if(|(_, raw)| is_blank(raw)).is_some() {}
                    next = physical.next();
                }
                None => line.text.push_str(content.trim_end()),
            }
        }
        for (name, strip_tabs, expand) in heredoc_names(&line.text) {
            let mut content = String::new();
            loop {
                let Some((_, raw)) = physical.next() else {
                    let message = format!("unterminated heredoc: no line is just {name}");
                    return Err(parse_error(file, line.start(), &message));
                };
                let raw = if strip_tabs { raw.trim_start_matches('\t') } else { raw };
                if raw == name {
                    break;
                }
                content.push_str(raw);
                content.push('\n');
            }
            line.heredocs.push(Heredoc { name, content, expand });
        }
        lines.push(line);
    }
    Ok(Text { lines, escape })
}

fn is_blank(raw: &str) -> bool {
    let raw = raw.trim_start();
    raw.is_empty() || raw.starts_with('#')
}

/// `# escape=` among the comments at the top.
fn escape(file: &str, text: &str) -> Result<char> {
    for (number, raw) in text.lines().enumerate() {
        let Some((name, value)) = raw.trim().strip_prefix('#').and_then(|comment| comment.split_once('=')) else {
            break;
        };
        if name.trim().eq_ignore_ascii_case("escape") {
            return match value.trim() {
                "\\" => Ok('\\'),
                "`" => Ok('`'),
                other => {
                    let at = Position { line: number + 1, column: 1 };
                    Err(parse_error(file, at, &format!("invalid escape token '{other}' does not match ` or \\")))
                }
            };
        }
    }
    Ok('\\')
}

/// Names of the here-documents that a COPY, ADD or RUN line opens: name, whether tabs are stripped, whether it is expanded.
fn heredoc_names(text: &str) -> Vec<(String, bool, bool)> {
    let keyword = text.split_whitespace().next().unwrap_or_default();
    if !["COPY", "ADD", "RUN"].iter().any(|known| keyword.eq_ignore_ascii_case(known)) {
        return Vec::new();
    }
    text.split_whitespace().filter_map(heredoc).collect()
}

fn heredoc(word: &str) -> Option<(String, bool, bool)> {
    let rest = word.strip_prefix("<<")?;
    let (rest, strip_tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let name = rest.trim_matches(['"', '\'']);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'));
    is_name.then(|| (name.to_owned(), strip_tabs, name == rest))
}

/// The here-document that a word of a COPY names.
pub fn heredoc_name(word: &str) -> Option<String> {
    heredoc(word).map(|(name, _, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        read("Dockerfile", source).unwrap().lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn continuations_and_comments_are_resolved() {
        let source = "# syntax=docker/dockerfile:1\nFROM scratch\r\n\n  ENV A=1 \\\n  # not this\n\n   B=2\n";
        assert_eq!(texts(source), ["FROM scratch", "ENV A=1    B=2"]);
        assert_eq!(texts("# escape=`\nCOPY a `\nb c:\\\n"), ["COPY a b c:\\"]);
    }

    #[test]
    fn positions_lead_back_to_the_file() {
        let text = read("Dockerfile", "\nENV A=1 \\\n   B\n").unwrap();
        let line = &text.lines[0];
        assert_eq!(line.start(), Position { line: 2, column: 1 });
        assert_eq!(line.position(line.text.find('B').unwrap()), Position { line: 3, column: 4 });
    }

    #[test]
    fn heredocs_belong_to_their_line() {
        let text = read("Dockerfile", "COPY <<EOF <<-'X' /\none\nEOF\n\ttwo $A\n\tX\nCMD [\"a\"]\n").unwrap();
        let found: Vec<_> = text.lines[0].heredocs.iter().map(|h| (h.content.as_str(), h.expand)).collect();
        assert_eq!(found, [("one\n", true), ("two $A\n", false)]);
        assert_eq!(text.lines.len(), 2);
        let error = read("f", "FROM scratch\nCOPY <<E /\nx\n").unwrap_err();
        assert!(error.to_string().contains("line 2: unterminated heredoc"), "{error}");
    }
}
