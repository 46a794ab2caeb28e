//! Patterns of what a scan leaves out.
//!
//! A pattern with a `/` is about whole paths: `/var/lib/docker` leaves that out with everything below it. One without
//! is about names, anywhere: `*.iso`, `node_modules`. `*` is any run of characters but `/`, `**` any run at all, `?`
//! one character but `/`; everything else stands for itself. Matching takes time in proportion to path × pattern.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Most patterns.
pub const MAX_PATTERNS: usize = 1_000;
/// Longest pattern, in bytes.
pub const MAX_PATTERN: usize = 1_000;

/// A set of patterns.
#[derive(Clone, Debug, Default)]
pub struct Exclusions {
    paths: Vec<Vec<Token>>,
    names: Vec<Vec<Token>>,
    /// Ends of files' names, each with its dot, in small letters.
    ends: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    One,
    Run,
    Any,
}

/// A pattern that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExcludeError {
    /// It is empty or too long.
    #[error("a pattern has 1 to {MAX_PATTERN} characters")]
    Length,
    /// There are too many.
    #[error("at most {MAX_PATTERNS} patterns are allowed")]
    Count,
    /// A path that does not begin at the root could mean anything.
    #[error("a pattern with a / begins with / or **/: {0:?}")]
    Relative(String),
}

impl Exclusions {
    /// Reads patterns.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, ExcludeError> {
        if patterns.len() > MAX_PATTERNS {
            return Err(ExcludeError::Count);
        }
        let mut set = Self::default();
        for pattern in patterns.iter().map(AsRef::as_ref) {
            let trimmed = if pattern == "/" { pattern } else { pattern.trim_end_matches('/') };
            if trimmed.is_empty() || trimmed.len() > MAX_PATTERN {
                return Err(ExcludeError::Length);
            }
            if !trimmed.contains('/') {
                set.names.push(tokens(trimmed));
            } else if trimmed.starts_with('/') || trimmed.starts_with("**/") {
                set.paths.push(tokens(trimmed));
            } else {
                return Err(ExcludeError::Relative(trimmed.to_owned()));
            }
        }
        Ok(set)
    }

    /// Leaves out files whose names end so, too: `iso`, `tar.gz`. Large and small letters are the same.
    #[must_use]
    pub fn with_extensions<S: AsRef<str>>(mut self, extensions: &[S]) -> Self {
        let ends = extensions.iter().take(MAX_PATTERNS).map(|end| format!(".{}", end.as_ref().to_ascii_lowercase()));
        self.ends.extend(ends);
        self
    }

    /// Is a file of this name left out by its end?
    pub fn ends(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let fits = |end: &String| {
            let from = name.len().checked_sub(end.len());
            from.and_then(|from| name.get(from..)).is_some_and(|last| last.eq_ignore_ascii_case(end.as_bytes()))
        };
        self.ends.iter().any(fits)
    }

    /// Is this path left out? Folders are asked first, so what is below one that is left out never comes here.
    pub fn matches(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let whole = path.as_os_str().as_bytes();
        self.names.iter().any(|pattern| fits(pattern, name)) || self.paths.iter().any(|pattern| fits(pattern, whole))
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for byte in pattern.bytes() {
        match (byte, tokens.last()) {
            (b'*', Some(Token::Run | Token::Any)) => {
                tokens.pop();
                tokens.push(Token::Any);
            }
            (b'*', _) => tokens.push(Token::Run),
            (b'?', _) => tokens.push(Token::One),
            _ => tokens.push(Token::Byte(byte)),
        }
    }
    tokens
}

/// Does all of the text fit all of the pattern? Keeps for each place in the pattern whether it can be reached.
fn fits(pattern: &[Token], text: &[u8]) -> bool {
    let mut reached = vec![false; pattern.len() + 1];
    spread(pattern, &mut reached, 0);
    for byte in text {
        let mut next = vec![false; pattern.len() + 1];
        for (at, token) in pattern.iter().enumerate().filter(|(at, _)| reached.get(*at) == Some(&true)) {
            match token {
                Token::Byte(own) if own == byte => spread(pattern, &mut next, at + 1),
                Token::One if *byte != b'/' => spread(pattern, &mut next, at + 1),
                Token::Run if *byte != b'/' => spread(pattern, &mut next, at),
                Token::Any => spread(pattern, &mut next, at),
                _ => {}
            }
        }
        reached = next;
    }
    reached.last() == Some(&true)
}

/// Marks a place as reached, and those behind it that need no character.
fn spread(pattern: &[Token], reached: &mut [bool], mut at: usize) {
    while let Some(mark) = reached.get_mut(at) {
        if std::mem::replace(mark, true) {
            return;
        }
        match pattern.get(at) {
            Some(Token::Run | Token::Any) => at += 1,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn out(pattern: &str, path: &str) -> bool {
        Exclusions::new(&[pattern]).unwrap().matches(Path::new(path))
    }

    #[test]
    fn names_paths_and_wildcards() {
        assert!(out("*.iso", "/srv/a.iso") && !out("*.iso", "/srv/a.iso.txt") && !out("*.iso", "/srv/iso"));
        assert!(out("node_modules", "/x/node_modules") && !out("node_modules", "/x/node_modules2"));
        assert!(out("/var/lib", "/var/lib") && out("/var/lib/", "/var/lib") && !out("/var/lib", "/var/lib64"));
        assert!(out("/home/*/.cache", "/home/a/.cache") && !out("/home/*/.cache", "/home/a/b/.cache"));
        assert!(out("/srv/**/tmp", "/srv/a/b/tmp") && out("**/tmp", "/a/tmp"));
        assert!(out("a?c", "/abc") && !out("a?c", "/ac"));
        assert_eq!(Exclusions::new(&["a/b"]).unwrap_err(), ExcludeError::Relative("a/b".into()));
        assert_eq!(Exclusions::new(&[""]).unwrap_err(), ExcludeError::Length);
        assert_eq!(Exclusions::new(&vec!["a"; MAX_PATTERNS + 1]).unwrap_err(), ExcludeError::Count);
        assert!(!Exclusions::default().matches(Path::new("/a")));
    }

    #[test]
    fn files_are_left_out_by_the_end_of_their_name() {
        let set = Exclusions::default().with_extensions(&["iso", "tar.gz"]);
        let out = |path: &str| set.ends(Path::new(path));
        assert!(out("/a/b.iso") && out("/a/B.ISO") && out("/x.tar.gz"));
        assert!(!out("/a/iso") && !out("/a.iso/b") && !out("/x.gz") && !out("/") && !out("/biso"));
        assert!(!set.matches(Path::new("/a/b.iso")), "folders are not files");
    }

    proptest! {
        #[test]
        fn a_text_without_wildcards_fits_itself_alone(text in "/[a-z./]{1,40}", other in "/[a-z./]{1,40}") {
            let trimmed = text.trim_end_matches('/');
            prop_assume!(!trimmed.is_empty());
            let set = Exclusions::new(&[trimmed]).unwrap();
            prop_assert!(set.matches(Path::new(trimmed)));
            prop_assert_eq!(fits(&tokens(trimmed), other.as_bytes()), trimmed == other);
        }

        #[test]
        fn many_stars_take_no_time(count in 1_usize..200) {
            let pattern = format!("/{}b", "*a".repeat(count));
            let text = format!("/{}", "a".repeat(400));
            prop_assert!(!out(&pattern, &text));
        }
    }
}
