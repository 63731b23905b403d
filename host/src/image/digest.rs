//! Content addresses: `sha256:` and 64 hexadecimal digits. Whatever has this type is well formed, so it may become
//! part of a path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

const PREFIX: &str = "sha256:";
const HEX: usize = 64;
/// What people see of an id.
const SHORT: usize = 12;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::finish(Sha256::new_with_prefix(bytes))
    }

    /// What a hash that was fed piece by piece comes to.
    pub fn finish(hash: Sha256) -> Digest {
        let mut text = String::with_capacity(PREFIX.len() + HEX);
        text.push_str(PREFIX);
        for byte in hash.finalize() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        Digest(text)
    }

    /// The digest written as `hex` alone, as files are called.
    pub fn from_hex(hex: &str) -> Option<Digest> {
        format!("{PREFIX}{hex}").parse().ok()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn hex(&self) -> &str {
        self.0.get(PREFIX.len()..).unwrap_or_default()
    }

    pub fn short(&self) -> &str {
        self.hex().get(..SHORT).unwrap_or_default()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Digest> {
        let hex = text.strip_prefix(PREFIX).filter(|hex| hex.len() == HEX && hex.bytes().all(is_digit));
        hex.map(|_| Digest(text.to_owned())).ok_or_else(|| {
            Error::invalid(format!(
                "invalid digest {text:?}: it must be sha256: and {HEX} lower-case hexadecimal digits"
            ))
        })
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Digest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_digest_is_the_known_one() {
        let digest = Digest::of(b"");
        assert_eq!(digest.hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(digest.short(), "e3b0c44298fc");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(Digest::from_hex(digest.hex()), Some(digest));
    }

    #[test]
    fn nothing_else_is_a_digest() {
        let upper = Digest::of(b"").to_string().to_uppercase();
        for text in ["", "sha256:", "sha256:../../etc/passwd", "sha512:00", &"0".repeat(64), &upper] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
