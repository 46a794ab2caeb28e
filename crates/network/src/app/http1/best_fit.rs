//! Letters beyond ASCII in a path, as the one byte that servers who want one byte take for them.
//!
//! A path in UTF-8 says `/` also as U+2215, as the full-width U+FF0F, and, wrongly, in more bytes than are needed. Some
//! servers fold such letters to those that look alike; so does Suricata, and rules are written for that.

/// U+0100 to U+017E, without their marks.
const LATIN: &[u8] =
    b"AaAaAaCcCcCcCcDdDdEeEeEeEeEeGgGgGgGgHhHhIiIiIiIiIi??JjKk?LlLlLl??LlNnNnNn???OoOoOo??RrRrRrSsSsSs??\
    TtTtTtUuUuUuUuUuUuWwYy?ZzZz??";

/// Others that look like a sign that matters in a path or in an attack.
const SIGNS: &[(u32, u8)] = &[
    (0x2010, b'-'),
    (0x2011, b'-'),
    (0x2024, b'.'),
    (0x2032, b'\''),
    (0x2035, b'`'),
    (0x2044, b'/'),
    (0x2212, b'-'),
    (0x2215, b'/'),
    (0x2216, b'\\'),
    (0x2217, b'*'),
    (0x2223, b'|'),
    (0x2236, b':'),
    (0x223c, b'~'),
    (0x3000, b' '),
    (0x3008, b'<'),
    (0x3009, b'>'),
];

/// The path with each letter of UTF-8 as one byte; what is none, or fits nothing, is a question mark.
pub(super) fn fold(path: Vec<u8>) -> Vec<u8> {
    if path.is_ascii() {
        return path;
    }
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_slice();
    while let Some((first, tail)) = rest.split_first() {
        let (letter, used) = match first {
            0..0x80 => (Some(u32::from(*first)), 0),
            // Also those that need fewer bytes.
            0xc0..0xe0 => sequence(u32::from(first & 0x1f), tail, 1),
            0xe0..0xf0 => sequence(u32::from(first & 0x0f), tail, 2),
            0xf0..0xf8 => sequence(u32::from(first & 0x07), tail, 3),
            _ => (None, 0),
        };
        out.push(letter.map_or(b'?', byte));
        rest = tail.get(used..).unwrap_or_default();
    }
    out
}

/// The letter of a first byte's bits and so many bytes that follow, and how many were used.
fn sequence(first: u32, tail: &[u8], count: usize) -> (Option<u32>, usize) {
    let Some(more) = tail.get(..count).filter(|more| more.iter().all(|byte| byte & 0xc0 == 0x80)) else {
        return (None, 0);
    };
    (Some(more.iter().fold(first, |letter, byte| letter << 6 | u32::from(byte & 0x3f))), count)
}

fn byte(letter: u32) -> u8 {
    match letter {
        0..0x100 => letter as u8,
        0x100..0x180 => LATIN.get(letter as usize - 0x100).copied().unwrap_or(b'?'),
        0xff01..=0xff5e => (letter - 0xfee0) as u8,
        _ => SIGNS.iter().find(|sign| sign.0 == letter).map_or(b'?', |sign| sign.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_look_like_others() {
        let fold = |path: &[u8]| fold(path.to_vec());
        assert_eq!(fold("/caf\u{e9}/\u{100}\u{17c}\u{2215}\u{ff0f}\u{4e2d}".as_bytes()), b"/caf\xe9/Az//?");
        // In two and three bytes instead of one.
        assert_eq!(fold(b"..\xc0\xaf\xe0\x80\xaf\xc1\x81"), b"..//A");
        // No UTF-8.
        assert_eq!(fold(b"\x80\xc3\xc3(\xf0\x9f\x98"), b"???(???");
    }
}
