//! The test of one value: the single place that says when a value matches, for events and lake alike.

use std::cmp::Ordering;
use std::net::IpAddr;

use sakimori_model::{Network, Timestamp, Value};
use serde_json::Value as Json;

use super::wildcard::{Wildcard, equal};

/// What is asked of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// It is there.
    Exists,
    /// It equals this.
    Is(Scalar),
    /// Its text contains this (text fields, free text).
    Contains(Wildcard),
    /// Its whole text is of this form.
    Like(Wildcard),
    /// It is an address in this network.
    Within(Network),
    /// It lies between these.
    Range(Bound, Bound),
}

/// A value of a search, of the type that its field has. Of a field without a known type it is text.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// Text; compared without regard to case.
    Text(String),
    /// An address.
    Ip(IpAddr),
    /// An integer.
    Long(i64),
    /// A finite float.
    Double(f64),
    /// A boolean.
    Bool(bool),
    /// A moment.
    Date(Timestamp),
}

/// One end of a range.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// No end.
    Open,
    /// With the value itself.
    With(Scalar),
    /// Without it.
    Without(Scalar),
}

/// A value as it is found: in a slot, in the rest, in a column.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    Text(&'a str),
    Ip(IpAddr),
    Long(i64),
    Double(f64),
    Bool(bool),
    Date(Timestamp),
}

impl Test {
    /// Does any value of a slot match?
    pub(super) fn value(&self, value: &Value) -> bool {
        match value {
            Value::List(list) => list.iter().any(|one| self.value(one)),
            Value::Json(json) => self.json(json),
            Value::Str(text) => self.cell(Cell::Text(text)),
            Value::Ip(ip) => self.cell(Cell::Ip(*ip)),
            Value::Long(number) => self.cell(Cell::Long(*number)),
            Value::Double(number) => self.cell(Cell::Double(*number)),
            Value::Bool(flag) => self.cell(Cell::Bool(*flag)),
            Value::Date(time) => self.cell(Cell::Date(*time)),
        }
    }

    /// Does any value of a JSON value match? Objects exist and match nothing else.
    pub(super) fn json(&self, json: &Json) -> bool {
        match json {
            Json::Null => false,
            Json::Bool(flag) => self.cell(Cell::Bool(*flag)),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => self.cell(Cell::Long(number)),
                (None, Some(number)) => self.cell(Cell::Double(number)),
                (None, None) => false,
            },
            Json::String(text) => self.cell(Cell::Text(text)),
            Json::Array(list) => list.iter().any(|one| self.json(one)),
            Json::Object(_) => matches!(self, Self::Exists),
        }
    }

    /// Does this one value match?
    pub(super) fn cell(&self, cell: Cell<'_>) -> bool {
        match self {
            Self::Exists => true,
            Self::Is(scalar) => compare(cell, scalar) == Some(Ordering::Equal),
            Self::Contains(form) => with_text(cell, |text| form.is_in(text)),
            Self::Like(form) => with_text(cell, |text| form.matches(text)),
            Self::Within(network) => match cell {
                Cell::Ip(ip) => network.contains(ip),
                Cell::Text(text) => text.parse().is_ok_and(|ip| network.contains(ip)),
                _ => false,
            },
            Self::Range(low, high) => {
                let above = match low {
                    Bound::Open => true,
                    Bound::With(low) => compare(cell, low).is_some_and(Ordering::is_ge),
                    Bound::Without(low) => compare(cell, low).is_some_and(Ordering::is_gt),
                };
                let below = || match high {
                    Bound::Open => true,
                    Bound::With(high) => compare(cell, high).is_some_and(Ordering::is_le),
                    Bound::Without(high) => compare(cell, high).is_some_and(Ordering::is_lt),
                };
                above && below()
            }
        }
    }
}

fn with_text(cell: Cell<'_>, test: impl Fn(&str) -> bool) -> bool {
    match cell {
        Cell::Text(text) => test(text),
        Cell::Ip(ip) => test(&ip.to_string()),
        Cell::Long(number) => test(&number.to_string()),
        Cell::Double(number) => test(&number.to_string()),
        Cell::Bool(flag) => test(if flag { "true" } else { "false" }),
        Cell::Date(time) => test(&time.to_string()),
    }
}

/// How a found value stands to a value of the search; `None` where they cannot be compared.
#[expect(clippy::cast_precision_loss, reason = "a search compares large integers with a float only if it says so")]
fn compare(cell: Cell<'_>, scalar: &Scalar) -> Option<Ordering> {
    match (cell, scalar) {
        (Cell::Long(cell), Scalar::Long(wanted)) => Some(cell.cmp(wanted)),
        (Cell::Long(cell), Scalar::Double(wanted)) => (cell as f64).partial_cmp(wanted),
        (Cell::Double(cell), Scalar::Long(wanted)) => cell.partial_cmp(&(*wanted as f64)),
        (Cell::Double(cell), Scalar::Double(wanted)) => cell.partial_cmp(wanted),
        (Cell::Ip(cell), Scalar::Ip(wanted)) => Some(cell.to_canonical().cmp(&wanted.to_canonical())),
        (Cell::Text(cell), Scalar::Ip(wanted)) => {
            cell.parse::<IpAddr>().ok().map(|cell| cell.to_canonical().cmp(&wanted.to_canonical()))
        }
        (Cell::Bool(cell), Scalar::Bool(wanted)) => Some(cell.cmp(wanted)),
        (Cell::Date(cell), Scalar::Date(wanted)) => Some(cell.cmp(wanted)),
        (Cell::Text(cell), Scalar::Date(wanted)) => Timestamp::parse(cell).map(|cell| cell.cmp(wanted)),
        (Cell::Text(cell), Scalar::Text(wanted)) => Some(text_order(cell, wanted)),
        // A field of no known type: its numbers compare as numbers where the search gives one.
        (Cell::Long(_) | Cell::Double(_), Scalar::Text(wanted)) => {
            let wanted =
                wanted.parse::<i64>().map(Scalar::Long).or_else(|_| wanted.parse().map(Scalar::Double)).ok()?;
            compare(cell, &wanted)
        }
        (Cell::Bool(cell), Scalar::Text(wanted)) => {
            equal(if cell { "true" } else { "false" }, wanted).then_some(Ordering::Equal)
        }
        (Cell::Ip(cell), Scalar::Text(wanted)) => Some(text_order(&cell.to_string(), wanted)),
        (Cell::Date(cell), Scalar::Text(wanted)) => Some(text_order(&cell.to_string(), wanted)),
        _ => None,
    }
}

fn text_order(left: &str, right: &str) -> Ordering {
    if equal(left, right) {
        return Ordering::Equal;
    }
    left.chars().flat_map(char::to_lowercase).cmp(right.chars().flat_map(char::to_lowercase))
}
