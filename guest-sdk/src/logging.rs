//! The `log` facade, wired to the container's log: one line a record, on standard error. A panic's
//! message goes the same way, since on `wasm32-unknown-unknown` it would otherwise be lost.

use std::fmt::Write;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::environment;

/// Which environment variable sets the least severe level that is logged; `info` unless set.
const LEVEL_VARIABLE: &str = "LOG_LEVEL";

struct ContainerLog {
    /// Read when something is first logged: a request that logs nothing does not pay for it.
    level: OnceLock<LevelFilter>,
}

static LOG: ContainerLog = ContainerLog { level: OnceLock::new() };

/// Send records and panics to the container's log. A logger of the service's own stays.
pub(crate) fn install() {
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
    std::panic::set_hook(Box::new(report_panic));
}

impl Log for ContainerLog {
    fn enabled(&self, metadata: &Metadata) -> bool {
        let level = self.level.get_or_init(|| {
            environment::env(LEVEL_VARIABLE).and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Info)
        });
        metadata.level() <= *level
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            environment::write_error(&line(record.level(), record.target(), &record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

fn report_panic(panic: &PanicHookInfo) {
    let message = panic.payload_as_str().unwrap_or("a panic without a message");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    environment::write_error(&line(Level::Error, "panic", &format!("{message} (at {place})")));
}

/// `ERROR digits: the message`. Line breaks are escaped: what a caller sends cannot forge a record.
fn line(level: Level, target: &str, message: &str) -> String {
    let mut line = format!("{level} {target}: ");
    for character in message.chars() {
        // Writing to a String cannot fail.
        let _ = match character {
            '\n' => write!(line, "\\n"),
            '\r' => write!(line, "\\r"),
            other => write!(line, "{other}"),
        };
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line() {
        assert_eq!(line(Level::Warn, "digits", "a\nERROR b: c\r"), "WARN digits: a\\nERROR b: c\\r\n");
    }
}
