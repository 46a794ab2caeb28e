//! The one search language, first part: what a person types into the search box.
//!
//! ```text
//! source.ip: 198.51.100.0/24 and not user.name: ro*      networks on address fields, wildcards
//! http.response.status_code >= 400                       also >, <, <=, =, != and field:[400 to 499]
//! user.name:(root or admin)    url.path:"/a \"b\""       groups of values, quoted values with escapes
//! error.message:*              "connection reset"        existence, free text (a phrase)
//! failed password              "acme.audit.id":7         implicit and; a field outside the catalog, in quotes
//! ```
//!
//! [`parse`] is pure: text → [`Expr`], or an error with its column, a reason and what to try. An expression can
//! be judged over an [`Event`](sakimori_model::Event) ([`Expr::matches`]) and over the lake
//! ([`Expr::to_datafusion`]); both use the same test of one value (`test.rs`), so that a live filter and a search
//! never disagree. `Display` writes an expression back so that parsing it gives the same one.
//!
//! What holds: text compares without regard to case; a text field (`message`) contains, a keyword field equals;
//! of a field with several values any may match; an absent field matches nothing, so `not` finds it. Time is not
//! part of the language: every search has its own from and to.

mod display;
mod error;
mod field;
mod matches;
mod parser;
// The fuzzer takes this module in by path, and builds no lake for it.
#[cfg(not(fuzzing))]
mod plan;
mod test;
#[cfg(not(fuzzing))]
mod value;
mod wildcard;

#[cfg(test)]
mod agree_tests;
#[cfg(test)]
mod parser_tests;

pub use self::error::QueryError;
pub(crate) use self::field::COMPUTED;
pub use self::field::FieldRef;
pub use self::parser::{MAX_DEPTH, MAX_LENGTH, MAX_TERMS, parse};
#[cfg(not(fuzzing))]
pub(crate) use self::plan::{address_texts, text_test};
pub use self::test::{Bound, Scalar, Test};
#[cfg(not(fuzzing))]
pub(crate) use self::value::values_of;
pub use self::wildcard::Wildcard;

/// A search.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Everything.
    All,
    /// Each of them; two or more, none of them an `And`.
    And(Vec<Expr>),
    /// Any of them; two or more, none of them an `Or`.
    Or(Vec<Expr>),
    /// What it does not match.
    Not(Box<Expr>),
    /// A test of a field's values.
    Field(FieldRef, Test),
    /// Text anywhere: see [`FREE_TEXT`].
    Text(Wildcard),
}

/// The fields that free text is looked for in.
pub const FREE_TEXT: &[sakimori_model::FieldId] = {
    use sakimori_model::field as f;
    &[
        f::MESSAGE,
        f::EVENT_ORIGINAL,
        f::ERROR_MESSAGE,
        f::RULE_NAME,
        f::USER_NAME,
        f::HOST_NAME,
        f::SOURCE_IP,
        f::PROCESS_NAME,
        f::PROCESS_COMMAND_LINE,
        f::URL_ORIGINAL,
        f::FILE_PATH,
    ]
};

/// The search for one value of a field as a click on it means it: this value, and no pattern.
pub fn equals(field: &FieldRef, value: &str) -> Expr {
    use sakimori_model::FieldKind;
    let is = match field.kind() {
        Some(FieldKind::Text) => return Expr::Field(field.clone(), Test::Contains(Wildcard::literal(value))),
        Some(FieldKind::Ip) => value.parse().ok().map(Scalar::Ip),
        Some(FieldKind::Long) => value.parse().ok().map(Scalar::Long),
        Some(FieldKind::Double) => value.parse().ok().filter(|number: &f64| number.is_finite()).map(Scalar::Double),
        Some(FieldKind::Bool) => value.parse().ok().map(Scalar::Bool),
        Some(FieldKind::Date) => sakimori_model::Timestamp::parse(value).map(Scalar::Date),
        _ => Some(Scalar::Text(value.to_owned())),
    };
    let test = is.map_or_else(|| Test::Like(Wildcard::literal(value)), Test::Is);
    Expr::Field(field.clone(), test)
}

impl Expr {
    /// All of these; nested ones are made flat, `All` leaves nothing.
    pub fn and(parts: Vec<Expr>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::All => {}
                Self::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::All,
            1 => flat.remove(0),
            _ => Self::And(flat),
        }
    }

    /// Any of these; nested ones are made flat.
    pub fn or(parts: Vec<Expr>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::All,
            1 => flat.remove(0),
            _ => Self::Or(flat),
        }
    }

    /// Not this.
    #[must_use]
    pub fn negate(self) -> Self {
        Self::Not(Box::new(self))
    }
}
