//! An event as the Sigma evaluator sees it: the nested document, without building it.
//!
//! A catalog field is answered from its slot. All else is looked for in the rest, with the evaluator's own
//! meaning of a path: it goes through every element of an array, and more than one hit is an array. Paths with
//! indices, and names of groups of fields (`source`), are answered from the document itself; rules that use
//! them are rare.

use std::borrow::Cow;

use rsigma_eval::{EventValue, JsonEvent};
use sakimori_model::{Event, Value, catalog};
use serde_json::Value as Json;

use crate::names;

/// The view.
#[derive(Debug)]
pub(crate) struct View<'a>(pub &'a Event);

impl rsigma_eval::Event for View<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        if let Some(field) = names::lookup(path) {
            if let Some(value) = self.0.get(field) {
                return Some(slot(value));
            }
            return self.in_rest(path);
        }
        if path.contains(['[', '\\']) || is_beside_slots(path) {
            let json = Json::Object(self.0.to_json());
            return JsonEvent::borrow(&json).get_field(path).map(owned);
        }
        self.in_rest(path)
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        self.0.slots().any(|(_, value)| any_text(value, pred)) || self.0.rest().values().any(|one| any_json(one, pred))
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        let texts = std::cell::RefCell::new(Vec::new());
        self.any_string_value(&|text| {
            texts.borrow_mut().push(Cow::Owned(text.to_owned()));
            false
        });
        texts.into_inner()
    }

    fn to_json(&self) -> Json {
        Json::Object(self.0.to_json())
    }
}

impl View<'_> {
    fn in_rest(&self, path: &str) -> Option<EventValue<'_>> {
        if self.0.rest().is_empty() {
            return None;
        }
        let (head, tail) = path.split_once('.').map_or((path, None), |(head, tail)| (head, Some(tail)));
        let at = self.0.rest().get(head)?;
        let mut found = Vec::new();
        walk(at, tail, &mut found);
        match found.len() {
            0 | 1 => found.pop(),
            _ => Some(EventValue::Array(found)),
        }
    }
}

/// Is it a group of catalog fields, or below a field that holds JSON?
fn is_beside_slots(path: &str) -> bool {
    let mut node = catalog::tree();
    for part in path.split('.') {
        match node.child(part) {
            Some(below) => node = below,
            None => return node.field.is_some(),
        }
    }
    true
}

/// Follows a path through objects and every element of arrays.
fn walk<'a>(at: &'a Json, path: Option<&str>, found: &mut Vec<EventValue<'a>>) {
    let Some(path) = path else {
        found.push(EventValue::from(at));
        return;
    };
    match at {
        Json::Object(object) => {
            let (head, tail) = path.split_once('.').map_or((path, None), |(head, tail)| (head, Some(tail)));
            if let Some(next) = object.get(head) {
                walk(next, tail, found);
            }
        }
        Json::Array(list) => list.iter().for_each(|one| walk(one, Some(path), found)),
        _ => {}
    }
}

/// A slot's value as the document would show it.
fn slot(value: &Value) -> EventValue<'_> {
    match value {
        Value::Str(text) => EventValue::Str(Cow::Borrowed(text)),
        Value::Ip(ip) => EventValue::Str(Cow::Owned(ip.to_string())),
        Value::Long(number) => EventValue::Int(*number),
        Value::Double(number) => EventValue::Float(*number),
        Value::Bool(flag) => EventValue::Bool(*flag),
        Value::Date(time) => EventValue::Str(Cow::Owned(time.to_string())),
        Value::Json(json) => EventValue::from(&**json),
        Value::List(list) => EventValue::Array(list.iter().map(slot).collect()),
    }
}

fn owned(value: EventValue<'_>) -> EventValue<'static> {
    match value {
        EventValue::Str(text) => EventValue::Str(Cow::Owned(text.into_owned())),
        EventValue::Int(number) => EventValue::Int(number),
        EventValue::Float(number) => EventValue::Float(number),
        EventValue::Bool(flag) => EventValue::Bool(flag),
        EventValue::Null => EventValue::Null,
        EventValue::Array(list) => EventValue::Array(list.into_iter().map(owned).collect()),
        EventValue::Map(pairs) => EventValue::Map(
            pairs.into_iter().map(|(name, value)| (Cow::Owned(name.into_owned()), owned(value))).collect(),
        ),
    }
}

fn any_text(value: &Value, pred: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::Str(text) => pred(text),
        Value::Ip(ip) => pred(&ip.to_string()),
        Value::Date(time) => pred(&time.to_string()),
        Value::Json(json) => any_json(json, pred),
        Value::List(list) => list.iter().any(|one| any_text(one, pred)),
        Value::Long(_) | Value::Double(_) | Value::Bool(_) => false,
    }
}

fn any_json(json: &Json, pred: &dyn Fn(&str) -> bool) -> bool {
    match json {
        Json::String(text) => pred(text),
        Json::Array(list) => list.iter().any(|one| any_json(one, pred)),
        Json::Object(object) => object.values().any(|one| any_json(one, pred)),
        _ => false,
    }
}

/// A value as a text, as the evaluator compares it; of an array nothing.
pub(crate) fn scalar<'a>(value: &'a EventValue<'_>) -> Option<Cow<'a, str>> {
    value.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rsigma_eval::Event as _;
    use serde_json::json;

    fn both(document: Json, path: &str) -> (Option<Json>, Option<Json>) {
        let Json::Object(object) = document else { panic!("not an object") };
        let event = Event::from_json(object).0;
        let json = Json::Object(event.to_json());
        let ours = View(&event).get_field(path).map(|value| value.to_json());
        (ours, JsonEvent::borrow(&json).get_field(path).map(|value| value.to_json()))
    }

    #[test]
    fn paths_mean_what_they_mean_in_the_document() {
        let document = json!({
            "source": {"ip": "203.0.113.7", "port": 22}, "event": {"category": ["web", "network"]},
            "dns": {"answers": [{"data": "a"}, {"data": "b"}]}, "labels": {"k": "v"},
            "acme": {"audit": [{"x": 1}, {"x": 2}], "one": [{"x": 3}]}, "destination": {"ip": "nowhere"},
        });
        for path in [
            "source.ip",
            "source.port",
            "source",
            "event.category",
            "event.category[0]",
            "dns.answers.data",
            "dns.answers[1].data",
            "labels.k",
            "acme.audit.x",
            "acme.one.x",
            "acme.audit[0].x",
            "destination.ip",
            "nothing.here",
            "source.nothing",
            "@timestamp",
            "acme",
        ] {
            let (ours, theirs) = both(document.clone(), path);
            assert_eq!(ours, theirs, "{path}");
        }
        assert_eq!(both(document, "acme.audit.x").0, Some(json!([1, 2])));
    }

    #[test]
    fn keywords_see_every_text() {
        let document = json!({"source": {"ip": "203.0.113.7"}, "acme": [{"a": "needle"}], "tags": ["x", "y"]});
        let event = Event::from_json(document.as_object().unwrap().clone()).0;
        let json = Json::Object(event.to_json());
        let view = View(&event);
        let (mut ours, theirs) = (view.all_string_values(), JsonEvent::borrow(&json));
        let mut theirs = theirs.all_string_values();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
    }

    proptest! {
        #[test]
        fn random_fields_agree(at in 0..catalog::FIELDS.len(), value in "[a-z0-9.]{0,6}", listed in any::<bool>()) {
            let name = catalog::FIELDS[at].name;
            let value = if listed { json!([value, "1"]) } else { json!(value) };
            let (ours, theirs) = both(json!({ name: value }), name);
            prop_assert_eq!(ours, theirs);
        }
    }
}
