//! Text → expression, by recursive descent over characters, since what ends a word depends on where it stands
//! (`source.ip:2001:db8::1` is one field and one value).
//!
//! ```text
//! or      = and ("or" and)*
//! and     = unary ("and"? unary)*
//! unary   = "not" unary | "(" or ")" | term
//! term    = phrase | name ":" value | name ":" "(" or-of-values ")" | name ":" "[" end "to" end "]"
//!         | name (">=" | ">" | "<=" | "<" | "=" | "!=") value
//! name    = bare word of the catalog | quoted path
//! ```
//!
//! Length, depth and number of terms are bounded; within them the work is linear.

use std::ops::Range as Span;

use sakimori_model::{FieldKind, Network, Timestamp};

use super::field::{FieldRef, MAX_NAME, suggest};
use super::wildcard::{Part, Wildcard};
use super::{Bound, Expr, QueryError, Scalar, Test};

/// Longest text of a search, in bytes.
pub const MAX_LENGTH: usize = 8 * 1024;
/// Deepest nesting of parentheses and `not`.
pub const MAX_DEPTH: usize = 32;
/// Most terms.
pub const MAX_TERMS: usize = 512;

/// Parses a search. Nothing but blanks is everything.
///
/// # Errors
/// With the column, the reason and a hint; see [`QueryError`].
pub fn parse(text: &str) -> Result<Expr, QueryError> {
    if text.len() > MAX_LENGTH {
        return Err(QueryError::at(text, 0..0, format!("the search is longer than {MAX_LENGTH} bytes"))
            .hint("split it into several searches"));
    }
    let mut parser = Parser { text, at: 0, depth: 0, terms: 0 };
    parser.blanks();
    if parser.peek().is_none() {
        return Ok(Expr::All);
    }
    let expr = parser.or(None)?;
    match parser.peek() {
        None => Ok(expr),
        Some(')') => Err(parser.here("a closing parenthesis without its opening one")),
        Some(c) => Err(parser.here(format!("unexpected \"{c}\"")).hint("put special characters in quotes")),
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    terms: usize,
}

/// A value as it is written.
struct Written {
    form: Wildcard,
    /// Its text with its case kept; wildcards stand as themselves.
    text: String,
    wild: bool,
    quoted: bool,
    span: Span<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Is,
    IsNot,
    Less,
    LessOrIs,
    More,
    MoreOrIs,
}

impl Parser<'_> {
    fn or(&mut self, field: Option<&FieldRef>) -> Result<Expr, QueryError> {
        let mut parts = vec![self.and(field)?];
        while self.keyword("or") {
            parts.push(self.and(field)?);
        }
        // `*` or anything is everything.
        Ok(if parts.contains(&Expr::All) { Expr::All } else { Expr::or(parts) })
    }

    fn and(&mut self, field: Option<&FieldRef>) -> Result<Expr, QueryError> {
        let mut parts = vec![self.unary(field)?];
        loop {
            self.blanks();
            if !self.keyword("and") && (matches!(self.peek(), None | Some(')')) || self.is_keyword("or")) {
                return Ok(Expr::and(parts));
            }
            parts.push(self.unary(field)?);
        }
    }

    fn unary(&mut self, field: Option<&FieldRef>) -> Result<Expr, QueryError> {
        self.blanks();
        let start = self.at;
        if self.keyword("not") {
            self.deeper(start)?;
            let inner = self.unary(field)?;
            self.depth -= 1;
            return Ok(inner.negate());
        }
        if self.peek() == Some('(') {
            self.deeper(start)?;
            self.next();
            let inner = self.or(field)?;
            self.depth -= 1;
            self.blanks();
            if self.peek() != Some(')') {
                return Err(QueryError::at(self.text, start..start + 1, "this parenthesis is never closed"));
            }
            self.next();
            return Ok(inner);
        }
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(self.here(format!("more than {MAX_TERMS} terms")).hint("split it into several searches"));
        }
        match field {
            Some(field) => {
                let value = self.value()?;
                self.test(field, Op::Is, &value)
            }
            None => self.term(),
        }
    }

    fn deeper(&mut self, start: usize) -> Result<(), QueryError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(QueryError::at(self.text, start..start + 1, format!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(())
    }

    fn term(&mut self) -> Result<Expr, QueryError> {
        self.blanks();
        let start = self.at;
        for word in ["and", "or"] {
            if self.is_keyword(word) {
                return Err(QueryError::at(
                    self.text,
                    start..start + word.len(),
                    format!("nothing stands before \"{word}\""),
                )
                .hint(format!("write \"{word}\" in quotes to search for the word")));
            }
        }
        if let Some(address) = self.address() {
            return Ok(Expr::Text(Wildcard::literal(&address)));
        }
        let word = if self.peek() == Some('"') { self.quoted()? } else { self.bare(true)? };
        let end = self.at;
        self.blanks();
        let op = if self.peek() == Some(':') {
            self.next();
            self.blanks();
            Some(self.operator().unwrap_or(Op::Is))
        } else {
            self.operator()
        };
        if op.is_none() {
            self.at = end;
        }
        match op {
            None if word.form.is_any() && !word.quoted => Ok(Expr::All),
            None => Ok(Expr::Text(word.form)),
            Some(op) => {
                let field = self.field(&word)?;
                self.blanks();
                self.tested(&field, op)
            }
        }
    }

    fn field(&self, word: &Written) -> Result<FieldRef, QueryError> {
        let fail = |reason: String| QueryError::at(self.text, word.span.clone(), reason);
        if word.text.is_empty() || word.text.len() > MAX_NAME || word.text.split('.').any(str::is_empty) {
            return Err(fail("this is no field name".into()).hint("a name is like source.ip"));
        }
        let field = FieldRef::path(&word.text);
        if field.is_plain() || word.quoted {
            return Ok(field);
        }
        Err(fail(format!("unknown field \"{}\"", word.text)).hint(suggest(&word.text)))
    }

    fn tested(&mut self, field: &FieldRef, op: Op) -> Result<Expr, QueryError> {
        match self.peek() {
            None => Err(self
                .here(format!("{} has no value", field.name()))
                .hint(format!("{}:* finds the events that have it", field.name()))),
            Some('(') if op == Op::Is => self.unary(Some(field)),
            Some('[') if op == Op::Is => self.range(field),
            Some(_) => {
                let value = self.value()?;
                self.test(field, op, &value)
            }
        }
    }

    fn range(&mut self, field: &FieldRef) -> Result<Expr, QueryError> {
        let start = self.at;
        let wrong = |text: &str, span| {
            QueryError::at(text, span, "this is no range").hint("a range is [low to high], either end may be *")
        };
        self.next();
        self.blanks();
        let low = self.end(field, false)?;
        if !self.keyword("to") {
            return Err(wrong(self.text, start..self.at));
        }
        self.blanks();
        let high = self.end(field, true)?;
        self.blanks();
        if self.peek() != Some(']') {
            return Err(wrong(self.text, start..self.at));
        }
        self.next();
        Ok(Expr::Field(field.clone(), Test::Range(low, high)))
    }

    fn end(&mut self, field: &FieldRef, high: bool) -> Result<Bound, QueryError> {
        let value = self.value()?;
        if value.form.is_any() && !value.quoted {
            return Ok(Bound::Open);
        }
        self.scalar(field, &value, high).map(Bound::With)
    }

    /// The test that a field, an operator and a value make.
    fn test(&self, field: &FieldRef, op: Op, value: &Written) -> Result<Expr, QueryError> {
        let of = |test| Expr::Field(field.clone(), test);
        let range = |low, high| Ok(of(Test::Range(low, high)));
        match op {
            Op::Is => self.equality(field, value),
            Op::IsNot => self.equality(field, value).map(Expr::negate),
            _ if field.kind() == Some(FieldKind::Bool) => {
                Err(self.wrong(value, format!("{} is true or false and has no order", field.name())))
            }
            Op::Less => range(Bound::Open, Bound::Without(self.scalar(field, value, false)?)),
            Op::LessOrIs => range(Bound::Open, Bound::With(self.scalar(field, value, true)?)),
            Op::More => range(Bound::Without(self.scalar(field, value, true)?), Bound::Open),
            Op::MoreOrIs => range(Bound::With(self.scalar(field, value, false)?), Bound::Open),
        }
    }

    fn equality(&self, field: &FieldRef, value: &Written) -> Result<Expr, QueryError> {
        let of = |test| Expr::Field(field.clone(), test);
        if value.form.is_any() && !value.quoted {
            return Ok(of(Test::Exists));
        }
        let kind = field.kind();
        if kind == Some(FieldKind::Text) {
            return Ok(of(Test::Contains(value.form.clone())));
        }
        if value.wild {
            return match kind {
                None | Some(FieldKind::Keyword | FieldKind::Ip | FieldKind::Json) => {
                    Ok(of(Test::Like(value.form.clone())))
                }
                Some(_) => Err(self
                    .wrong(value, format!("{} is no text, wildcards do not fit it", field.name()))
                    .hint("use a range: [low to high], or >=")),
            };
        }
        let network = || value.text.contains('/').then(|| value.text.parse::<Network>().ok()).flatten();
        match kind {
            Some(FieldKind::Ip) if value.text.contains('/') => {
                network().map(|network| of(Test::Within(network))).ok_or_else(|| self.no_address(field, value))
            }
            None | Some(FieldKind::Keyword | FieldKind::Json) if !value.quoted && network().is_some() => {
                Ok(of(Test::Within(network().expect("just seen"))))
            }
            Some(FieldKind::Date) if day(&value.text).is_some() => {
                let ends = (self.scalar(field, value, false)?, self.scalar(field, value, true)?);
                Ok(of(Test::Range(Bound::With(ends.0), Bound::With(ends.1))))
            }
            _ => self.scalar(field, value, false).map(|value| of(Test::Is(value))),
        }
    }

    /// A value as the field's type wants it. A day stands for its first moment, or its last where it is a high end.
    fn scalar(&self, field: &FieldRef, value: &Written, high: bool) -> Result<Scalar, QueryError> {
        if value.wild {
            return Err(self.wrong(value, "a wildcard has no order").hint("put it in quotes to mean the character"));
        }
        let text = value.text.as_str();
        let finite = || text.parse().ok().filter(|number: &f64| number.is_finite()).map(Scalar::Double);
        let found = match field.kind() {
            None | Some(FieldKind::Keyword | FieldKind::Text | FieldKind::Json) => Some(Scalar::Text(text.to_owned())),
            Some(FieldKind::Ip) => return text.parse().map(Scalar::Ip).map_err(|_| self.no_address(field, value)),
            Some(FieldKind::Long) => text.parse().ok().map(Scalar::Long).or_else(finite),
            Some(FieldKind::Double) => finite(),
            Some(FieldKind::Bool) => match text.to_ascii_lowercase().as_str() {
                "true" => Some(Scalar::Bool(true)),
                "false" => Some(Scalar::Bool(false)),
                _ => None,
            },
            Some(FieldKind::Date) => Timestamp::parse(text)
                .or_else(|| day(text).map(|first| if high { first.plus_micros(DAY - 1) } else { first }))
                .map(Scalar::Date),
        };
        found.ok_or_else(|| {
            let wanted = match field.kind() {
                Some(FieldKind::Bool) => "true or false",
                Some(FieldKind::Date) => "a time like 2026-01-02T03:04:05Z or a day like 2026-01-02",
                _ => "a number",
            };
            self.wrong(value, format!("{} wants {wanted}, not \"{text}\"", field.name()))
        })
    }

    fn no_address(&self, field: &FieldRef, value: &Written) -> QueryError {
        self.wrong(value, format!("{} wants an address, not \"{}\"", field.name(), value.text))
            .hint("an address, a network like 192.0.2.0/24 or 2001:db8::/32, or a pattern like 192.0.2.*")
    }

    fn wrong(&self, value: &Written, reason: impl Into<String>) -> QueryError {
        QueryError::at(self.text, value.span.clone(), reason)
    }

    fn here(&self, reason: impl Into<String>) -> QueryError {
        QueryError::at(self.text, self.at..self.at, reason)
    }
}

/// The reading of characters and words.
impl Parser<'_> {
    fn left(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.left().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    /// Is the next bare word this one, and not the name of a field?
    fn is_keyword(&self, word: &str) -> bool {
        let left = self.left().trim_start();
        left.get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
            && left.get(word.len()..).is_some_and(|after| {
                after.chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '[' | ']'))
            })
    }

    fn keyword(&mut self, word: &str) -> bool {
        let is = self.is_keyword(word);
        if is {
            self.blanks();
            self.at += word.len();
        }
        is
    }

    fn operator(&mut self) -> Option<Op> {
        let (op, length) = match self.left() {
            left if left.starts_with(">=") => (Op::MoreOrIs, 2),
            left if left.starts_with("<=") => (Op::LessOrIs, 2),
            left if left.starts_with("!=") => (Op::IsNot, 2),
            left if left.starts_with('>') => (Op::More, 1),
            left if left.starts_with('<') => (Op::Less, 1),
            left if left.starts_with('=') => (Op::Is, 1),
            _ => return None,
        };
        self.at += length;
        Some(op)
    }

    /// A bare IPv6 address is free text, not a field `2001`.
    fn address(&mut self) -> Option<String> {
        let run: &str = self.left().split(|c: char| c.is_whitespace() || matches!(c, '(' | ')')).next()?;
        run.parse::<std::net::Ipv6Addr>().ok()?;
        let run = run.to_owned();
        self.at += run.len();
        Some(run)
    }

    fn value(&mut self) -> Result<Written, QueryError> {
        self.blanks();
        if self.peek() == Some('"') { self.quoted() } else { self.bare(false) }
    }

    /// A word up to a blank or bracket; in a name also up to a colon or operator. `\` takes the next as it is.
    fn bare(&mut self, name: bool) -> Result<Written, QueryError> {
        let start = self.at;
        let (mut parts, mut text) = (Vec::new(), String::new());
        while let Some(c) = self.peek() {
            let special = c.is_whitespace() || matches!(c, '(' | ')' | '[' | ']' | '"');
            if special || name && (matches!(c, ':' | '<' | '>' | '=') || self.left().starts_with("!=")) {
                break;
            }
            self.next();
            match c {
                '*' => parts.push(Part::Many),
                '?' => parts.push(Part::One),
                '\\' => {
                    let c = self.escaped()?;
                    parts.push(Part::Char(c));
                    text.push(c);
                    continue;
                }
                c => parts.push(Part::Char(c)),
            }
            text.push(c);
        }
        if self.at == start {
            return Err(match self.peek() {
                None => self.here("the search ends where a value or word is expected"),
                Some(c) => self.here(format!("a value or word is expected, not \"{c}\"")),
            }
            .hint("put special characters in quotes"));
        }
        let wild = parts.iter().any(|part| !matches!(part, Part::Char(_)));
        Ok(Written { form: Wildcard::new(parts), text, wild, quoted: false, span: start..self.at })
    }

    fn quoted(&mut self) -> Result<Written, QueryError> {
        let start = self.at;
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => {
                    return Err(QueryError::at(self.text, start..start + 1, "this quote is never closed")
                        .hint("write \\\" for a quote inside"));
                }
                Some('"') => break,
                Some('\\') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
        Ok(Written { form: Wildcard::literal(&text), text, wild: false, quoted: true, span: start..self.at })
    }

    fn escaped(&mut self) -> Result<char, QueryError> {
        match self.next() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some(c) => Ok(c),
            None => Err(self.here("the search ends in a backslash").hint("write \\\\ for a backslash")),
        }
    }
}

const DAY: i64 = 86_400_000_000;

/// The first moment of a day `2026-01-02`.
fn day(text: &str) -> Option<Timestamp> {
    (text.len() == 10).then(|| Timestamp::parse(&format!("{text}T00:00:00Z"))).flatten()
}
