//! The header with which a registry asks who is there (`WWW-Authenticate`), read. Pure.

/// How the registry wants to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token, which the server at `realm` sells for a name and a password, or to anybody.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The best of all challenges offered; `None` if there is none that we can answer. A token is asked for rather
    /// than showing the password with every request.
    pub fn read<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut basic = false;
        for (scheme, parameters) in headers.flat_map(schemes) {
            let get = |name: &str| {
                parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = get("realm")
            {
                return Some(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
            }
            basic |= scheme.eq_ignore_ascii_case("basic");
        }
        basic.then_some(Challenge::Basic)
    }
}

type Scheme = (String, Vec<(String, String)>);

/// `Basic realm="a", Bearer realm="b",service="c"` taken apart. What is not understood ends the reading.
fn schemes(header: &str) -> Vec<Scheme> {
    let mut found: Vec<Scheme> = Vec::new();
    let mut rest = header.trim_start();
    while let Some((word, after)) = token(rest) {
        let after = after.trim_start();
        let value = after.strip_prefix('=').map(str::trim_start).and_then(value);
        rest = match (value, found.last_mut()) {
            (Some((value, after)), Some((_, parameters))) => {
                parameters.push((word.to_owned(), value));
                after
            }
            // A value before any scheme.
            (Some(_), None) => return found,
            (None, _) => {
                found.push((word.to_owned(), Vec::new()));
                after
            }
        };
        rest = rest.trim_start_matches([',', ' ', '\t']);
    }
    found
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.!#$%&'*+^`|~".contains(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A bare word, or a quoted string without its quotes and escapes.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return Some((word.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[position + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: &str| text.to_owned();
        Some(Challenge::Bearer { realm: owned(realm), service: service.map(owned), scope: scope.map(owned) })
    }

    #[test]
    fn challenges_are_read() {
        for (header, expected) in [
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://auth.example/token",service="reg.example",scope="repository:a/b:pull,push""#,
                bearer("https://auth.example/token", Some("reg.example"), Some("repository:a/b:pull,push")),
            ),
            (r#"Basic realm="x", Bearer realm = "https://y" , error="z""#, bearer("https://y", None, None)),
            (r#"BEARER Realm=https://y,service=s"#, bearer("https://y", Some("s"), None)),
            (r#"Bearer realm="a\"b\\""#, bearer(r#"a"b\"#, None, None)),
            // Nothing we could answer.
            ("Negotiate", None),
            ("Bearer service=\"no realm\"", None),
            ("Bearer realm=\"never closed", None),
            ("realm=\"x\"", None),
            ("", None),
            (",,,", None),
            ("é", None),
        ] {
            assert_eq!(Challenge::read([header].into_iter()), expected, "{header}");
        }
    }

    #[test]
    fn a_token_is_preferred_over_showing_the_password() {
        let headers = [r#"Basic realm="a""#, r#"Bearer realm="https://b""#];
        assert_eq!(Challenge::read(headers.into_iter()), bearer("https://b", None, None));
    }

    #[test]
    fn cut_headers_never_panic() {
        let header = r#"Basic realm="ä\"", Bearer realm="https://é", scope="a b""#;
        for end in (0..header.len()).filter(|end| header.is_char_boundary(*end)) {
            Challenge::read([&header[..end]].into_iter());
        }
    }
}
