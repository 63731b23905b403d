//! Exit codes. Of verbs that docker has: docker's, 0 done, 1 it failed, 125 it was asked for with a flag that cannot be
//! (or the container never ran), else the container's own. Of Wharf's own verbs: 2 for what cannot work as asked (as
//! clap does), 125 where the machine lacks something.

use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind as Mistake;

use super::colour;
use crate::error::{Error, ErrorKind, Result};

/// Print an error and its causes to stderr; the code of its kind.
pub fn code(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        say(&error);
        ExitCode::from(of(&error))
    })
}

/// The same for a verb that docker has: whatever failed is 1, unless the daemon said which code it is.
pub fn remote(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        say(&error);
        let told = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<Told>());
        told.map_or(ExitCode::FAILURE, |told| ExitCode::from(told.code))
    })
}

/// Cause of an error whose exit code the daemon named: what a tool of a build ended with.
#[derive(Debug)]
pub struct Told {
    code: u8,
    text: String,
}

impl Told {
    /// As the shell sees it: the lowest eight bits.
    pub fn new(code: i64, text: &str) -> Told {
        let code = u8::try_from(code & 0xff).unwrap_or(1);
        Told { code, text: text.to_owned() }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Told {}

/// What clap has to say, and the code of it.
pub fn usage(error: &clap::Error, docker_has_it: bool) -> ExitCode {
    // Nothing is left to do when even stderr is closed.
    let _ = error.print();
    match error.kind() {
        Mistake::DisplayHelp | Mistake::DisplayVersion => ExitCode::SUCCESS,
        Mistake::DisplayHelpOnMissingArgumentOrSubcommand | Mistake::MissingRequiredArgument if docker_has_it => {
            ExitCode::FAILURE
        }
        Mistake::InvalidSubcommand if docker_has_it => ExitCode::FAILURE,
        _ if docker_has_it => ExitCode::from(125),
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
    }
}

/// The daemon's words, and docker's, stand for themselves; ours say who speaks.
fn say(error: &Error) {
    let text = error.chain();
    let speaker = if text.starts_with("Error") || text.starts_with("You cannot") { "" } else { "wharf: " };
    let text = format!("{speaker}{text}");
    let marks = ["wharf:", "Error response from daemon:", "Error:"].map(|mark| (mark, colour::RED));
    let text = if colour::on_stderr() { colour::mark(&text, &marks) } else { text };
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn of(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::InvalidArgument => 2,
        ErrorKind::Unmet => 125,
        _ => 1,
    }
}
