//! What is wrong in a content file, where a person finds it.

/// A content file that cannot be used, or a part of it. The rest of the content still loads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct ContentError {
    /// Path inside the content.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, and what to do where that is not plain.
    pub reason: String,
}

impl ContentError {
    /// An error at a line; 0 is taken for the first.
    pub fn new(file: impl Into<String>, line: usize, reason: impl Into<String>) -> Self {
        Self { file: file.into(), line: line.max(1), reason: reason.into() }
    }

    /// An error of the YAML crate, which knows its line.
    pub(crate) fn yaml(file: &str, first_line: usize, error: &yaml_serde::Error) -> Self {
        let line = error.location().map_or(1, |location| location.line());
        Self::new(file, first_line + line.saturating_sub(1), error.to_string())
    }
}

/// The line, from 1, of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
