//! Header fields: few of them, so a list; names are compared without case.

/// The header fields of a request. As an extractor: all of them, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    pub(crate) fn new(entries: Vec<(String, Vec<u8>)>) -> Self {
        Headers(entries)
    }

    /// The first field of that name, if it is text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| str::from_utf8(value).ok())
    }

    /// All fields: name and raw value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    pub(crate) fn push(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.as_bytes().to_vec()));
    }
}

/// The media type of a `content-type` value: lower case, without parameters.
pub(crate) fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The value of one parameter of a header field such as `form-data; name="picture"; filename="a.png"`.
/// Quoted values may hold `;` and backslash escapes.
pub(crate) fn parameter(field: &str, wanted: &str) -> Option<String> {
    let mut rest = field.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, tail) = match after.strip_prefix('"') {
            Some(quoted) => quoted_string(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                let (value, tail) = after.split_at(end);
                (value.trim().to_owned(), tail)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = tail.split_once(';')?.1;
    }
}

/// Up to the closing quote: the value, and what follows it.
fn quoted_string(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => match characters.next()? {
                (_, escaped @ ('"' | '\\')) => value.push(escaped),
                // Browsers send Windows paths with bare backslashes.
                (_, other) => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_case() {
        let mut headers = Headers::default();
        headers.push("Content-Type", "image/png");
        assert_eq!(headers.get("content-type"), Some("image/png"));
        assert_eq!(headers.get("accept"), None);
    }

    #[test]
    fn parameters_may_be_quoted() {
        let field = r#"form-data; name="a; b"; filename="C:\x\"1\".png"; size=3"#;
        assert_eq!(parameter(field, "name").as_deref(), Some("a; b"));
        assert_eq!(parameter(field, "FILENAME").as_deref(), Some(r#"C:\x"1".png"#));
        assert_eq!(parameter(field, "size").as_deref(), Some("3"));
        assert_eq!(parameter(field, "other"), None);
        assert_eq!(parameter(r#"form-data; name="never closed"#, "name"), None);
        assert_eq!(parameter("text/plain", "charset"), None);
    }

    #[test]
    fn media_types_lose_their_parameters() {
        assert_eq!(media_type("Text/HTML; charset=utf-8"), "text/html");
    }
}
