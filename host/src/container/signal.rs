//! Signals by name and number. A component receives none: a signal only says whether the container ends, and with which
//! exit code.

/// Numbers of Linux, which is what clients send.
const NUMBERS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

pub const KILL: Signal = Signal(9);
pub const TERM: Signal = Signal(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// `KILL`, `SIGKILL`, `sigkill`, `9`; empty is `KILL`. `None` for what is no signal.
    pub fn parse(text: &str) -> Option<Signal> {
        let text = text.trim().to_ascii_uppercase();
        if text.is_empty() {
            return Some(KILL);
        }
        if let Ok(number) = text.parse::<i32>() {
            return (1..=64).contains(&number).then_some(Signal(number));
        }
        let name = text.strip_prefix("SIG").unwrap_or(&text);
        NUMBERS.iter().find(|(known, _)| *known == name).map(|(_, number)| Signal(*number))
    }

    pub fn number(self) -> i32 {
        self.0
    }

    /// What a shell reports for a process that it ended.
    pub fn exit_code(self) -> i32 {
        128 + self.0
    }

    /// Whether a process that does not care would end by it, of those that people send to end something.
    pub fn ends(self) -> bool {
        [2, 3, 6, 9, 15].contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_every_spelling() {
        for (text, number) in [
            ("KILL", Some(9)),
            ("SIGKILL", Some(9)),
            ("sigint", Some(2)),
            ("9", Some(9)),
            ("", Some(9)),
            (" TERM ", Some(15)),
            ("HUP", Some(1)),
            ("64", Some(64)),
            ("0", None),
            ("-1", None),
            ("65", None),
            ("NONSENSE", None),
            ("SIG", None),
        ] {
            assert_eq!(Signal::parse(text).map(Signal::number), number, "{text:?}");
        }
    }

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!((TERM.exit_code(), KILL.exit_code()), (143, 137));
        assert_eq!(Signal::parse("INT").map(Signal::exit_code), Some(130));
        assert!(TERM.ends() && !Signal::parse("HUP").is_some_and(Signal::ends));
    }
}
