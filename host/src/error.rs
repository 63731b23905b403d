//! The host's one error: a closed kind, a message for people, a cause. It knows no HTTP and no exit codes;
//! each dialect (Docker's, Open Inference's, the command line's) translates the kind in one place of its own.

use std::error::Error as StdError;
use std::fmt;

/// What went wrong, as far as callers may act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller's fault; the message names the field.
    InvalidArgument,
    NotFound,
    /// The name, port or file is taken, or the state does not allow the verb.
    Conflict,
    /// Larger than a limit; the message says which.
    TooLarge,
    /// Full, draining or not ready yet; retrying later may work.
    Unavailable,
    DeadlineExceeded,
    /// What was given as proof of identity is wrong or missing.
    Unauthorized,
    /// Never allowed on this object, whoever asks: a predefined network, a read-only thing.
    Forbidden,
    /// Known by name, and not offered by this host; the message says what to use instead.
    Unimplemented,
    /// The machine lacks something: a library, a device, a permission. The message says how to get it.
    Unmet,
    /// A guest or a model failed while running.
    Failed,
    /// Reading or writing failed.
    Io,
}

/// `message` says what was being done and what is wrong with it; the cause stays in `source` and is never
/// repeated in the message. Whoever shows the error renders the chain ([`Error::chain`]).
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), source: None }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    /// Attach the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message and every cause, joined by `: `.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let part = error.to_string();
            // Some libraries repeat their cause in their own message.
            if !text.ends_with(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_names_every_cause_once() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::new(ErrorKind::Io, "cannot read model \"digits\"").because(cause);
        assert_eq!(error.to_string(), "cannot read model \"digits\"");
        assert_eq!(error.chain(), "cannot read model \"digits\": disk on fire");
    }
}
