//! Exit codes: 0 done, 1 it failed, 2 it was asked for in a way that cannot work (as clap does), 125 the machine
//! lacks something (as `docker` does when the daemon, not the container, is at fault).

use std::io::Write;
use std::process::ExitCode;

use crate::error::{Error, ErrorKind, Result};

/// Print an error and its causes to stderr; the code of its kind.
pub fn code(result: Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to do when even stderr is closed.
            let _ = writeln!(std::io::stderr(), "wharf: {}", error.chain());
            ExitCode::from(of(&error))
        }
    }
}

fn of(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::InvalidArgument => 2,
        ErrorKind::Unmet => 125,
        _ => 1,
    }
}
