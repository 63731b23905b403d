//! Docker's file patterns: `*` and `?` within a name, `[a-z]`, `**` over any number of folders.

/// Whether a whole path matches. `**` means something only where a pattern of `.dockerignore` has it.
pub fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts(&pattern, &path)
}

/// Row by row, so that no pattern takes exponential time.
fn parts(pattern: &[&str], path: &[&str]) -> bool {
    let mut reachable = vec![false; path.len() + 1];
    reachable[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        if *part == "**" {
            let mut any = false;
            for (at, from) in reachable.iter().enumerate() {
                any |= *from;
                next[at] = any;
            }
        } else {
            for (at, name) in path.iter().enumerate() {
                next[at + 1] = reachable[at] && name_matches(part, name);
            }
        }
        reachable = next;
    }
    reachable[path.len()]
}

/// Whether one name matches one part of a pattern.
fn name_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when the last `*` takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&'*') {
            retry = Some((p + 1, n));
            p += 1;
            continue;
        }
        match one(&pattern, p, name.get(n).copied()) {
            Some(length) => (p, n) = (p + length, n + 1),
            None if p == pattern.len() && n == name.len() => return true,
            None => match retry {
                Some((after, at)) if at < name.len() => {
                    retry = Some((after, at + 1));
                    (p, n) = (after, at + 1);
                }
                _ => return false,
            },
        }
    }
}

/// How much of the pattern one character uses up, if it matches.
fn one(pattern: &[char], at: usize, c: Option<char>) -> Option<usize> {
    let c = c?;
    match pattern.get(at)? {
        '?' => Some(1),
        '\\' => (*pattern.get(at + 1)? == c).then_some(2),
        '[' => class(pattern.get(at + 1..)?, c).map(|length| length + 1),
        literal => (*literal == c).then_some(1),
    }
}

/// What follows a `[`: the length up to and with `]`, if the character is in it.
fn class(pattern: &[char], c: char) -> Option<usize> {
    let negated = pattern.first() == Some(&'^');
    let mut at = usize::from(negated);
    let (mut found, mut first) = (false, true);
    loop {
        let mut low = *pattern.get(at)?;
        if low == ']' && !first {
            return (found != negated).then_some(at + 1);
        }
        first = false;
        if low == '\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        at += 1;
        let mut high = low;
        if pattern.get(at) == Some(&'-') && pattern.get(at + 1) != Some(&']') {
            high = *pattern.get(at + 1)?;
            at += 2;
        }
        found |= (low..=high).contains(&c);
    }
}

pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_dockers_do() {
        for (pattern, path, expected) in [
            ("*.wasm", "app.wasm", true),
            ("*.wasm", "a/app.wasm", false),
            ("a/*/c", "a/b/c", true),
            ("**/c", "c", true),
            ("**/c", "a/b/c", true),
            ("a/**", "a/b/c", true),
            ("**", "a", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            (r"\*", "*", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("[", "[", false),
            ("./a/", "a", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        assert!(!matches(&"*a".repeat(64), &"a".repeat(4096).replace("aaaa", "aaab")));
        assert!(!matches(&"**/a/".repeat(64), &"a/".repeat(60)));
    }
}
