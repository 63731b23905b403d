//! Colours of what this program says itself: only on a terminal that knows them, and not where `NO_COLOR` is set
//! (<https://no-color.org>). Tables have none: programs read them, and docker's have none either.

use std::io::{self, IsTerminal};

use super::environment;

/// Of a mistake.
pub const RED: u8 = 31;
/// Of a warning.
pub const YELLOW: u8 = 33;

pub fn on_stdout() -> bool {
    environment::wants_colour() && io::stdout().is_terminal()
}

pub fn on_stderr() -> bool {
    environment::wants_colour() && io::stderr().is_terminal()
}

/// The first of the marks that `text` begins with, in bold and its colour; other text as it is.
pub fn mark(text: &str, marks: &[(&str, u8)]) -> String {
    let found = marks.iter().find_map(|(mark, colour)| Some((mark, colour, text.strip_prefix(mark)?)));
    match found {
        Some((mark, colour, rest)) => format!("\x1b[1;{colour}m{mark}\x1b[0m{rest}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mark_is_coloured() {
        let marks = [("WARNING:", YELLOW), ("wharf:", RED)];
        assert_eq!(mark("wharf: no such file", &marks), "\x1b[1;31mwharf:\x1b[0m no such file");
        assert_eq!(mark("WARNING: wharf: x", &marks), "\x1b[1;33mWARNING:\x1b[0m wharf: x");
        assert_eq!(mark("a wharf: x", &marks), "a wharf: x");
    }
}
