//! Patterns with `*` (any run of characters) and `?` (one), without regard to case, in time linear in practice
//! and at worst text × pattern: no backtracking beyond the last star.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wildcard {
    /// Lower case.
    parts: Vec<Part>,
    /// Its text, where it has no wildcard.
    literal: Option<String>,
}

/// One step of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// This character, in lower case.
    Char(char),
    /// Any one.
    One,
    /// Any number.
    Many,
}

impl Wildcard {
    /// From its parts; characters become lower case, repeated stars one.
    pub fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        let mut out: Vec<Part> = Vec::new();
        for part in parts {
            match part {
                Part::Char(c) => out.extend(c.to_lowercase().map(Part::Char)),
                Part::Many if out.last() == Some(&Part::Many) => {}
                other => out.push(other),
            }
        }
        let char_of = |part: &Part| match part {
            Part::Char(c) => Some(*c),
            Part::One | Part::Many => None,
        };
        Self { literal: out.iter().map(char_of).collect(), parts: out }
    }

    /// A text without wildcards.
    pub fn literal(text: &str) -> Self {
        Self::new(text.chars().map(Part::Char))
    }

    /// Its parts.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Is it the lone star?
    pub fn is_any(&self) -> bool {
        self.parts == [Part::Many]
    }

    /// Its text, where it has no wildcard.
    pub fn as_literal(&self) -> Option<&str> {
        self.literal.as_deref()
    }

    /// Is the whole text of this form?
    pub fn matches(&self, text: &str) -> bool {
        if text.is_ascii() {
            run(&self.parts, text.as_bytes(), |byte| char::from(byte.to_ascii_lowercase()))
        } else {
            let lower: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
            run(&self.parts, &lower, |c| *c)
        }
    }

    /// Does the text contain it?
    pub fn is_in(&self, text: &str) -> bool {
        if let Some(needle) = self.literal.as_deref().filter(|needle| needle.is_ascii()) {
            return contains_ascii(text.as_bytes(), needle.as_bytes());
        }
        let mut parts = vec![Part::Many];
        parts.extend(self.parts.iter().copied());
        parts.push(Part::Many);
        Self::new(parts).matches(text)
    }
}

fn run<T>(parts: &[Part], text: &[T], lower: impl Fn(&T) -> char) -> bool {
    let (mut at, mut part) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text.get(at) {
        match parts.get(part) {
            Some(Part::Many) => {
                star = Some((part, at));
                part += 1;
                continue;
            }
            Some(Part::One) => {
                at += 1;
                part += 1;
                continue;
            }
            Some(Part::Char(wanted)) if *wanted == lower(c) => {
                at += 1;
                part += 1;
                continue;
            }
            _ => {}
        }
        match star {
            Some((star_part, star_at)) => {
                part = star_part + 1;
                at = star_at + 1;
                star = Some((star_part, star_at + 1));
            }
            None => return false,
        }
    }
    parts.get(part..).is_none_or(|left| left.iter().all(|part| *part == Part::Many))
}

/// Substring search without regard to ASCII case; `needle` is in lower case.
fn contains_ascii(text: &[u8], needle: &[u8]) -> bool {
    let Some((first, tail)) = needle.split_first() else { return true };
    let upper = first.to_ascii_uppercase();
    memchr::memchr2_iter(*first, upper, text)
        .any(|at| text.get(at + 1..at + needle.len()).is_some_and(|found| found.eq_ignore_ascii_case(tail)))
}

/// Are two texts equal without regard to case?
pub(super) fn equal(left: &str, right: &str) -> bool {
    if left.is_ascii() && right.is_ascii() {
        left.eq_ignore_ascii_case(right)
    } else {
        left.chars().flat_map(char::to_lowercase).eq(right.chars().flat_map(char::to_lowercase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Wildcard {
        Wildcard::new(text.chars().map(|c| match c {
            '*' => Part::Many,
            '?' => Part::One,
            c => Part::Char(c),
        }))
    }

    #[test]
    fn stars_and_questions() {
        for (form, text, expected) in [
            ("ro*", "ROOT", true),
            ("ro*", "aroot", false),
            ("*.example.*", "www.Example.org", true),
            ("r??t", "root", true),
            ("r?t", "root", false),
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("straße*", "STRAßE 1", true),
        ] {
            assert_eq!(pattern(form).matches(text), expected, "{form} {text}");
        }
        assert!(pattern("failed pass").is_in("sshd: FAILED Password for root"));
        assert!(!pattern("failed pass").is_in("failed"));
        assert!(Wildcard::literal("ÄB").is_in("xäby"));
    }

    #[test]
    fn a_pattern_of_stars_is_quick() {
        let form = pattern(&"a*".repeat(500));
        assert!(!form.matches(&format!("{}b", "a".repeat(400))));
    }

    proptest! {
        #[test]
        fn containing_is_matching_with_stars(needle in "[aB-]{0,3}", text in "[Ab-]{0,12}") {
            prop_assert_eq!(Wildcard::literal(&needle).is_in(&text), text.to_lowercase().contains(&needle.to_lowercase()));
        }
    }
}
