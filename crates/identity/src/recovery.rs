//! Recovery codes: 80 random bits each, sixteen letters in groups of four. Kept is the SHA-256 over user and code; at 80
//! bits nobody tries them all.

use sha2::{Digest, Sha256};

/// Codes of a list.
pub const COUNT: usize = 10;
/// Bytes of a code.
pub const BYTES: usize = 10;
/// Letters without look-alikes, five bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A code as people write it down.
pub fn text(code: &[u8; BYTES]) -> String {
    let bits = code.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    let mut out = String::with_capacity(19);
    for at in 0..16_usize {
        if at > 0 && at % 4 == 0 {
            out.push('-');
        }
        let index = usize::try_from(bits >> (75 - 5 * at) & 31).unwrap_or_default();
        out.extend(ALPHABET.get(index).map(|letter| char::from(*letter)));
    }
    out
}

/// The code that was typed; none where it is no such code. Case, hyphens and spaces are of no account.
pub fn read(typed: &str) -> Option<[u8; BYTES]> {
    if typed.len() > 64 {
        return None;
    }
    let letters: Vec<u8> = typed.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'-').collect();
    if letters.len() != 16 {
        return None;
    }
    let mut bits = 0_u128;
    for letter in letters {
        let at = ALPHABET.iter().position(|known| known.eq_ignore_ascii_case(&letter))?;
        bits = bits << 5 | u128::try_from(at).ok()?;
    }
    bits.to_be_bytes().get(6..)?.try_into().ok()
}

/// By what a user's code is known.
pub fn hash(user: &str, code: &[u8; BYTES]) -> [u8; 32] {
    Sha256::new().chain_update(b"sakimori recovery 1\0").chain_update(code).chain_update(user).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_code_is_read_as_it_was_written(code: [u8; BYTES]) {
            let written = text(&code);
            assert_eq!(written.len(), 19);
            assert_eq!(read(&written), Some(code));
            assert_eq!(read(&format!(" {} ", written.to_uppercase().replace('-', " "))), Some(code));
        }

        #[test]
        fn no_text_makes_it_panic(typed: String) {
            if let Some(code) = read(&typed) {
                assert_eq!(read(&text(&code)), Some(code));
            }
        }
    }

    #[test]
    fn a_code_is_one_users() {
        assert_ne!(hash("a", &[7; 10]), hash("b", &[7; 10]));
        assert_ne!(hash("a", &[7; 10]), hash("a", &[8; 10]));
        for bad in ["", "aaaa-aaaa-aaaa-aaa", "aaaa-aaaa-aaaa-aaa1", "aaaa-aaaa-aaaa-aaaaa", &"a".repeat(1_000)] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
