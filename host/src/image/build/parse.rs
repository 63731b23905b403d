//! Logical lines to instructions. Errors say line and column, and begin with Docker's words.

#[cfg(test)]
mod tests;

use super::instruction::{Copying, Form, Instruction, Step};
use super::lines::{self, Line, Position};
use crate::error::{Error, Result};
use crate::image::HealthConfig;

/// A Dockerfile: its steps, and the character that escapes in them.
#[derive(Debug)]
pub struct Dockerfile {
    /// Its path in the context, for messages.
    pub file: String,
    pub steps: Vec<Step>,
    pub escape: char,
}

pub fn parse(file: &str, text: &str) -> Result<Dockerfile> {
    let text = lines::read(file, text)?;
    let mut steps = Vec::new();
    for line in &text.lines {
        steps.push(step(file, line, text.escape)?);
    }
    let is_from = |step: &Step| matches!(step.instruction, Instruction::From { .. });
    let Some(first) = steps.iter().find(|step| !matches!(step.instruction, Instruction::Arg(_))) else {
        let at = Position { line: 1, column: 1 };
        return Err(lines::parse_error(file, at, "the file with no instructions or without FROM makes no image"));
    };
    if !is_from(first) {
        return Err(lines::parse_error(file, first.at, "no build stage in current context: begin with FROM scratch"));
    }
    Ok(Dockerfile { file: file.to_owned(), steps, escape: text.escape })
}

/// One instruction without a file of its own: an ONBUILD trigger.
pub fn trigger(text: &str) -> Result<Step> {
    let parsed = lines::read("ONBUILD", text)?;
    let line = parsed.lines.first().ok_or_else(|| Error::invalid("an ONBUILD trigger is empty"))?;
    step("ONBUILD", line, parsed.escape)
}

fn step(file: &str, line: &Line, escape: char) -> Result<Step> {
    let text = &line.text;
    let keyword_end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (keyword, rest) = text.split_at(keyword_end);
    let offset = text.len() - rest.trim_start().len();
    let arguments = Arguments { file, line, escape, offset };
    let keyword = keyword.to_ascii_uppercase();
    let instruction = arguments.instruction(&keyword)?;
    let text = format!("{keyword} {}", arguments.rest()).trim_end().to_owned();
    Ok(Step { at: line.start(), text, instruction })
}

/// What follows a keyword.
struct Arguments<'a> {
    file: &'a str,
    line: &'a Line,
    escape: char,
    /// Where it begins in the line's text.
    offset: usize,
}

impl<'a> Arguments<'a> {
    fn rest(&self) -> &'a str {
        self.line.text.get(self.offset..).unwrap_or_default()
    }

    fn error(&self, offset: usize, message: &str) -> Error {
        lines::parse_error(self.file, self.line.position(offset), message)
    }

    fn instruction(&self, keyword: &str) -> Result<Instruction> {
        let known = [
            "FROM",
            "COPY",
            "ADD",
            "ENV",
            "ARG",
            "LABEL",
            "EXPOSE",
            "WORKDIR",
            "ENTRYPOINT",
            "CMD",
            "RUN",
            "VOLUME",
            "USER",
            "STOPSIGNAL",
            "HEALTHCHECK",
            "SHELL",
            "ONBUILD",
            "MAINTAINER",
        ];
        if !known.contains(&keyword) {
            return Err(self.error(0, &format!("unknown instruction: {keyword}")));
        }
        let rest = self.rest();
        if rest.is_empty() && keyword != "CMD" && keyword != "ENTRYPOINT" {
            return Err(self.error(self.offset, &format!("{keyword} requires at least one argument")));
        }
        Ok(match keyword {
            "FROM" => self.from()?,
            "COPY" => Instruction::Copy(self.copy(keyword)?),
            "ADD" => Instruction::Copy(Copying { unpack: true, ..self.copy(keyword)? }),
            "ENV" => Instruction::Env(self.pairs(keyword)?),
            "LABEL" => Instruction::Label(self.pairs(keyword)?),
            "ARG" => Instruction::Arg(self.args()?),
            "EXPOSE" => Instruction::Expose(texts(self.words(0)?)),
            "WORKDIR" => Instruction::Workdir(rest.to_owned()),
            "ENTRYPOINT" => Instruction::Entrypoint(form(rest)),
            "CMD" => Instruction::Cmd(form(rest)),
            "RUN" => Instruction::Run(form(self.after_flags(&["mount", "network", "security"])?.1)),
            "VOLUME" => Instruction::Volume(match form(rest) {
                Form::Exec(volumes) => volumes,
                Form::Shell(_) => texts(self.words(0)?),
            }),
            "USER" => Instruction::User(rest.to_owned()),
            "STOPSIGNAL" => Instruction::StopSignal(rest.to_owned()),
            "HEALTHCHECK" => Instruction::Healthcheck(self.healthcheck()?),
            "SHELL" => match form(rest) {
                Form::Exec(shell) => Instruction::Shell(shell),
                Form::Shell(_) => {
                    return Err(self.error(self.offset, "SHELL requires the arguments to be in JSON form"));
                }
            },
            "ONBUILD" => self.on_build()?,
            _ => Instruction::Maintainer(rest.to_owned()),
        })
    }

    /// `--name=value` in front, and what follows them.
    fn after_flags(&self, known: &[&str]) -> Result<(Vec<(&'a str, &'a str)>, &'a str)> {
        let mut flags = Vec::new();
        let mut rest = self.rest();
        while let Some(flag) = rest.strip_prefix("--") {
            let at = self.line.text.len() - rest.len();
            let end = flag.find(char::is_whitespace).unwrap_or(flag.len());
            let (flag, after) = flag.split_at(end);
            let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
            if !known.contains(&name) {
                return Err(self.error(at, &format!("unknown flag: --{name}")));
            }
            flags.push((name, value));
            rest = after.trim_start();
        }
        Ok((flags, rest))
    }

    /// Words apart, quotes and escapes left in them, each with its offset in the line. `skip` characters are left out first.
    fn words(&self, skip: usize) -> Result<Vec<(usize, String)>> {
        let start = self.offset + skip;
        let text = self.line.text.get(start..).unwrap_or_default();
        let mut words: Vec<(usize, String)> = Vec::new();
        let (mut quote, mut open, mut in_word) = (None, 0, false);
        let mut characters = text.char_indices();
        while let Some((at, c)) = characters.next() {
            if quote.is_none() && c.is_whitespace() {
                in_word = false;
                continue;
            }
            if !in_word {
                words.push((start + at, String::new()));
                in_word = true;
            }
            let Some((_, word)) = words.last_mut() else { continue };
            word.push(c);
            if c == self.escape && quote != Some('\'') {
                word.extend(characters.next().map(|(_, escaped)| escaped));
            } else if quote == Some(c) {
                quote = None;
            } else if quote.is_none() && matches!(c, '"' | '\'') {
                (quote, open) = (Some(c), start + at);
            }
        }
        match quote {
            Some(quote) => {
                Err(self.error(open, &format!("unexpected end of statement while looking for matching {quote}")))
            }
            None => Ok(words),
        }
    }

    fn from(&self) -> Result<Instruction> {
        let (flags, rest) = self.after_flags(&["platform"])?;
        let platform = flags.first().map(|(_, value)| (*value).to_owned());
        let words: Vec<&str> = rest.split_whitespace().collect();
        match &words[..] {
            [image] => Ok(Instruction::From { image: (*image).to_owned(), platform, name: None }),
            [image, word, name] if word.eq_ignore_ascii_case("as") => {
                let name = Some(name.to_ascii_lowercase());
                Ok(Instruction::From { image: (*image).to_owned(), platform, name })
            }
            _ => Err(self.error(self.offset, "FROM requires either one or three arguments: FROM IMAGE [AS NAME]")),
        }
    }

    fn copy(&self, keyword: &str) -> Result<Copying> {
        let known = ["from", "chown", "chmod", "link", "parents", "exclude", "checksum", "keep-git-dir"];
        let (flags, rest) = self.after_flags(&known)?;
        let mut copying = Copying {
            unpack: false,
            from: None,
            mode: None,
            sources: Vec::new(),
            target: String::new(),
            heredocs: Vec::new(),
        };
        for (name, value) in flags {
            match name {
                "from" => copying.from = Some(value.to_owned()),
                "chmod" => match u32::from_str_radix(value, 8) {
                    Ok(mode) if mode <= 0o7777 => copying.mode = Some(mode & 0o777),
                    _ => {
                        return Err(
                            self.error(self.offset, &format!("--chmod={value}: write an octal number, e.g. 755"))
                        );
                    }
                },
                // There is one user, and layers are cheap to share anyway.
                "chown" | "link" => {}
                _ => return Err(self.error(self.offset, &format!("{keyword} --{name} is not supported"))),
            }
        }
        let words = match form(rest) {
            Form::Exec(words) => words,
            Form::Shell(_) => texts(self.words(self.rest().len() - rest.len())?),
        };
        let Some((target, sources)) = words.split_last().filter(|(_, sources)| !sources.is_empty()) else {
            let message = format!("{keyword} requires at least two arguments, but only {} was provided", words.len());
            return Err(self.error(self.offset, &message));
        };
        copying.target.clone_from(target);
        copying.sources = sources.to_vec();
        copying.heredocs.clone_from(&self.line.heredocs);
        Ok(copying)
    }

    /// `a=1 b="two"`, or the old form `a rest of the line`.
    fn pairs(&self, keyword: &str) -> Result<Vec<(String, String)>> {
        let words = self.words(0)?;
        if words.first().is_some_and(|(_, word)| !word.contains('=')) {
            let Some((name, value)) = self.rest().split_once(char::is_whitespace) else {
                return Err(
                    self.error(self.offset, &format!("{keyword} must have two arguments: {keyword} NAME=VALUE"))
                );
            };
            return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
        }
        let mut pairs = Vec::new();
        for (at, word) in words {
            match word.split_once('=') {
                Some(("", _)) => return Err(self.error(at, &format!("{keyword} names can not be blank"))),
                Some((name, value)) => pairs.push((name.to_owned(), value.to_owned())),
                None => {
                    let message = format!("can't find = in {word:?}. Must be of the form: name=value");
                    return Err(self.error(at, &format!("Syntax error - {message}")));
                }
            }
        }
        Ok(pairs)
    }

    fn args(&self) -> Result<Vec<(String, Option<String>)>> {
        let mut args = Vec::new();
        for (at, word) in self.words(0)? {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            if name.is_empty() {
                return Err(self.error(at, "ARG names can not be blank"));
            }
            args.push((name.to_owned(), value));
        }
        Ok(args)
    }

    fn healthcheck(&self) -> Result<HealthConfig> {
        let (flags, rest) = self.after_flags(&["interval", "timeout", "start-period", "start-interval", "retries"])?;
        let mut check = HealthConfig::default();
        for (name, value) in flags {
            let bad =
                || self.error(self.offset, &format!("HEALTHCHECK --{name}={value}: write a duration such as 30s"));
            match name {
                "retries" => check.retries = value.parse().map_err(|_| bad())?,
                "interval" => check.interval = duration(value).ok_or_else(bad)?,
                "timeout" => check.timeout = duration(value).ok_or_else(bad)?,
                "start-period" => check.start_period = duration(value).ok_or_else(bad)?,
                _ => check.start_interval = duration(value).ok_or_else(bad)?,
            }
        }
        let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        check.test = match (kind.to_ascii_uppercase().as_str(), form(command.trim_start())) {
            ("NONE", _) => vec!["NONE".to_owned()],
            ("CMD", Form::Exec(argv)) if !argv.is_empty() => [vec!["CMD".to_owned()], argv].concat(),
            ("CMD", Form::Shell(line)) if !line.is_empty() => vec!["CMD-SHELL".to_owned(), line],
            ("CMD", _) => return Err(self.error(self.offset, "Missing command after HEALTHCHECK CMD")),
            _ => return Err(self.error(self.offset, &format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"))),
        };
        Ok(check)
    }

    fn on_build(&self) -> Result<Instruction> {
        let rest = self.rest();
        let keyword = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if ["ONBUILD", "FROM", "MAINTAINER"].contains(&keyword.as_str()) {
            return Err(self.error(self.offset, &format!("{keyword} isn't allowed as an ONBUILD trigger")));
        }
        let end = keyword.len();
        Arguments { offset: self.offset + end + rest[end..].len() - rest[end..].trim_start().len(), ..*self }
            .instruction(&keyword)
            .map(|_| Instruction::OnBuild(rest.to_owned()))
    }
}

fn texts(words: Vec<(usize, String)>) -> Vec<String> {
    words.into_iter().map(|(_, word)| word).collect()
}

/// A JSON list of words is a command; everything else is a line for a shell, also what only looks like JSON.
fn form(text: &str) -> Form {
    let list = text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten();
    list.map_or_else(|| Form::Shell(text.to_owned()), Form::Exec)
}

/// `1m30s`, `500ms` in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    (!text.is_empty() && sum < 1e18).then_some(sum as i64)
}
