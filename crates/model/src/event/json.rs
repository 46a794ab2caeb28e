//! JSON documents and slots: what a value of the wire becomes in a field of a kind, and dotted names that become nested.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

use super::{MAX_DEPTH, Value};
use crate::catalog::{FieldId, FieldKind, Node};
use crate::time::Timestamp;

/// JSON to a slot of this kind, or the JSON back where something would be lost.
pub(super) fn coerce(kind: FieldKind, json: Json) -> Result<Value, Json> {
    if kind == FieldKind::Json {
        return Ok(Value::Json(Box::new(json)));
    }
    match json {
        Json::Array(list) => {
            if list.iter().all(|one| !one.is_array() && coerce_one(kind, one).is_some()) {
                Ok(Value::List(list.iter().filter_map(|one| coerce_one(kind, one)).collect()))
            } else {
                Err(Json::Array(list))
            }
        }
        Json::String(text) if matches!(kind, FieldKind::Keyword | FieldKind::Text) => Ok(Value::Str(Cow::Owned(text))),
        one => coerce_one(kind, &one).ok_or(one),
    }
}

fn coerce_one(kind: FieldKind, json: &Json) -> Option<Value> {
    match kind {
        FieldKind::Keyword | FieldKind::Text => match json {
            Json::String(text) => Some(Value::Str(Cow::Owned(text.clone()))),
            Json::Number(number) => Some(Value::Str(Cow::Owned(number.to_string()))),
            Json::Bool(flag) => Some(Value::Str(Cow::Borrowed(if *flag { "true" } else { "false" }))),
            _ => None,
        },
        FieldKind::Ip => json.as_str()?.parse().ok().map(Value::Ip),
        FieldKind::Long => match json {
            Json::Number(number) => number.as_i64().or_else(|| integral(number.as_f64()?)).map(Value::Long),
            Json::String(text) => text.parse().ok().map(Value::Long),
            _ => None,
        },
        FieldKind::Double => match json {
            Json::Number(number) => number.as_f64().filter(|number| number.is_finite()).map(Value::Double),
            Json::String(text) => text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Double),
            _ => None,
        },
        FieldKind::Bool => match json {
            Json::Bool(flag) => Some(Value::Bool(*flag)),
            Json::String(text) if text == "true" => Some(Value::Bool(true)),
            Json::String(text) if text == "false" => Some(Value::Bool(false)),
            _ => None,
        },
        FieldKind::Date => Timestamp::parse(json.as_str()?).map(Value::Date),
        FieldKind::Json => Some(Value::Json(Box::new(json.clone()))),
    }
}

fn integral(number: f64) -> Option<i64> {
    // Within ±2^53 every whole float is exactly one integer.
    #[expect(clippy::cast_possible_truncation, reason = "whole and within ±2^53")]
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

/// Moves what the catalog knows below `node` into slots and returns what is left.
pub(super) fn take_known(slots: &mut Vec<(FieldId, Value)>, node: &Node, json: Json) -> Option<Json> {
    if let Some(field) = node.field {
        return match coerce(field.def().kind, json) {
            Ok(value) => {
                slots.push((field, value));
                None
            }
            Err(json) => Some(json),
        };
    }
    let Json::Object(object) = json else { return Some(json) };
    if object.is_empty() {
        return Some(Json::Object(object));
    }
    let mut left = Map::new();
    for (name, value) in object {
        match node.child(&name) {
            Some(below) => {
                if let Some(value) = take_known(slots, below, value) {
                    left.insert(name, value);
                }
            }
            None => {
                left.insert(name, value);
            }
        }
    }
    (!left.is_empty()).then_some(Json::Object(left))
}

/// Makes dotted keys nested at every level, merging objects; the last of a repeated name wins.
pub(super) fn expand(object: Map<String, Json>, depth: usize, repeats: &mut usize) -> Map<String, Json> {
    let mut out = Map::new();
    for (name, value) in object {
        let value = match value {
            Json::Object(inner) if depth < MAX_DEPTH => Json::Object(expand(inner, depth + 1, repeats)),
            Json::Object(inner) => Json::String(Json::Object(inner).to_string()),
            other => other,
        };
        *repeats += insert_nested(&mut out, &name, value);
    }
    out
}

/// Inserts at a dotted path, merging objects. Returns how many values it replaced. A name with an empty
/// part (`.a`, `a..b`) or too many parts is one key, not a path.
pub(super) fn insert_nested(object: &mut Map<String, Json>, path: &str, value: Json) -> usize {
    if path.split('.').count() > MAX_DEPTH || path.split('.').any(str::is_empty) {
        return usize::from(object.insert(path.to_owned(), value).is_some());
    }
    match path.split_once('.') {
        None => match (object.get_mut(path), value) {
            (Some(Json::Object(old)), Json::Object(new)) => {
                new.into_iter().map(|(name, value)| merge_key(old, name, value)).sum()
            }
            (_, value) => usize::from(object.insert(path.to_owned(), value).is_some()),
        },
        Some((head, tail)) => match object.get_mut(head) {
            Some(Json::Object(below)) => insert_nested(below, tail, value),
            Some(other) => {
                let mut below = Map::new();
                insert_nested(&mut below, tail, value);
                *other = Json::Object(below);
                1
            }
            None => {
                let mut below = Map::new();
                insert_nested(&mut below, tail, value);
                object.insert(head.to_owned(), Json::Object(below));
                0
            }
        },
    }
}

/// Merges one key of an object that is already nested.
fn merge_key(object: &mut Map<String, Json>, name: String, value: Json) -> usize {
    match (object.get_mut(&name), value) {
        (Some(Json::Object(old)), Json::Object(new)) => {
            new.into_iter().map(|(name, value)| merge_key(old, name, value)).sum()
        }
        (_, value) => usize::from(object.insert(name, value).is_some()),
    }
}

pub(super) fn json_weight(json: &Json) -> usize {
    match json {
        Json::String(text) => 24 + text.len(),
        Json::Array(list) => list.iter().map(|one| 32 + json_weight(one)).sum(),
        Json::Object(object) => object.iter().map(|(name, value)| 48 + name.len() + json_weight(value)).sum(),
        _ => 8,
    }
}
