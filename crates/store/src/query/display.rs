//! Writes an expression back as text that parses to the same expression.

use std::fmt::{self, Display, Formatter, Write as _};

use super::wildcard::{Part, Wildcard};
use super::{Bound, Expr, Scalar, Test};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::And(parts) => joined(f, parts, " and "),
            Self::Or(parts) => joined(f, parts, " or "),
            Self::Not(inner) => {
                f.write_str("not ")?;
                operand(f, inner)
            }
            Self::Text(form) => write_form(f, form),
            Self::Field(field, test) => {
                if field.is_plain() {
                    f.write_str(field.name())?;
                } else {
                    quoted(f, field.name())?;
                }
                match test {
                    Test::Exists => f.write_str(":*"),
                    Test::Is(value) => {
                        f.write_char(':')?;
                        write_scalar(f, value)
                    }
                    Test::Contains(form) | Test::Like(form) => {
                        f.write_char(':')?;
                        write_form(f, form)
                    }
                    Test::Within(network) => write!(f, ":{}", network.to_cidr()),
                    Test::Range(low, high) => write_range(f, low, high),
                }
            }
        }
    }
}

fn joined(f: &mut Formatter<'_>, parts: &[Expr], by: &str) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(by)?;
        }
        operand(f, part)?;
    }
    Ok(())
}

fn operand(f: &mut Formatter<'_>, part: &Expr) -> fmt::Result {
    match part {
        Expr::And(_) | Expr::Or(_) => write!(f, "({part})"),
        other => other.fmt(f),
    }
}

fn write_range(f: &mut Formatter<'_>, low: &Bound, high: &Bound) -> fmt::Result {
    match (low, high) {
        (Bound::Without(low), Bound::Open) => {
            f.write_str(" > ")?;
            write_scalar(f, low)
        }
        (Bound::With(low), Bound::Open) => {
            f.write_str(" >= ")?;
            write_scalar(f, low)
        }
        (Bound::Open, Bound::Without(high)) => {
            f.write_str(" < ")?;
            write_scalar(f, high)
        }
        (Bound::Open, Bound::With(high)) => {
            f.write_str(" <= ")?;
            write_scalar(f, high)
        }
        (low, high) => {
            f.write_str(":[")?;
            write_end(f, low)?;
            f.write_str(" to ")?;
            write_end(f, high)?;
            f.write_char(']')
        }
    }
}

fn write_end(f: &mut Formatter<'_>, end: &Bound) -> fmt::Result {
    match end {
        Bound::Open => f.write_char('*'),
        Bound::With(value) | Bound::Without(value) => write_scalar(f, value),
    }
}

fn write_scalar(f: &mut Formatter<'_>, value: &Scalar) -> fmt::Result {
    match value {
        Scalar::Text(text) => quoted(f, text),
        Scalar::Ip(ip) => ip.fmt(f),
        Scalar::Long(number) => number.fmt(f),
        Scalar::Double(number) => write!(f, "{number:?}"),
        Scalar::Bool(flag) => flag.fmt(f),
        Scalar::Date(time) => time.fmt(f),
    }
}

/// A form: quoted where it has no wildcard; else bare, with whatever is special escaped.
fn write_form(f: &mut Formatter<'_>, form: &Wildcard) -> fmt::Result {
    if let Some(text) = form.as_literal() {
        return quoted(f, text);
    }
    for part in form.parts() {
        match part {
            Part::Many => f.write_char('*')?,
            Part::One => f.write_char('?')?,
            Part::Char(c) if c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '/') => f.write_char(*c)?,
            Part::Char('\n') => f.write_str("\\n")?,
            Part::Char(c) => write!(f, "\\{c}")?,
        }
    }
    Ok(())
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}
