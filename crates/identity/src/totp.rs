//! Codes by time (RFC 6238): HMAC-SHA-1 over the number of the half minute, six digits, as every authenticator app takes
//! them. A clock may be one step off. Which step a code is of is told, so that a step is used once.

use ring::hmac;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

/// Length of a secret, in bytes: RFC 4226 recommends 160 bits.
pub const SECRET: usize = 20;
/// Length of a step, in seconds.
pub const STEP: i64 = 30;
/// Steps that a clock may be off.
pub const DRIFT: i64 = 1;
/// Digits of a code.
pub const DIGITS: usize = 6;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The step of a time in seconds.
pub fn step(seconds: i64) -> i64 {
    seconds.div_euclid(STEP)
}

/// The code of a step (RFC 4226, section 5.3).
pub fn code(secret: &[u8], step: i64) -> u32 {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag.last().copied().unwrap_or_default() & 15);
    let word = tag.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes);
    (word & 0x7fff_ffff) % 1_000_000
}

/// The step whose code this is, around a time in seconds; none where it is no code of now. Spaces are of no account.
pub fn check(secret: &[u8], typed: &str, seconds: i64) -> Option<i64> {
    let digits = digits(typed)?;
    let now = step(seconds);
    // All steps are worked out, whichever fits.
    let mut found = 0_i64;
    for step in now - DRIFT..=now + DRIFT {
        let fits = code(secret, step).ct_eq(&digits);
        found.conditional_assign(&step, fits);
    }
    (found != 0).then_some(found)
}

/// Is this six digits, as a code is?
pub fn is_code(typed: &str) -> bool {
    digits(typed).is_some()
}

fn digits(typed: &str) -> Option<u32> {
    if typed.len() > 16 {
        return None;
    }
    let plain: String = typed.chars().filter(|one| !one.is_whitespace()).collect();
    (plain.len() == DIGITS && plain.bytes().all(|byte| byte.is_ascii_digit())).then(|| plain.parse().ok()).flatten()
}

/// A secret as people type it: base32 without padding (RFC 4648, section 6).
pub fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for group in bytes.chunks(5) {
        let mut word = [0_u8; 8];
        for (to, from) in word.iter_mut().skip(3).zip(group) {
            *to = *from;
        }
        let word = u64::from_be_bytes(word);
        let letters = (group.len() * 8).div_ceil(5);
        for at in 0..letters {
            let index = usize::try_from(word >> (35 - 5 * at) & 31).unwrap_or_default();
            out.extend(ALPHABET.get(index).map(|letter| char::from(*letter)));
        }
    }
    out
}

/// What an authenticator app reads, mostly out of a picture: issuer and account are names for people.
pub fn uri(issuer: &str, account: &str, secret: &[u8]) -> String {
    let mut label = url::form_urlencoded::Serializer::new(String::new());
    label.append_pair("secret", &base32(secret)).append_pair("issuer", issuer);
    label.append_pair("algorithm", "SHA1").append_pair("digits", "6").append_pair("period", "30");
    let query = label.finish().replace('+', "%20");
    format!("otpauth://totp/{}:{}?{query}", escape(issuer), escape(account))
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret of RFC 6238, appendix B.
    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, SHA1, the last six of eight digits.
        for (seconds, wanted) in [
            (59, 287_082),
            (1_111_111_109, 81_804),
            (1_111_111_111, 50_471),
            (1_234_567_890, 5_924),
            (2_000_000_000, 279_037),
            (20_000_000_000, 353_130),
        ] {
            assert_eq!(code(SECRET, step(seconds)), wanted, "{seconds}");
            assert_eq!(check(SECRET, &format!("{wanted:06}"), seconds), Some(step(seconds)));
        }
    }

    #[test]
    fn a_clock_may_be_one_step_off_and_no_more() {
        let now = 1_800_000_000;
        for off in -3..=3_i64 {
            let typed = format!("{:06}", code(SECRET, step(now) + off));
            assert_eq!(check(SECRET, &typed, now), (off.abs() <= DRIFT).then_some(step(now) + off), "{off}");
        }
        let typed = format!("{:06}", code(SECRET, step(now)));
        let spaced = format!(" {} {} ", &typed[..3], &typed[3..]);
        assert!(check(SECRET, &spaced, now).is_some());
        for bad in ["", "12345", "1234567", "abcdef", "+12345", "１２３４５６", &" ".repeat(1_000), &typed[..5]] {
            assert_eq!(check(SECRET, bad, now), None, "{bad}");
        }
    }

    #[test]
    fn secrets_are_written_as_apps_read_them() {
        // RFC 4648, section 10.
        for (plain, wanted) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(plain.as_bytes()), wanted);
        }
        let uri = uri("Sakimori", "ann/1 ü", SECRET);
        assert!(uri.starts_with("otpauth://totp/Sakimori:ann%2F1%20%C3%BC?secret=GEZDGNBV"), "{uri}");
        assert!(uri.contains("&issuer=Sakimori&"));
    }
}
