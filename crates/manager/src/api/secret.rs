//! Secrets of the API: what tokens and sessions look like, and the hash by which they are known.
//!
//! ```text
//! skt_<32 random bytes, base64url>    an API token
//! sks_<32 random bytes, base64url>    a session of a program
//! skc_<32 random bytes, base64url>    a session of a browser, good as a cookie alone
//! skb_<32 random bytes, base64url>    the key of a bouncer, which opens decisions and nothing else
//! ```
//!
//! The prefix lets scanners of source code find one that was committed by mistake. Kept is the SHA-256: at 256
//! random bits nobody guesses, so a lookup by the hash needs neither salt nor constant time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use sakimori_model::ledger::Hash;
use sha2::{Digest, Sha256};

/// What a secret opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An API token.
    Token,
    /// A session of a program.
    Session,
    /// A session of a browser.
    Browser,
    /// Decisions.
    Bouncer,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Token => "skt_",
            Self::Session => "sks_",
            Self::Browser => "skc_",
            Self::Bouncer => "skb_",
        }
    }
}

/// Random bytes from the kernel.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// A new secret and its hash.
pub fn make(kind: Kind) -> (String, Hash) {
    let text = format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(random::<32>()));
    let hash = hash(&text);
    (text, hash)
}

/// What this text would open, and its hash; none where it cannot be a secret.
pub fn read(text: &str) -> Option<(Kind, Hash)> {
    let kind = [Kind::Token, Kind::Session, Kind::Browser].into_iter().find(|kind| text.starts_with(kind.prefix()))?;
    (text.len() == 4 + 43).then(|| (kind, hash(text)))
}

/// The hash of a bouncer's key; none where the text cannot be one.
pub fn bouncer(text: &str) -> Option<Hash> {
    (text.starts_with(Kind::Bouncer.prefix()) && text.len() == 4 + 43).then(|| hash(text))
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

/// A password for people: 20 characters of an alphabet without look-alikes, 98 bits.
pub fn password() -> String {
    const ALPHABET: &[u8; 30] = b"abcdefghijkmnpqrstuvwxyz234679";
    let mut out = String::with_capacity(23);
    while out.len() < 23 {
        if out.len() % 6 == 5 {
            out.push('-');
        }
        // 240 is a multiple of 30: what lies above is drawn again, so that every letter is as likely.
        let [byte] = random::<1>();
        if byte < 240 {
            out.extend(ALPHABET.get(usize::from(byte % 30)).map(|letter| char::from(*letter)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_what_it_is() {
        let (text, hash) = make(Kind::Token);
        assert_eq!(read(&text), Some((Kind::Token, hash)));
        assert_eq!(read(&make(Kind::Session).0).map(|read| read.0), Some(Kind::Session));
        assert_ne!(make(Kind::Token).0, text);
        for bad in ["", "skt_", "x", &text[1..], &format!("{text}x")] {
            assert_eq!(read(bad), None);
        }
    }

    #[test]
    fn passwords_are_long_and_differ() {
        let password = password();
        assert_eq!(password.chars().filter(|letter| *letter != '-').count(), 20, "{password}");
        assert_ne!(password, super::password());
    }
}
