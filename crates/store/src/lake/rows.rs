//! Events to columns and back.
//!
//! What a column cannot hold goes into the rest as JSON (see `layout`). Fields that the lake computes (`event.id`,
//! tenant, batch, index, received, stream) are not taken from the event: they are what the batch says, whatever a
//! sender wrote into them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayBuilder as _, ArrayRef, AsArray, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder,
    ListBuilder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use datafusion::arrow::datatypes::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::arrow::error::ArrowError;
use sakimori_model::catalog::{self, FieldKind};
use sakimori_model::id::EventId;
use sakimori_model::{Event, FieldId, Timestamp, Value, field as f};
use serde_json::{Map, Value as Json};

use super::layout::{Kind, REST, element, layout, own};
use super::{Hit, StampedBatch};
use crate::query::COMPUTED;

/// The event's place in time (D6): its own where it is plausible, else its arrival.
pub fn placed(event: &Event, arrival: Timestamp) -> Timestamp {
    event
        .timestamp()
        .filter(|own| *own >= arrival.plus_secs(-400 * 86_400) && *own <= arrival.plus_secs(86_400))
        .unwrap_or(arrival)
}

/// Puts what the lake computes into an event, as a search returns it: for live tails that must show the same.
pub fn stamp(event: &mut Event, tenant: &str, id: &EventId, stream: &str, received: Timestamp) {
    event.set(f::EVENT_ID, id.to_string());
    event.set(f::ORGANIZATION_ID, tenant.to_owned());
    event.set(f::SAKIMORI_BATCH, id.batch.clone());
    event.set(f::SAKIMORI_INDEX, i64::from(id.index));
    event.set(f::SAKIMORI_RECEIVED, received);
    event.set(f::SAKIMORI_STREAM, stream.to_owned());
}

/// Batches of one tenant as record batches, one a day.
pub(crate) fn encode(batches: &[Arc<StampedBatch>]) -> Result<BTreeMap<i32, RecordBatch>, ArrowError> {
    let mut days: BTreeMap<i32, Rows> = BTreeMap::new();
    for batch in batches {
        for (index, event) in batch.events.iter().enumerate() {
            let time = placed(event, batch.arrival);
            let day = i32::try_from(time.day()).unwrap_or_default();
            days.entry(day).or_insert_with(Rows::new).add(batch, index, event, time, day);
        }
    }
    days.into_iter().map(|(day, rows)| rows.finish().map(|rows| (day, rows))).collect()
}

enum Builder {
    Text(StringBuilder),
    Texts(ListBuilder<StringBuilder>),
    Long(Int64Builder),
    Double(Float64Builder),
    Bool(BooleanBuilder),
    Date(TimestampMicrosecondBuilder),
    Day(Date32Builder),
}

struct Rows {
    builders: Vec<Builder>,
    rows: usize,
}

impl Rows {
    fn new() -> Self {
        let builders = layout()
            .columns
            .iter()
            .map(|column| match column.kind {
                // Most columns stay empty: they grow when they are used.
                Kind::Text => Builder::Text(StringBuilder::with_capacity(0, 0)),
                Kind::Texts => Builder::Texts(
                    ListBuilder::with_capacity(StringBuilder::with_capacity(0, 0), 0).with_field(element()),
                ),
                Kind::Long => Builder::Long(Int64Builder::with_capacity(0)),
                Kind::Double => Builder::Double(Float64Builder::with_capacity(0)),
                Kind::Bool => Builder::Bool(BooleanBuilder::with_capacity(0)),
                Kind::Date => Builder::Date(TimestampMicrosecondBuilder::with_capacity(0).with_timezone("UTC")),
                Kind::Day => Builder::Day(Date32Builder::with_capacity(0)),
            })
            .collect();
        Self { builders, rows: 0 }
    }

    fn add(&mut self, batch: &StampedBatch, index: usize, event: &Event, time: Timestamp, day: i32) {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        let arrival = i64::try_from(batch.first_sequence).unwrap_or(i64::MAX).saturating_add(index);
        let row = self.rows;
        let mut put = |at: usize, value: Put<'_>| {
            if let Some(builder) = self.builders.get_mut(at) {
                builder.put(row, value);
            }
        };
        put(own::DAY, Put::Day(day));
        put(own::TIME, Put::Date(time));
        put(own::BATCH, Put::Text(&batch.header.id));
        put(own::INDEX, Put::Long(index));
        put(own::ARRIVAL, Put::Long(arrival));
        put(own::RECEIVED, Put::Date(batch.arrival));
        put(own::ORIGIN, Put::Text(&batch.header.origin));
        put(own::STREAM, Put::Text(&batch.header.stream));
        let mut rest = Map::new();
        for (field, value) in event.slots() {
            if COMPUTED.contains(&field) {
                continue;
            }
            let column = layout().column(field);
            let took = column.and_then(|at| self.builders.get_mut(at)).is_some_and(|builder| builder.take(row, value));
            if !took {
                rest.insert(field.name().to_owned(), value.to_json());
            }
        }
        for (name, value) in event.rest() {
            // A field of one part (`message`) with a value of the wrong type and a slot: the slot is the field.
            rest.entry(name.clone()).or_insert_with(|| value.clone());
        }
        if !rest.is_empty() {
            let text = Json::Object(rest).to_string();
            if let Some(builder) = self.builders.get_mut(layout().rest()) {
                builder.put(row, Put::Text(&text));
            }
        }
        self.rows += 1;
    }

    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let rows = self.rows;
        let columns = self.builders.iter_mut().map(|builder| builder.finish(rows)).collect();
        RecordBatch::try_new(Arc::clone(&layout().schema), columns)
    }
}

enum Put<'a> {
    Text(&'a str),
    Long(i64),
    Date(Timestamp),
    Day(i32),
}

impl Builder {
    /// Fills the rows before this one with nothing.
    fn pad(&mut self, row: usize) {
        match self {
            Self::Text(to) => to.append_nulls(row - to.len().min(row)),
            Self::Texts(to) => to.append_nulls(row - to.len().min(row)),
            Self::Long(to) => to.append_nulls(row - to.len().min(row)),
            Self::Double(to) => to.append_nulls(row - to.len().min(row)),
            Self::Bool(to) => to.append_nulls(row - to.len().min(row)),
            Self::Date(to) => to.append_nulls(row - to.len().min(row)),
            Self::Day(to) => to.append_nulls(row - to.len().min(row)),
        }
    }

    fn put(&mut self, row: usize, value: Put<'_>) {
        self.pad(row);
        match (self, value) {
            (Self::Text(to), Put::Text(text)) => to.append_value(text),
            (Self::Long(to), Put::Long(number)) => to.append_value(number),
            (Self::Date(to), Put::Date(time)) => to.append_value(time.micros()),
            (Self::Day(to), Put::Day(day)) => to.append_value(day),
            _ => debug_assert!(false, "the lake's own columns have their own types"),
        }
    }

    /// Takes a slot's value, or says that it does not fit.
    fn take(&mut self, row: usize, value: &Value) -> bool {
        self.pad(row);
        match (self, value) {
            (Self::Texts(to), value) => {
                for one in value.each() {
                    match one {
                        Value::Str(text) => to.values().append_value(text),
                        Value::Ip(ip) => to.values().append_value(ip.to_string()),
                        _ => to.values().append_null(),
                    }
                }
                to.append(true);
            }
            (Self::Text(to), Value::Str(text)) => to.append_value(text),
            (Self::Text(to), Value::Ip(ip)) => to.append_value(ip.to_string()),
            (Self::Long(to), Value::Long(number)) => to.append_value(*number),
            (Self::Double(to), Value::Double(number)) => to.append_value(*number),
            (Self::Bool(to), Value::Bool(flag)) => to.append_value(*flag),
            (Self::Date(to), Value::Date(time)) => to.append_value(time.micros()),
            _ => return false,
        }
        true
    }

    fn finish(&mut self, rows: usize) -> ArrayRef {
        self.pad(rows);
        match self {
            Self::Text(from) => Arc::new(from.finish()),
            Self::Texts(from) => Arc::new(from.finish()),
            Self::Long(from) => Arc::new(from.finish()),
            Self::Double(from) => Arc::new(from.finish()),
            Self::Bool(from) => Arc::new(from.finish()),
            Self::Date(from) => Arc::new(from.finish()),
            Self::Day(from) => Arc::new(from.finish()),
        }
    }
}

/// The rest of a row as an event, without the values of its columns. Text that is no JSON object is an empty one.
pub(crate) fn rest_event(text: &str) -> Event {
    let Ok(Json::Object(object)) = serde_json::from_str(text) else { return Event::new() };
    let mut nested = Map::new();
    let mut slots = Vec::new();
    for (name, value) in object {
        match catalog::lookup(&name) {
            Some(field) => slots.push((field, value)),
            None => {
                nested.insert(name, value);
            }
        }
    }
    // A field promoted after the row was written lies nested in the rest and becomes a slot here (D5).
    let (mut event, _) = Event::from_json(nested);
    for (field, value) in slots {
        event.set_json(field, value);
    }
    event
}

/// Does the rest of these rows hold nothing of a field that has a column? Then a search for such fields need not look
/// there.
pub(crate) fn is_whole(rows: &RecordBatch) -> bool {
    let Some(rest) = rows.column_by_name(REST) else { return false };
    (0..rows.num_rows()).all(|row| text_at(rest, row).is_none_or(|text| !has_strays(text)))
}

/// Does it hold a value of a field that has a column? What is no object counts as one that does.
fn has_strays(rest: &str) -> bool {
    let Ok(Json::Object(object)) = serde_json::from_str(rest) else { return true };
    object.iter().any(|(name, value)| {
        let node = name.split('.').try_fold(catalog::tree(), |node, part| node.child(part));
        node.is_some_and(|node| is_stray(node, value))
    })
}

fn is_stray(node: &catalog::Node, value: &Json) -> bool {
    if let Some(field) = node.field {
        return layout().column(field).is_some();
    }
    match value {
        Json::Object(object) => object.iter().any(|(name, value)| {
            let below = name.split('.').try_fold(node, |node, part| node.child(part));
            below.is_some_and(|below| is_stray(below, value))
        }),
        Json::Array(list) => list.iter().any(|one| is_stray(node, one)),
        _ => false,
    }
}

/// Rows of all columns as hits.
pub(crate) fn decode(rows: &RecordBatch, tenant: &str) -> Vec<Hit> {
    let columns: Vec<(FieldId, Kind, &ArrayRef)> = layout()
        .columns
        .iter()
        .filter_map(|column| Some((column.field?, column.kind, rows.column_by_name(column.name)?)))
        .collect();
    let at = |place: usize| layout().columns.get(place).and_then(|column| rows.column_by_name(column.name));
    let text =
        |place: usize, row: usize| at(place).and_then(|column| text_at(column, row)).unwrap_or_default().to_owned();
    (0..rows.num_rows())
        .map(|row| {
            let long = |place: usize| at(place).and_then(|column| long_at(column, row)).unwrap_or_default();
            let date = |place: usize| at(place).and_then(|column| date_at(column, row)).unwrap_or_default();
            let rest = at(layout().rest()).and_then(|column| text_at(column, row));
            let mut event = rest.map_or_else(Event::new, rest_event);
            for (field, kind, column) in &columns {
                if let Some(value) = value_at(*field, *kind, column, row) {
                    event.set(*field, value);
                }
            }
            let id =
                EventId { batch: text(own::BATCH, row), index: u32::try_from(long(own::INDEX)).unwrap_or_default() };
            let received = date(own::RECEIVED);
            stamp(&mut event, tenant, &id, &text(own::STREAM, row), received);
            let arrival = u64::try_from(long(own::ARRIVAL)).unwrap_or_default();
            Hit { id, time: date(own::TIME), received, arrival, event }
        })
        .collect()
}

fn value_at(field: FieldId, kind: Kind, column: &ArrayRef, row: usize) -> Option<Value> {
    if column.is_null(row) {
        return None;
    }
    let text = |text: &str| match field.def().kind {
        FieldKind::Ip => text.parse::<IpAddr>().map_or_else(|_| Value::from(text.to_owned()), Value::Ip),
        _ => Value::from(text.to_owned()),
    };
    Some(match kind {
        Kind::Text => text(text_at(column, row)?),
        Kind::Texts => {
            let list = column.as_list_opt::<i32>()?.value(row);
            let list = list.as_string_opt::<i32>()?;
            Value::List(list.iter().flatten().map(text).collect())
        }
        Kind::Long => Value::Long(long_at(column, row)?),
        Kind::Double => Value::Double(column.as_primitive_opt::<Float64Type>()?.value(row)),
        Kind::Bool => Value::Bool(column.as_boolean_opt()?.value(row)),
        Kind::Date => Value::Date(date_at(column, row)?),
        Kind::Day => Value::Long(i64::from(column.as_primitive_opt::<Date32Type>()?.value(row))),
    })
}

pub(crate) fn text_at(column: &ArrayRef, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.as_string_opt::<i32>().map(|column| column.value(row))).flatten()
}

pub(crate) fn long_at(column: &ArrayRef, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.as_primitive_opt::<Int64Type>().map(|column| column.value(row))).flatten()
}

pub(crate) fn date_at(column: &ArrayRef, row: usize) -> Option<Timestamp> {
    let column = column.as_primitive_opt::<TimestampMicrosecondType>()?;
    column.is_valid(row).then(|| Timestamp::from_micros(column.value(row)))
}
