//! A command written as one string, taken apart as a shell would: quotes and backslashes, nothing else.

use crate::error::{Error, Result};

pub fn split(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => quoted(letter, &mut letters, word.get_or_insert_default(), text)?,
            '\\' => word.get_or_insert_default().extend(letters.next()),
            blank if blank.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(quote: char, letters: &mut std::str::Chars<'_>, word: &mut String, text: &str) -> Result<()> {
    loop {
        match letters.next() {
            None => return Err(Error::invalid(format!("the command {text:?} has a {quote} without its partner"))),
            Some(letter) if letter == quote => return Ok(()),
            Some('\\') if quote == '"' => match letters.next() {
                Some(letter @ ('"' | '\\' | '$' | '`')) => word.push(letter),
                Some(other) => word.extend(['\\', other]),
                None => {}
            },
            Some(other) => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_shell_would() {
        let cases: &[(&str, &[&str])] = &[
            ("/a.wasm --x  1", &["/a.wasm", "--x", "1"]),
            ("sh -c 'echo \"a b\"'", &["sh", "-c", "echo \"a b\""]),
            (r#"a "b \"c\" \n" d\ e"#, &["a", r#"b "c" \n"#, "d e"]),
            ("a '' b", &["a", "", "b"]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text).unwrap(), *expected, "{text}");
        }
        assert!(split("a 'b").unwrap_err().to_string().contains("without its partner"));
    }
}
