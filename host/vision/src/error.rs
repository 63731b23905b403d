//! What can go wrong with a picture.

/// What the caller may act on. The kinds are those of `wharf:vision`, less `body`, which belongs to whoever
/// reads a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// There were no bytes at all.
    Empty,
    /// The bytes are not a picture of a supported format.
    UnsupportedFormat,
    /// The bytes claim to be a picture, but are truncated or damaged.
    Malformed,
    /// Over a limit of [`Limits`](crate::Limits) or of the format.
    TooLarge,
    /// An argument makes no sense.
    InvalidArgument,
}

/// A kind, and one sentence for people that names what was seen and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct VisionError {
    pub kind: ErrorKind,
    pub message: String,
}

impl VisionError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        VisionError { kind, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        VisionError::new(ErrorKind::InvalidArgument, message)
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        VisionError::new(ErrorKind::Malformed, message)
    }
}
