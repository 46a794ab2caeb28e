//! Why a text is no search: where, what is wrong, and what to try.

/// An error with its place. Columns count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("search text, column {column}: {reason}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct QueryError {
    /// Where it begins, from 1.
    pub column: usize,
    /// How many characters it covers, at least 1.
    pub width: usize,
    /// The same place in UTF-16 units from 0, for who marks it in a text field.
    pub offset: usize,
    /// How many UTF-16 units it covers, at least 1.
    pub length: usize,
    /// What is wrong.
    pub reason: String,
    /// What to try.
    pub hint: Option<String>,
}

impl QueryError {
    /// An error over this span of bytes of the text.
    pub(super) fn at(text: &str, span: std::ops::Range<usize>, reason: impl Into<String>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let inside = text.get(span).unwrap_or("");
        Self {
            column: before.chars().count() + 1,
            width: inside.chars().count().max(1),
            offset: before.encode_utf16().count(),
            length: inside.encode_utf16().count().max(1),
            reason: reason.into(),
            hint: None,
        }
    }

    /// With what to try.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
