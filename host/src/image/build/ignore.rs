//! `.dockerignore`: what of the context takes no part. The last rule that matches decides; `!` takes back.

use std::fs;
use std::path::Path;

use super::pattern;

const FILE: &str = ".dockerignore";
/// What clients call a Dockerfile that is not part of the context.
const PASSED_ALONG: &str = ".dockerfile.";

#[derive(Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    pattern: String,
    /// It takes back what an earlier one excluded.
    exception: bool,
}

impl Ignore {
    /// The rules beside a Dockerfile, or the context's.
    pub fn read(context: &Path, dockerfile: &str) -> Ignore {
        let own = fs::read_to_string(context.join(format!("{dockerfile}{FILE}")));
        let text = own.or_else(|_| fs::read_to_string(context.join(FILE))).unwrap_or_default();
        let mut ignore = Ignore::parse(&text);
        if dockerfile.starts_with(PASSED_ALONG) {
            ignore.rules.push(Rule { pattern: dockerfile.to_owned(), exception: false });
        }
        ignore
    }

    fn parse(text: &str) -> Ignore {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
        let rule = |line: &str| {
            let (line, exception) = line.strip_prefix('!').map_or((line, false), |line| (line.trim(), true));
            let pattern = line.trim_start_matches('/').to_owned();
            (!pattern.is_empty()).then_some(Rule { pattern, exception })
        };
        Ignore { rules: lines.filter_map(rule).collect() }
    }

    /// Whether a path of the context takes no part. A rule for a folder is one for all in it.
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for rule in &self.rules {
            // A rule that says what is so already need not be matched.
            if rule.exception != excluded {
                continue;
            }
            let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
            if ends.into_iter().any(|end| pattern::matches(&rule.pattern, &path[..end])) {
                excluded = !rule.exception;
            }
        }
        excluded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_that_matches_decides() {
        let ignore = Ignore::parse("# comment\n*.md\n!README.md\n/target\n**/*.tmp\nsecret\n!secret/public\n\n");
        for (path, excluded) in [
            ("a.md", true),
            ("README.md", false),
            ("doc/a.md", false),
            ("target", true),
            ("target/debug/x", true),
            ("a/b/c.tmp", true),
            ("secret/key", true),
            ("secret/public/key", false),
            ("app.wasm", false),
        ] {
            assert_eq!(ignore.excludes(path), excluded, "{path}");
        }
    }

    #[test]
    fn all_but_some() {
        let ignore = Ignore::parse("*\n!app.wasm\n!models\n");
        assert!(ignore.excludes("Dockerfile") && ignore.excludes("src/lib.rs"));
        assert!(!ignore.excludes("app.wasm") && !ignore.excludes("models/a.onnx"));
    }
}
