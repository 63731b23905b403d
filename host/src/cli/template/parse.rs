//! A template's text → nodes.

use super::functions;

type Parsed<T> = std::result::Result<T, String>;

/// Nested blocks and parentheses; more are a mistake, and would use up the stack.
const DEEPEST: usize = 64;

#[derive(Debug)]
pub enum Node {
    Text(String),
    Show(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    /// With the names of key and element, where the template gives them.
    Range(Option<String>, Option<String>, Pipe, Vec<Node>, Vec<Node>),
}

/// Commands; each takes the result of the one before as its last argument.
pub type Pipe = Vec<Command>;
pub type Command = Vec<Operand>;

#[derive(Debug)]
pub enum Operand {
    /// `.A.B`, of the value at hand; no names: that itself.
    Field(Vec<String>),
    /// `$name.A`; `$` has an empty name.
    Variable(String, Vec<String>),
    Function(String),
    Text(String),
    Number(i64),
    Bool(bool),
    /// `(…).A`
    Inner(Pipe, Vec<String>),
}

enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    /// `(`, `)`, `|`, `,`
    Sign(char),
}

pub fn parse(text: &str) -> Parsed<Vec<Node>> {
    let mut pieces = pieces(text)?.into_iter();
    let (nodes, end) = block(&mut pieces, 0)?;
    match end {
        None => Ok(nodes),
        Some(end) => Err(format!("unexpected {{{{{}}}}}", word(&end, 0))),
    }
}

fn pieces(text: &str) -> Parsed<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let before = if trim { before.trim_start() } else { before };
        let (inner, before) = match after.strip_prefix("- ") {
            Some(inner) => (inner, before.trim_end()),
            None => (after, before),
        };
        pieces.push(Piece::Text(before.to_owned()));
        let end = action_end(inner).ok_or("unclosed action: {{ without }}")?;
        let action = &inner[..end];
        trim = action.ends_with(" -");
        let action = action.strip_suffix(" -").unwrap_or(action).trim();
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(tokens(action)?));
        }
        rest = &inner[end + 2..];
    }
    pieces.push(Piece::Text(if trim { rest.trim_start().to_owned() } else { rest.to_owned() }));
    Ok(pieces)
}

/// Where `}}` stands outside of quotes.
fn action_end(text: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, letter) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if letter == '\\' => escaped = true,
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if letter == '"' || letter == '`' => quote = Some(letter),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

fn tokens(action: &str) -> Parsed<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut letters = action.chars().peekable();
    while let Some(&letter) = letters.peek() {
        match letter {
            '(' | ')' | '|' | ',' => {
                letters.next();
                tokens.push(Token::Sign(letter));
            }
            '"' | '`' => {
                letters.next();
                tokens.push(Token::Text(quoted(&mut letters, letter)?));
            }
            letter if letter.is_whitespace() => {
                letters.next();
            }
            _ => {
                let mut word = String::new();
                while let Some(letter) =
                    letters.next_if(|letter| !letter.is_whitespace() && !"()|,\"`".contains(*letter))
                {
                    word.push(letter);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

fn quoted(letters: &mut impl Iterator<Item = char>, quote: char) -> Parsed<String> {
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if quote == '"' => text.push(match letters.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => break,
            }),
            letter if letter == quote => return Ok(text),
            letter => text.push(letter),
        }
    }
    Err("unterminated quoted string".to_owned())
}

/// Nodes up to `{{end}}` or `{{else …}}`, and that action.
fn block(pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Parsed<(Vec<Node>, Option<Vec<Token>>)> {
    if depth > DEEPEST {
        return Err("too deep".to_owned());
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        match word(&tokens, 0) {
            "end" | "else" => return Ok((nodes, Some(tokens))),
            "if" | "with" | "range" => nodes.push(control(&tokens, pieces, depth)?),
            _ => nodes.push(Node::Show(pipe(&tokens)?)),
        }
    }
    Ok((nodes, None))
}

fn control(tokens: &[Token], pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Parsed<Node> {
    let (body, end) = block(pieces, depth + 1)?;
    let end = end.ok_or("unexpected end: {{end}} is missing")?;
    let otherwise = match (word(&end, 0), word(&end, 1)) {
        ("else", "") => match block(pieces, depth + 1)? {
            (nodes, Some(end)) if word(&end, 0) == "end" => nodes,
            _ => return Err("unexpected end: {{end}} is missing".to_owned()),
        },
        // `{{else if …}}` ends with the same `{{end}}`.
        ("else", _) => vec![control(&end[1..], pieces, depth + 1)?],
        _ => Vec::new(),
    };
    let kind = word(tokens, 0);
    let rest = &tokens[1..];
    if kind != "range" {
        let pipe = pipe(rest)?;
        return Ok(if kind == "if" { Node::If(pipe, body, otherwise) } else { Node::With(pipe, body, otherwise) });
    }
    let assigned = rest.iter().position(|token| *token == Token::Word(":=".to_owned()));
    let names: Vec<String> = rest[..assigned.unwrap_or(0)]
        .iter()
        .filter_map(|token| if let Token::Word(name) = token { name.strip_prefix('$') } else { None })
        .map(str::to_owned)
        .collect();
    let pipe = pipe(&rest[assigned.map_or(0, |at| at + 1)..])?;
    let (key, element) = match &names[..] {
        [key, element] => (Some(key.clone()), Some(element.clone())),
        [element] => (None, Some(element.clone())),
        _ => (None, None),
    };
    Ok(Node::Range(key, element, pipe, body, otherwise))
}

fn word(tokens: &[Token], at: usize) -> &str {
    match tokens.get(at) {
        Some(Token::Word(word)) => word,
        _ => "",
    }
}

fn pipe(tokens: &[Token]) -> Parsed<Pipe> {
    let mut rest = tokens;
    let pipe = commands(&mut rest, 0)?;
    if rest.is_empty() { Ok(pipe) } else { Err("unexpected )".to_owned()) }
}

fn commands(rest: &mut &[Token], depth: usize) -> Parsed<Pipe> {
    if depth > DEEPEST {
        return Err("too deep".to_owned());
    }
    let mut pipe = vec![Command::new()];
    while let Some((token, after)) = rest.split_first() {
        let operand = match token {
            Token::Sign(')') => break,
            Token::Sign('|') => {
                pipe.push(Command::new());
                *rest = after;
                continue;
            }
            Token::Sign('(') => {
                *rest = after;
                let inner = commands(rest, depth + 1)?;
                *rest = match rest.split_first() {
                    Some((Token::Sign(')'), after)) => after,
                    _ => return Err("unclosed (".to_owned()),
                };
                let path = match rest.split_first() {
                    Some((Token::Word(word), after)) if word.starts_with('.') => {
                        *rest = after;
                        path(word)
                    }
                    _ => Vec::new(),
                };
                Operand::Inner(inner, path)
            }
            Token::Sign(other) => return Err(format!("unexpected {other:?}")),
            Token::Text(text) => {
                *rest = after;
                Operand::Text(text.clone())
            }
            Token::Word(word) => {
                *rest = after;
                operand(word)?
            }
        };
        if let Some(command) = pipe.last_mut() {
            command.push(operand);
        }
    }
    if pipe.iter().any(Vec::is_empty) { Err("missing value for command".to_owned()) } else { Ok(pipe) }
}

fn operand(word: &str) -> Parsed<Operand> {
    if let Some(variable) = word.strip_prefix('$') {
        let (name, rest) = variable.split_once('.').unwrap_or((variable, ""));
        return Ok(Operand::Variable(name.to_owned(), path(rest)));
    }
    Ok(match word {
        _ if word.starts_with('.') => Operand::Field(path(word)),
        "true" | "false" => Operand::Bool(word == "true"),
        _ if functions::NAMES.contains(&word) => Operand::Function(word.to_owned()),
        _ => match word.parse() {
            Ok(number) => Operand::Number(number),
            Err(_) => {
                let known = functions::NAMES.join(", ");
                return Err(format!("function {word:?} not defined; there are: {known}"));
            }
        },
    })
}

fn path(dotted: &str) -> Vec<String> {
    dotted.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
