//! What a program made, as an event: VRL's value is walked along the tree of field names, without JSON text.

use std::net::IpAddr;

use sakimori_model::catalog::{self, FieldId, FieldKind, Node};
use sakimori_model::{Event, Timestamp, Value};
use serde_json::{Map, Number, Value as Json};
use vrl::value::{ObjectMap, Value as Vrl};

/// Deepest nesting that is taken over; what lies deeper is kept as text.
const MAX_DEPTH: usize = 64;

/// Sets every field of the object on the event. What the catalog does not know goes into its rest.
pub(crate) fn fill(event: &mut Event, object: ObjectMap) {
    for (name, value) in object {
        match catalog::tree().child(&name) {
            Some(node) => known(event, node, &name, value),
            None => event.set_path(&name, json(value, 0)),
        }
    }
}

/// A value below a name that the catalog knows. A name that ends here and is no field (`source: "x"`) and names
/// below that are unknown go into the rest.
pub(crate) fn known(event: &mut Event, node: &Node, path: &str, value: Vrl) {
    if let Some(field) = node.field {
        set(event, field, value);
        return;
    }
    match value {
        Vrl::Object(object) => {
            for (name, value) in object {
                match node.child(&name) {
                    Some(below) if below.field.is_some() => known(event, below, "", value),
                    Some(below) => known(event, below, &format!("{path}.{name}"), value),
                    None => event.set_path(&format!("{path}.{name}"), json(value, 0)),
                }
            }
        }
        other => event.set_path(path, json(other, 0)),
    }
}

/// Sets one field. Null sets nothing.
fn set(event: &mut Event, field: FieldId, value: Vrl) {
    let kind = field.def().kind;
    if matches!(value, Vrl::Null) {
        return;
    }
    if kind != FieldKind::Json
        && let Vrl::Array(list) = &value
        && !list.is_empty()
    {
        let values: Option<Vec<Value>> = list.iter().map(|one| typed(kind, one)).collect();
        match values {
            Some(values) => event.set(field, Value::List(values)),
            None => event.set_json(field, json(value, 0)),
        }
        return;
    }
    match typed(kind, &value) {
        Some(value) => event.set(field, value),
        None => event.set_json(field, json(value, 0)),
    }
}

/// The value of a slot, where the kind is plainly that of the field.
fn typed(kind: FieldKind, value: &Vrl) -> Option<Value> {
    match (kind, value) {
        (FieldKind::Keyword | FieldKind::Text, Vrl::Bytes(bytes)) => Some(Value::from(text(bytes))),
        (FieldKind::Keyword | FieldKind::Text, Vrl::String(string)) => Some(Value::from(string.to_string())),
        (FieldKind::Ip, Vrl::Bytes(bytes)) => {
            std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<IpAddr>().ok()).map(Value::from)
        }
        (FieldKind::Long, Vrl::Integer(number)) => Some(Value::from(*number)),
        (FieldKind::Double, Vrl::Float(number)) => Some(Value::Double(number.into_inner())),
        (FieldKind::Bool, Vrl::Boolean(flag)) => Some(Value::from(*flag)),
        (FieldKind::Date, Vrl::Timestamp(time)) => Some(Value::from(Timestamp::from(*time))),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// As JSON; times as RFC 3339 with microseconds.
pub(crate) fn json(value: Vrl, depth: usize) -> Json {
    match value {
        Vrl::Bytes(bytes) => Json::String(text(&bytes)),
        Vrl::String(string) => Json::String(string.to_string()),
        Vrl::Regex(regex) => Json::String(regex.as_str().to_owned()),
        Vrl::Integer(number) => Json::from(number),
        Vrl::Float(number) => Number::from_f64(number.into_inner()).map_or(Json::Null, Json::Number),
        Vrl::Boolean(flag) => Json::Bool(flag),
        Vrl::Timestamp(time) => Json::String(Timestamp::from(time).to_string()),
        Vrl::Null => Json::Null,
        Vrl::Array(_) | Vrl::Object(_) if depth >= MAX_DEPTH => Json::String(value.to_string()),
        Vrl::Array(list) => Json::Array(list.into_iter().map(|one| json(one, depth + 1)).collect()),
        Vrl::Object(object) => {
            let pairs = object.into_iter().map(|(name, value)| (name.to_string(), json(value, depth + 1)));
            Json::Object(pairs.collect::<Map<_, _>>())
        }
    }
}

/// The other way, for a record that a program reads.
pub(crate) fn vrl(json: Json) -> Vrl {
    match json {
        Json::Null => Vrl::Null,
        Json::Bool(flag) => Vrl::Boolean(flag),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Vrl::Integer(number),
            None => number.as_f64().map_or(Vrl::Null, Vrl::from_f64_or_zero),
        },
        Json::String(text) => Vrl::from(text),
        Json::Array(list) => Vrl::Array(list.into_iter().map(vrl).collect()),
        Json::Object(object) => {
            Vrl::Object(object.into_iter().map(|(name, value)| (name.into(), vrl(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sakimori_model::field;
    use serde_json::json;

    fn event(document: Json) -> Event {
        let Vrl::Object(object) = vrl(document) else { panic!("not an object") };
        let mut event = Event::new();
        fill(&mut event, object);
        event
    }

    #[test]
    fn values_find_their_slots() {
        let event = event(json!({
            "source": {"ip": "203.0.113.7", "port": 22, "odd": 1}, "event": {"category": ["web"]},
            "tags": null, "acme": {"audit": {"a": 1}}, "destination": {"ip": "nowhere", "port": "443"}
        }));
        assert_eq!(event.ip(field::SOURCE_IP), "203.0.113.7".parse().ok());
        assert_eq!(event.long(field::SOURCE_PORT), Some(22));
        assert_eq!(event.long(field::DESTINATION_PORT), Some(443));
        assert_eq!(event.rest_at("destination.ip"), Some(&json!("nowhere")));
        assert_eq!(event.rest_at("source.odd"), Some(&json!(1)));
        assert_eq!(event.rest_at("acme.audit.a"), Some(&json!(1)));
        assert_eq!(event.get(field::TAGS), None);
    }

    #[test]
    fn a_time_is_a_time() {
        let mut event = Event::new();
        let time = Timestamp::parse("2026-11-24T10:00:00Z").unwrap();
        fill(&mut event, ObjectMap::from([("@timestamp".into(), Vrl::Timestamp(time.to_chrono()))]));
        assert_eq!(event.timestamp(), Some(time));
    }

    fn leaf() -> impl Strategy<Value = Json> {
        prop_oneof![
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            "[a-z0-9.:]{0,8}".prop_map(Json::from),
            Just(json!("2001:db8::1")),
        ]
    }

    proptest! {
        #[test]
        fn it_says_the_same_as_the_way_through_json(
            pairs in prop::collection::vec((0..catalog::FIELDS.len(), leaf(), any::<bool>()), 0..8)
        ) {
            let mut document = Map::new();
            for (at, value, listed) in pairs {
                let value = if listed { json!([value]) } else { value };
                document.insert(catalog::FIELDS[at].name.to_owned(), value);
            }
            // Dotted names become nested first, as a program's are.
            let nested = Event::from_json(document).0.to_json();
            prop_assert_eq!(event(Json::Object(nested.clone())), Event::from_json(nested).0);
        }
    }
}
