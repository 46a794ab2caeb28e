//! `content` with its modifiers: where a pattern may lie, and the search for it.

use memchr::{memchr2_iter, memmem};

use super::number::Value;
use super::required;

/// A pattern and its place.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub bytes: Box<[u8]>,
    pub nocase: bool,
    pub negated: bool,
    pub offset: Option<Value>,
    pub depth: Option<Value>,
    pub distance: Option<Value>,
    pub within: Option<Value>,
    pub starts: bool,
    pub ends: bool,
    pub fast: bool,
    pub fast_only: bool,
    /// The step behind looks from the end of this one.
    pub relative_next: bool,
    finder: Option<memmem::Finder<'static>>,
    /// Place of the rarest byte, which is looked for first in either case.
    rarest: usize,
}

impl Content {
    pub(crate) fn new(bytes: Vec<u8>, negated: bool) -> Self {
        Self {
            bytes: bytes.into(),
            nocase: false,
            negated,
            offset: None,
            depth: None,
            distance: None,
            within: None,
            starts: false,
            ends: false,
            fast: false,
            fast_only: false,
            relative_next: false,
            finder: None,
            rarest: 0,
        }
    }

    /// Prepares the search once all modifiers are known.
    pub(crate) fn finish(&mut self) {
        if !self.nocase {
            self.finder = Some(memmem::Finder::new(&self.bytes).into_owned());
        }
        let rarity = |byte: u8| required::chance(&[byte]);
        let bytes = self.bytes.iter().enumerate();
        self.rarest = bytes.min_by(|one, other| rarity(*one.1).total_cmp(&rarity(*other.1))).map_or(0, |one| one.0);
    }

    pub(crate) fn is_relative(&self) -> bool {
        self.distance.is_some() || self.within.is_some()
    }

    /// Start of the first occurrence.
    pub(crate) fn find(&self, haystack: &[u8]) -> Option<usize> {
        if let Some(finder) = &self.finder {
            return finder.find(haystack);
        }
        let byte = self.bytes.get(self.rarest)?;
        let last_start = haystack.len().checked_sub(self.bytes.len())?;
        let places = haystack.get(self.rarest..=last_start + self.rarest)?;
        memchr2_iter(byte.to_ascii_lowercase(), byte.to_ascii_uppercase(), places).find(|at| {
            haystack.get(*at..at + self.bytes.len()).is_some_and(|part| part.eq_ignore_ascii_case(&self.bytes))
        })
    }

    /// Whether this is at the very end.
    pub(crate) fn is_at_end(&self, haystack: &[u8]) -> bool {
        haystack
            .len()
            .checked_sub(self.bytes.len())
            .and_then(|at| haystack.get(at..))
            .is_some_and(|tail| if self.nocase { tail.eq_ignore_ascii_case(&self.bytes) } else { *tail == *self.bytes })
    }

    /// How well the pattern tells packets apart: long and varied is better.
    pub(crate) fn strength(&self) -> u32 {
        let mut seen = [false; 256];
        let mut score = 0;
        for byte in &self.bytes {
            let again = seen.get_mut(usize::from(*byte)).is_some_and(|known| std::mem::replace(known, true));
            score += match byte {
                _ if again => 1,
                0x00 | 0x01 | 0xff | 0x20 => 2,
                byte if byte.is_ascii_alphabetic() => 3,
                byte if byte.is_ascii_graphic() => 4,
                _ => 6,
            };
        }
        score
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_in_either_case() {
        let mut content = Content::new(b"AbC".to_vec(), false);
        content.nocase = true;
        content.finish();
        assert_eq!((content.find(b"xxaBcabc"), content.find(b"ab"), content.find(b"xab")), (Some(2), None, None));
        assert!(content.is_at_end(b"xABC") && !content.is_at_end(b"BC"));
        let mut content = Content::new(b"Select(".to_vec(), false);
        content.nocase = true;
        content.finish();
        assert_eq!((content.find(b"((sELECT((x"), content.find(b"select["), content.find(b"(")), (Some(2), None, None));
    }
}
