//! What `cargo test` said, kept while it passes by: which test programs ran, and how many tests passed.

const RESULT: &str = "test result: ";
/// How cargo announces the next test program.
const HEADERS: [&str; 2] = ["Running ", "Doc-tests "];

#[derive(Default)]
pub struct Summary {
    program: String,
    results: Vec<String>,
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl Summary {
    /// Takes one line of cargo's output.
    pub fn read(&mut self, line: &str) {
        let line = line.trim();
        if HEADERS.iter().any(|header| line.starts_with(header)) {
            // "Running tests/tidy.rs (…/tidy-1f2e3d)": the path in brackets helps nobody.
            line.split(" (").next().unwrap_or(line).clone_into(&mut self.program);
        }
        let Some(counts) = line.strip_prefix(RESULT) else { return };
        self.passed += count(counts, "passed");
        self.failed += count(counts, "failed");
        self.ignored += count(counts, "ignored");
        self.results.push(format!("{line}  [{}]", self.program));
    }

    /// Every `test result:` line again, then the totals alone on the last line.
    pub fn render(&self) -> String {
        let ignored = if self.ignored == 0 { String::new() } else { format!("{} ignored\n", self.ignored) };
        format!("{}\n{ignored}{} passed, {} failed", self.results.join("\n"), self.passed, self.failed)
    }

    pub fn is_empty(&self) -> bool {
        self.passed + self.failed == 0
    }
}

/// The number before `what` in "ok. 12 passed; 0 failed; …".
fn count(counts: &str, what: &str) -> u64 {
    let words: Vec<&str> = counts.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    let number = words.iter().zip(words.iter().skip(1)).find(|(_, word)| **word == what);
    number.and_then(|(number, _)| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up_and_shown_again() {
        let mut summary = Summary::default();
        for line in [
            "     Running unittests src/lib.rs (target/release/deps/wharf-0a1b)",
            "running 12 tests",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
            "   Doc-tests wharf_guest",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ] {
            summary.read(line);
        }
        let text = summary.render();
        assert!(text.contains("0.01s  [Running unittests src/lib.rs]\ntest result: FAILED."), "{text}");
        assert!(text.contains("[Doc-tests wharf_guest]\n1 ignored\n"), "{text}");
        assert!(text.ends_with("\n14 passed, 1 failed"), "{text}");
    }

    #[test]
    fn no_test_is_an_empty_summary() {
        assert!(Summary::default().is_empty());
    }
}
