//! Identifiers as Docker has them: 64 hexadecimal digits, shown as their first twelve.

use std::fmt::Write as _;

use crate::error::{Error, ErrorKind, Result};

/// What people see of an id.
const SHORT: usize = 12;

pub fn random() -> Result<String> {
    let mut bytes = [0_u8; 32];
    fill(&mut bytes)?;
    let mut id = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    Ok(id)
}

pub fn random_number() -> Result<u64> {
    let mut bytes = [0_u8; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::new(ErrorKind::Unmet, "the system gives no random bytes to make an id of").because(error)
    })
}

pub fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_hexadecimal_digits_and_differ() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert!(is_id(&one) && is_id(&two) && one != two);
        assert_eq!(short(&one), &one[..12]);
        assert!(
            !is_id("config.json") && !is_id(&one[1..]) && !is_id(&one.to_uppercase().replace(char::is_numeric, "A"))
        );
    }
}
