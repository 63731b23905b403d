//! What a program prints, compared to files of `host/tests/golden`. `WHARF_BLESS=1` writes them anew: read the
//! difference then.

use std::fs;

use regex_lite::Regex;

use super::guests;

/// What differs from run to run, and what stands for it. In this order: a longer thing before its parts.
const MASKS: [(&str, &str); 9] = [
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^ \n]*", "TIME"),
    (r"\b[0-9a-f]{64}\b", "LONG-ID"),
    (r"\b[0-9a-f]{12}\b", "SHORT-ID"),
    (r"\b(About an?|Less than an?|\d+) (second|minute|hour)s?\b", "AGE"),
    (r"\b\d+(\.\d+)?([kMG]?B|[KMG]iB)\b", "SIZE"),
    (r"\b\d+(\.\d+)?%", "PERCENT"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"\b\d\d:\d\d(:\d\d)?\b", "CLOCK"),
    // Columns are as wide as what is now masked.
    (r" {2,}", "  "),
];

/// With ids, ages, sizes and ports replaced by words, and columns apart by two spaces.
pub fn masked(text: &str) -> String {
    let masked = MASKS.iter().fold(text.to_owned(), |text, (pattern, word)| {
        Regex::new(pattern).unwrap().replace_all(&text, *word).into_owned()
    });
    masked.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Whether the file holds just this.
#[track_caller]
pub fn matches(name: &str, seen: &str) {
    let path = guests::source("host/tests/golden").join(name);
    if std::env::var_os("WHARF_BLESS").is_some() {
        fs::write(&path, seen).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(seen == expected, "{name} has changed: WHARF_BLESS=1 writes it anew. It was:\n{expected}\nand is:\n{seen}");
}
