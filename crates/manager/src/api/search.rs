//! `search`: rows of events for a table, with chosen fields, in the order of time, and how many there are.
//!
//! The rows are flat: dotted names of fields and their values. A page is a place in the order, so what arrives
//! meanwhile moves none. The number is counted up to a bound and says whether there are more.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use sakimori_model::catalog::{self, FieldKind};
use sakimori_model::{Event, FieldId, Timestamp, Value as Slot, field};
use sakimori_store::lake::{Ask, Hit, Order};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::Caller;
use super::events::{expression, interval};
use super::extract::{Body, Query, limit};
use super::problem::{self, Problem};

/// Most fields of a row that are chosen.
const MOST_FIELDS: usize = 64;
/// The number of events is counted up to this.
pub const COUNTED: usize = 10_000;

/// A search for rows.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RowSearch {
    /// Search text, `source.ip:198.51.100.0/24 and not user.name:ro*`; everything where absent.
    pub q: Option<String>,
    /// Earliest time, RFC 3339.
    pub from: Option<String>,
    /// Before this time, RFC 3339.
    pub to: Option<String>,
    /// `newest` (first; where absent) or `oldest`.
    pub order: Option<String>,
    /// Names of fields with commas between, at most 64; all that an event has where absent.
    pub fields: Option<String>,
    /// Count what matches, too: up to 10,000.
    pub count: Option<bool>,
    /// Most rows, 1 to 1000; 100 where absent.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// One event as a row.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventRow {
    /// `event.id`: names the occurrence.
    pub id: String,
    /// What rows are sorted by: `@timestamp` where it is plausible, else when it arrived.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Values by the dotted names of their fields; one that an event lacks is absent.
    #[schema(value_type = Object)]
    pub fields: Map<String, Value>,
}

/// How many match.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Total {
    /// So many were counted.
    pub count: u64,
    /// Are there more than that?
    pub more: bool,
}

/// A page of rows.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowPage {
    /// Its rows, in order.
    pub items: Vec<EventRow>,
    /// Cursor of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How many match in all, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<Total>,
    /// The search as it was understood.
    pub understood: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// `GET /events/search`
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<RowSearch>,
) -> Result<Json<RowPage>, Problem> {
    Ok(Json(rows(&app, &caller, &asked).await?))
}

/// `POST /events/search`: the same for a search that is too long for an address.
pub async fn post(
    State(app): State<App>,
    caller: Caller,
    Body(asked): Body<RowSearch>,
) -> Result<Json<RowPage>, Problem> {
    Ok(Json(rows(&app, &caller, &asked).await?))
}

async fn rows(app: &App, caller: &Caller, asked: &RowSearch) -> Result<RowPage, Problem> {
    let began = Instant::now();
    let query = expression(asked.q.as_deref())?;
    let interval = interval(asked.from.as_deref(), asked.to.as_deref())?;
    let chosen = chosen(asked.fields.as_deref())?;
    let cursor: Option<String> = super::extract::place(asked.cursor.as_deref())?;
    let ask = Ask {
        query: &query,
        interval,
        limit: usize::try_from(limit(asked.limit)?).unwrap_or(1),
        cursor: cursor.as_deref(),
        order: order(asked.order.as_deref())?,
        fields: chosen.as_ref().map(|chosen| chosen.iter().filter_map(|name| column(name)).collect()),
    };
    let lake = &app.shared.lake;
    let total = async {
        match asked.count {
            Some(true) => lake
                .count_up_to(caller.tenant(), &query, interval, COUNTED)
                .await
                .map(|(count, more)| Some(Total { count, more })),
            _ => Ok(None),
        }
    };
    let (found, total) = tokio::join!(lake.page(caller.tenant(), ask), total);
    let (found, total) = (found?, total?);
    Ok(RowPage {
        items: found.hits.iter().map(|hit| row(hit, chosen.as_deref())).collect(),
        next: found.cursor.map(|cursor| super::extract::cursor(&cursor)),
        total,
        understood: query.to_string(),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// The order of a search.
pub(super) fn order(text: Option<&str>) -> Result<Order, Problem> {
    match text {
        None | Some("newest") => Ok(Order::Newest),
        Some("oldest") => Ok(Order::Oldest),
        Some(other) => {
            let reason = format!("expected newest or oldest, found {other:?}");
            Err(Problem::new(problem::REQUEST_QUERY).fault("order", reason))
        }
    }
}

/// Names of chosen fields.
pub(super) fn chosen(text: Option<&str>) -> Result<Option<Vec<String>>, Problem> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let right = |name: &String| (1..=256).contains(&name.len()) && !name.split('.').any(str::is_empty);
    if names.len() > MOST_FIELDS || !names.iter().all(right) {
        let reason = format!("expected at most {MOST_FIELDS} names of fields with commas between");
        return Err(Problem::new(problem::REQUEST_QUERY).fault("fields", reason));
    }
    Ok(Some(names))
}

/// The catalog field whose column a name needs.
pub(super) fn column(name: &str) -> Option<FieldId> {
    catalog::lookup(name)
}

/// An event as a row, with these fields or all.
pub(super) fn row(hit: &Hit, chosen: Option<&[String]>) -> EventRow {
    let fields = match chosen {
        Some(names) => names.iter().filter_map(|name| Some((name.clone(), value(&hit.event, name)?))).collect(),
        None => flat(&hit.event),
    };
    EventRow { id: hit.id.to_string(), time: hit.time, fields }
}

/// A field's value.
pub(super) fn value(event: &Event, name: &str) -> Option<Value> {
    if let Some(slot) = catalog::lookup(name).and_then(|field| event.get(field)) {
        return Some(slot.to_json());
    }
    if let Some(found) = event.rest_at(name) {
        return Some(found.clone());
    }
    name.match_indices('.').find_map(|(at, _)| {
        let (above, below) = (name.get(..at)?, name.get(at + 1..)?);
        let known = catalog::lookup(above).filter(|known| known.def().kind == FieldKind::Json)?;
        let Some(Slot::Json(json)) = event.get(known) else { return None };
        below.split('.').try_fold(json.as_ref(), |at, part| at.get(part)).cloned()
    })
}

/// All of an event, by dotted names. What lies in a list stays as it is.
pub(super) fn flat(event: &Event) -> Map<String, Value> {
    fn below(prefix: &str, json: &Value, out: &mut Map<String, Value>) {
        match json {
            Value::Object(object) if !object.is_empty() => {
                for (name, value) in object {
                    below(&format!("{prefix}.{name}"), value, out);
                }
            }
            other => {
                out.insert(prefix.to_owned(), other.clone());
            }
        }
    }
    let mut out = Map::new();
    for (name, value) in event.rest() {
        below(name, value, &mut out);
    }
    for (field, value) in event.slots() {
        match value {
            // The record of an action is one thing.
            Slot::Json(json) if field != field::SAKIMORI_ACTION_RECORD => below(field.name(), json, &mut out),
            value => {
                out.insert(field.name().to_owned(), value.to_json());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_has_dotted_names_whatever_the_field_is() {
        let document = json!({
            "source": {"ip": "192.0.2.1", "port": "many"}, "labels": {"env": {"stage": "x"}}, "acme": {"a": [1, {"b": 2}]},
            "event": {"category": ["web"]},
        });
        let event = Event::from_json(document.as_object().unwrap().clone()).0;
        let flat = flat(&event);
        assert_eq!(flat["source.ip"], "192.0.2.1");
        assert_eq!(flat["source.port"], "many", "what does not fit its field is shown too");
        assert_eq!(flat["labels.env.stage"], "x");
        assert_eq!(flat["acme.a"], json!([1, {"b": 2}]));
        for name in ["source.ip", "source.port", "labels.env.stage", "acme.a", "event.category"] {
            assert_eq!(value(&event, name).as_ref(), flat.get(name), "{name}");
        }
        assert_eq!(value(&event, "source.nothing"), None);
    }

    #[test]
    fn names_of_fields_are_bounded() {
        assert_eq!(chosen(Some(" ")).unwrap(), None);
        assert_eq!(chosen(Some("a, b.c")).unwrap().unwrap(), ["a", "b.c"]);
        let many = vec!["a"; MOST_FIELDS + 1].join(",");
        for bad in [many.as_str(), "a,,b", "a..b", &"x".repeat(300)] {
            assert!(chosen(Some(bad)).is_err(), "{bad}");
        }
    }
}
