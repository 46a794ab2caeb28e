//! One event: an ECS 8 document, flat in memory.
//!
//! A catalog field is a typed slot; all else stays as one JSON object, the rest (`sakimori.rest` in the
//! lake), nested as it came and never interned (D5). A sensor builds an event without JSON text, and
//! readers get a field without walking a tree. Converting to nested JSON and back gives the same slots and
//! the same rest.
//!
//! A value that does not fit the type of its catalog field (an address that is no address) is not lost: it
//! lies in the rest under the field's own name.

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::{Map, Number, Value as Json};

use crate::catalog::{self, FieldId, FieldKind};
use crate::time::Timestamp;

mod json;

use json::{coerce, expand, insert_nested, json_weight, take_known};

/// Deepest nesting that is read into a document; what lies deeper is kept as text.
pub const MAX_DEPTH: usize = 64;

/// What a slot holds. The variant agrees with the field's [`FieldKind`]; a list holds that kind only.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Keyword or text.
    Str(Cow<'static, str>),
    /// Address.
    Ip(IpAddr),
    /// Integer.
    Long(i64),
    /// Finite float.
    Double(f64),
    /// Boolean.
    Bool(bool),
    /// Moment.
    Date(Timestamp),
    /// A JSON value kept as it is.
    Json(Box<Json>),
    /// Several values of one kind.
    List(Vec<Value>),
}

/// An ECS document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Sorted by field.
    slots: Vec<(FieldId, Value)>,
    rest: Map<String, Json>,
}

impl Event {
    /// An empty document.
    pub fn new() -> Self {
        Self { slots: Vec::with_capacity(40), rest: Map::new() }
    }

    /// Sets a catalog field. A value of the wrong type goes into the rest under the field's name.
    pub fn set(&mut self, field: FieldId, value: impl Into<Value>) {
        let value = value.into();
        if fits(field.def().kind, &value) {
            self.put(field, value);
        } else {
            self.set_json(field, value.to_json());
        }
    }

    /// Sets a catalog field from JSON, coercing what loses nothing (`"22"` to a port).
    pub fn set_json(&mut self, field: FieldId, json: Json) {
        match coerce(field.def().kind, json) {
            Ok(value) => self.put(field, value),
            Err(json) => {
                self.remove(field);
                insert_nested(&mut self.rest, field.name(), json);
            }
        }
    }

    /// Appends to a field that holds several values, without repeating one.
    pub fn push(&mut self, field: FieldId, value: impl Into<Value>) {
        let value = value.into();
        match self.slot_mut(field) {
            Some(Value::List(list)) => {
                if !list.contains(&value) {
                    list.push(value);
                }
            }
            Some(other) => {
                if *other != value {
                    let first = std::mem::replace(other, Value::Bool(false));
                    *other = Value::List(vec![first, value]);
                }
            }
            None => self.set(field, Value::List(vec![value])),
        }
    }

    /// Takes a catalog field out.
    pub fn remove(&mut self, field: FieldId) -> Option<Value> {
        self.slots.binary_search_by_key(&field, |slot| slot.0).ok().map(|at| self.slots.remove(at).1)
    }

    /// A catalog field.
    pub fn get(&self, field: FieldId) -> Option<&Value> {
        let at = self.slots.binary_search_by_key(&field, |slot| slot.0).ok()?;
        self.slots.get(at).map(|slot| &slot.1)
    }

    /// A text field; of a list its first.
    pub fn str(&self, field: FieldId) -> Option<&str> {
        match first(self.get(field)?)? {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// An address field; of a list its first.
    pub fn ip(&self, field: FieldId) -> Option<IpAddr> {
        match first(self.get(field)?)? {
            Value::Ip(ip) => Some(*ip),
            _ => None,
        }
    }

    /// An integer field; of a list its first.
    pub fn long(&self, field: FieldId) -> Option<i64> {
        match first(self.get(field)?)? {
            Value::Long(number) => Some(*number),
            _ => None,
        }
    }

    /// A boolean field.
    pub fn bool(&self, field: FieldId) -> Option<bool> {
        match first(self.get(field)?)? {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// A time field.
    pub fn date(&self, field: FieldId) -> Option<Timestamp> {
        match first(self.get(field)?)? {
            Value::Date(time) => Some(*time),
            _ => None,
        }
    }

    /// The moment of the event, `@timestamp`.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.date(catalog::field::TIMESTAMP)
    }

    /// All catalog fields that are set, in the order of their names.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = (FieldId, &Value)> {
        self.slots.iter().map(|(field, value)| (*field, value))
    }

    /// All that is not in the catalog, nested.
    pub fn rest(&self) -> &Map<String, Json> {
        &self.rest
    }

    /// Puts a value at a dotted path that may or may not be in the catalog.
    pub fn set_path(&mut self, path: &str, json: Json) {
        match catalog::lookup(path) {
            Some(field) => self.set_json(field, json),
            None => {
                insert_nested(&mut self.rest, path, json);
            }
        }
    }

    /// Replaces the rest by an object that is already nested (a decoder's way; slots win over it).
    pub fn set_rest(&mut self, rest: Map<String, Json>) {
        self.rest = rest;
    }

    /// A value of the rest by its dotted path.
    pub fn rest_at(&self, path: &str) -> Option<&Json> {
        let mut parts = path.split('.');
        let mut at = self.rest.get(parts.next()?)?;
        for part in parts {
            at = at.as_object()?.get(part)?;
        }
        Some(at)
    }

    /// From a JSON document; dotted keys become nested, of repeated names the last is kept.
    /// The second value counts those repeats.
    pub fn from_json(json: Map<String, Json>) -> (Self, usize) {
        let mut repeats = 0;
        let nested = expand(json, 0, &mut repeats);
        let mut event = Self::new();
        for (name, value) in nested {
            match catalog::tree().child(&name) {
                Some(node) => {
                    if let Some(left) = take_known(&mut event.slots, node, value) {
                        event.rest.insert(name, left);
                    }
                }
                None => {
                    event.rest.insert(name, value);
                }
            }
        }
        event.slots.sort_by_key(|slot| slot.0);
        (event, repeats)
    }

    /// As a nested JSON document.
    pub fn to_json(&self) -> Map<String, Json> {
        self.to_json_of(|_| true)
    }

    /// As a nested JSON document of those names on its first level (`source`, `@timestamp`) only.
    pub fn to_json_of(&self, keep: impl Fn(&str) -> bool) -> Map<String, Json> {
        let kept = self.rest.iter().filter(|(name, _)| keep(name));
        let mut out: Map<String, Json> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        for (field, value) in &self.slots {
            let name = field.name();
            if keep(name.split_once('.').map_or(name, |(first, _)| first)) {
                insert_nested(&mut out, name, value.to_json());
            }
        }
        out
    }

    /// Roughly the memory it takes, in bytes.
    pub fn weight(&self) -> usize {
        let slots: usize = self.slots.iter().map(|(_, value)| 40 + value.weight()).sum();
        slots + self.rest.iter().map(|(name, value)| name.len() + json_weight(value)).sum::<usize>()
    }

    fn put(&mut self, field: FieldId, value: Value) {
        match self.slots.binary_search_by_key(&field, |slot| slot.0) {
            Ok(at) => {
                if let Some(slot) = self.slots.get_mut(at) {
                    slot.1 = value;
                }
            }
            Err(at) => self.slots.insert(at, (field, value)),
        }
    }

    fn slot_mut(&mut self, field: FieldId) -> Option<&mut Value> {
        let at = self.slots.binary_search_by_key(&field, |slot| slot.0).ok()?;
        self.slots.get_mut(at).map(|slot| &mut slot.1)
    }
}

impl Value {
    /// As JSON: addresses and times as text.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Str(text) => Json::String(text.to_string()),
            Self::Ip(ip) => Json::String(ip.to_string()),
            Self::Long(number) => Json::from(*number),
            Self::Double(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Self::Bool(flag) => Json::Bool(*flag),
            Self::Date(time) => Json::String(time.to_string()),
            Self::Json(json) => (**json).clone(),
            Self::List(list) => Json::Array(list.iter().map(Self::to_json).collect()),
        }
    }

    /// The values of a list, or the value itself.
    pub fn each(&self) -> &[Value] {
        match self {
            Self::List(list) => list,
            single => std::slice::from_ref(single),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Str(text) => text.len(),
            Self::Json(json) => json_weight(json),
            Self::List(list) => list.iter().map(|value| 32 + value.weight()).sum(),
            _ => 0,
        }
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Str(Cow::Borrowed(text))
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(Cow::Owned(text))
    }
}
impl From<IpAddr> for Value {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Long(number)
    }
}
impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}
impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Date(time)
    }
}

fn first(value: &Value) -> Option<&Value> {
    value.each().first()
}

fn fits(kind: FieldKind, value: &Value) -> bool {
    match (kind, value) {
        (FieldKind::Keyword | FieldKind::Text, Value::Str(_))
        | (FieldKind::Ip, Value::Ip(_))
        | (FieldKind::Long, Value::Long(_))
        | (FieldKind::Bool, Value::Bool(_))
        | (FieldKind::Date, Value::Date(_))
        | (FieldKind::Json, Value::Json(_)) => true,
        (FieldKind::Double, Value::Double(number)) => number.is_finite(),
        (FieldKind::Json, Value::List(_)) => false,
        (_, Value::List(list)) => list.iter().all(|one| !matches!(one, Value::List(_)) && fits(kind, one)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::field;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(json: Json) -> Map<String, Json> {
        match json {
            Json::Object(object) => object,
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn nested_and_dotted_names_are_one_field() {
        let (event, repeats) = Event::from_json(object(json!({
            "source": {"ip": "192.0.2.1", "port": "22"}, "source.port": 23, "event.category": ["web"],
            "acme": {"audit": {"a": 1}}
        })));
        assert_eq!(event.ip(field::SOURCE_IP), "192.0.2.1".parse().ok());
        assert_eq!(event.long(field::SOURCE_PORT), Some(23), "the last of a repeated name is kept");
        assert_eq!(repeats, 1);
        assert_eq!(event.str(field::EVENT_CATEGORY), Some("web"));
        assert_eq!(event.rest_at("acme.audit.a"), Some(&json!(1)));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_kept_in_the_rest() {
        let (event, _) = Event::from_json(object(json!({"source": {"ip": "UNKNOWN"}, "process": [1]})));
        assert_eq!(event.get(field::SOURCE_IP), None);
        assert_eq!(event.rest_at("source.ip"), Some(&json!("UNKNOWN")));
        assert_eq!(Json::Object(event.to_json()), json!({"source": {"ip": "UNKNOWN"}, "process": [1]}));
        let mut event = Event::new();
        event.set(field::SOURCE_IP, 5_i64);
        assert_eq!(event.rest_at("source.ip"), Some(&json!(5)));
    }

    #[test]
    fn pushing_does_not_repeat() {
        let mut event = Event::new();
        for name in ["root", "root", "admin"] {
            event.push(field::RELATED_USER, name.to_owned());
        }
        assert_eq!(event.get(field::RELATED_USER).map(|value| value.each().len()), Some(2));
    }

    #[test]
    fn depth_is_bounded() {
        let mut json = json!(1);
        for _ in 0..500 {
            json = json!({ "a": json });
        }
        let (event, _) = Event::from_json(object(json));
        let text = Json::Object(event.to_json()).to_string();
        assert!(text.contains("\\\"a\\\""), "what lies too deep is kept as text");
    }

    fn leaf() -> impl Strategy<Value = Json> {
        prop_oneof![
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Json::Null, Json::Number)),
            "[a-z0-9.:]{0,12}".prop_map(Json::from),
            Just(json!("2001:db8::1")),
            Just(json!("2026-01-02T03:04:05.000006Z")),
            Just(Json::Null),
        ]
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            (0..crate::catalog::FIELDS.len()).prop_map(|at| crate::catalog::FIELDS[at].name.to_owned()),
            "(source|process|event|x)(\\.(ip|parent|y|)){0,2}",
        ]
    }

    fn document() -> impl Strategy<Value = Map<String, Json>> {
        let value = leaf().prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
                prop::collection::vec((name(), inner), 0..4)
                    .prop_map(|pairs| Json::Object(pairs.into_iter().collect())),
            ]
        });
        prop::collection::vec((name(), value), 0..10).prop_map(|pairs| pairs.into_iter().collect())
    }

    proptest! {
        #[test]
        fn json_round_trip(document in document()) {
            let (event, _) = Event::from_json(document);
            let (again, repeats) = Event::from_json(event.to_json());
            prop_assert_eq!(repeats, 0);
            prop_assert_eq!(again, event);
        }
    }
}
