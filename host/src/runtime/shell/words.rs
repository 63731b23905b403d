//! A line of the shell to commands: words, quotes, `$VARIABLES`, `;`, `&&` and `||`. Pure.

/// A command and when it runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub joint: Joint,
    pub argv: Vec<String>,
}

/// What stands between a command and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    Then,
    And,
    Or,
}

/// Split `line`. `variable` gives the value of a name, if it has one.
pub fn parse(line: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Step>, String> {
    let mut parser =
        Parser { letters: line.chars().peekable(), variable, steps: Vec::new(), argv: Vec::new(), word: None };
    let mut joint = Joint::Then;
    while let Some(letter) = parser.letters.next() {
        match letter {
            ' ' | '\t' | '\r' => parser.end_word(),
            '\n' | ';' => joint = parser.end_step(joint, Joint::Then, letter)?,
            '&' if parser.take('&') => joint = parser.end_step(joint, Joint::And, letter)?,
            '|' if parser.take('|') => joint = parser.end_step(joint, Joint::Or, letter)?,
            '#' if parser.word.is_none() => parser.skip_comment(),
            '&' | '|' | '<' | '>' | '`' | '(' | ')' => {
                return Err(format!(
                    "{letter} is not known here: this shell shows things, it has no pipes, files or jobs"
                ));
            }
            '\'' => parser.single_quoted()?,
            '"' => parser.double_quoted()?,
            '\\' => {
                let next = parser.letters.next();
                parser.word().extend(next);
            }
            '$' => parser.expand(),
            letter => parser.word().push(letter),
        }
    }
    parser.end_word();
    if !parser.argv.is_empty() {
        let argv = std::mem::take(&mut parser.argv);
        parser.steps.push(Step { joint, argv });
    } else if joint != Joint::Then {
        return Err("a command is missing at the end".to_owned());
    }
    Ok(parser.steps)
}

struct Parser<'a> {
    letters: std::iter::Peekable<std::str::Chars<'a>>,
    variable: &'a dyn Fn(&str) -> Option<String>,
    steps: Vec<Step>,
    argv: Vec<String>,
    /// `None` between words; quotes make an empty one.
    word: Option<String>,
}

impl Parser<'_> {
    fn word(&mut self) -> &mut String {
        self.word.get_or_insert_default()
    }

    fn take(&mut self, expected: char) -> bool {
        self.letters.next_if_eq(&expected).is_some()
    }

    fn end_word(&mut self) {
        self.argv.extend(self.word.take());
    }

    /// Close the command before `letter`; returns the joint of the next one.
    fn end_step(&mut self, joint: Joint, next: Joint, letter: char) -> Result<Joint, String> {
        self.end_word();
        if self.argv.is_empty() {
            // Empty lines are fine, `&&` with nothing before it is not.
            return if next == Joint::Then && joint == Joint::Then {
                Ok(next)
            } else {
                Err(format!("a command is missing before {letter:?}"))
            };
        }
        let argv = std::mem::take(&mut self.argv);
        self.steps.push(Step { joint, argv });
        Ok(next)
    }

    fn skip_comment(&mut self) {
        while self.letters.next_if(|letter| *letter != '\n').is_some() {}
    }

    fn single_quoted(&mut self) -> Result<(), String> {
        self.word();
        loop {
            match self.letters.next() {
                Some('\'') => return Ok(()),
                Some(letter) => self.word().push(letter),
                None => return Err("a ' is not closed".to_owned()),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<(), String> {
        self.word();
        loop {
            match self.letters.next() {
                Some('"') => return Ok(()),
                Some('$') => self.expand(),
                Some('\\') => match self.letters.next_if(|letter| "\"\\$`".contains(*letter)) {
                    Some(letter) => self.word().push(letter),
                    None => self.word().push('\\'),
                },
                Some(letter) => self.word().push(letter),
                None => return Err("a \" is not closed".to_owned()),
            }
        }
    }

    /// `$NAME`, `${NAME}`; a `$` before anything else is itself.
    fn expand(&mut self) {
        let braced = self.take('{');
        let mut name = String::new();
        while let Some(letter) = self.letters.next_if(|letter| letter.is_ascii_alphanumeric() || "_?".contains(*letter))
        {
            name.push(letter);
        }
        if braced {
            self.take('}');
        }
        match name.is_empty() {
            true => self.word().push('$'),
            false => {
                if let Some(value) = (self.variable)(&name) {
                    self.word().push_str(&value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Vec<(Joint, Vec<String>)>, String> {
        let variable = |name: &str| (name == "HOME").then(|| "/a b".to_owned());
        Ok(parse(line, &variable)?.into_iter().map(|step| (step.joint, step.argv)).collect())
    }

    fn words(line: &str) -> Vec<String> {
        let mut steps = parsed(line).unwrap();
        assert_eq!(steps.len(), 1, "{steps:?}");
        steps.remove(0).1
    }

    #[test]
    fn words_quotes_and_variables() {
        assert_eq!(words("ls  -l\t/models"), ["ls", "-l", "/models"]);
        assert_eq!(words(r#"echo 'a $HOME' "b $HOME" c\ d"#), ["echo", "a $HOME", "b /a b", "c d"]);
        assert_eq!(words("echo $HOME ${HOME}x $NONE. $"), ["echo", "/a b", "/a bx", ".", "$"]);
        assert_eq!(words("echo '' \"\""), ["echo", "", ""]);
        assert_eq!(words("echo a#b # comment"), ["echo", "a#b"]);
    }

    #[test]
    fn commands_are_joined() {
        let steps = parsed("ls && pwd || env; help\n").unwrap();
        let joints: Vec<Joint> = steps.iter().map(|(joint, _)| *joint).collect();
        assert_eq!(joints, [Joint::Then, Joint::And, Joint::Or, Joint::Then]);
        assert_eq!(parsed("").unwrap(), []);
        assert_eq!(parsed("# nothing\n;").unwrap(), []);
    }

    #[test]
    fn what_is_not_known_is_said() {
        for line in ["ls | head", "cat < x", "ls > x", "ls &", "echo `ls`", "(ls)"] {
            assert!(parsed(line).unwrap_err().contains("is not known here"), "{line}");
        }
        assert_eq!(parsed("echo 'a").unwrap_err(), "a ' is not closed");
        assert!(parsed("&& ls").unwrap_err().contains("missing before"));
        assert!(parsed("ls &&").unwrap_err().contains("missing at the end"));
        assert!(parsed("ls && ; pwd").unwrap_err().contains("missing before"));
    }
}
