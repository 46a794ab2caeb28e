//! Completion: which fields there are (`fields`), and which values one has (`values`).
//!
//! Names and types are the catalog's; what they mean, in two languages, is data (`fields.tsv`). Values are those of
//! the newest events that match, unless all are asked for.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use sakimori_model::catalog::{FieldDef, FieldKind};
use sakimori_model::{FieldId, Timestamp};
use sakimori_store::lake::{MOST_VALUES, is_list};
use sakimori_store::query::{self, FREE_TEXT};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::Caller;
use super::events::{expression, interval};
use super::extract::Query;
use super::histogram::field;
use super::problem::{self, Problem};

/// Values where the request does not say.
const USUAL: i64 = 20;
/// At least so many of the newest events are looked at for values, where there are.
const SAMPLE: u64 = 500_000;

/// What fields mean: name, English, Japanese.
const MEANINGS: &str = include_str!("fields.tsv");

static MEANING: LazyLock<HashMap<&str, (&str, &str)>> = LazyLock::new(|| {
    let lines = MEANINGS.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, texts) = line.split_once('\t')?;
            Some((name, texts.split_once('\t')?))
        })
        .collect()
});

/// Which fields.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct FieldQuery {
    /// Only those whose name, or a part of it after a dot, begins with this; all where absent.
    pub prefix: Option<String>,
}

/// A field of the catalog.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldView {
    /// Dotted name.
    pub name: &'static str,
    /// `keyword`, `text`, `ip`, `long`, `double`, `bool`, `date` or `json` (a name below it is searched with a dot).
    pub kind: &'static str,
    /// Has the lake a column for it? Others are found too, and take longer.
    pub column: bool,
    /// Has an event several values usually?
    pub list: bool,
    /// Does free text look into it?
    pub free_text: bool,
    /// What it means; empty where its name says it.
    pub description: Words,
}

/// Texts of two languages.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Words {
    /// English.
    pub en: &'static str,
    /// Japanese.
    pub ja: &'static str,
}

/// Fields.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldList {
    /// Those whose name begins so first, then those of which a part does; each in the order of their names.
    pub items: Vec<FieldView>,
}

/// Which values.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ValueQuery {
    /// Name of the field, of the catalog or any other.
    pub field: String,
    /// Values that begin with this, whatever its case; all where absent.
    pub prefix: Option<String>,
    /// Search text that the events match; everything where absent.
    pub q: Option<String>,
    /// Earliest time, RFC 3339.
    pub from: Option<String>,
    /// Before this time, RFC 3339.
    pub to: Option<String>,
    /// Most values, 1 to 1000; 20 where absent.
    pub limit: Option<i64>,
    /// Look at all events of the span, not at the newest half million or so.
    pub all: Option<bool>,
}

/// Values of a field.
#[derive(Debug, Serialize, ToSchema)]
pub struct ValueList {
    /// The field.
    pub field: String,
    /// The most frequent first.
    pub items: Vec<ValueView>,
    /// Are there more values than these?
    pub more: bool,
    /// Only events from this time on were looked at; absent where all of the span were.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// A value.
#[derive(Debug, Serialize, ToSchema)]
pub struct ValueView {
    /// As text.
    pub value: String,
    /// Events that have it.
    pub count: u64,
    /// The search that finds them, to be joined to another with `and`.
    pub q: String,
}

/// `GET /fields`
pub async fn list(Query(asked): Query<FieldQuery>) -> Json<FieldList> {
    let prefix = asked.prefix.unwrap_or_default().to_ascii_lowercase();
    let begins = |name: &str| {
        name.starts_with(&prefix)
            || name.match_indices('.').any(|(at, _)| name.get(at + 1..).is_some_and(|part| part.starts_with(&prefix)))
    };
    let mut items: Vec<FieldView> = FieldId::all().filter(|id| begins(id.name())).map(view).collect();
    items.sort_by_key(|field| !field.name.starts_with(&prefix));
    Json(FieldList { items })
}

fn view(id: FieldId) -> FieldView {
    let FieldDef { name, kind, column } = *id.def();
    let (en, ja) = MEANING.get(name).copied().unwrap_or_default();
    FieldView {
        name,
        kind: kind_name(kind),
        column,
        list: is_list(id),
        free_text: FREE_TEXT.contains(&id),
        description: Words { en, ja },
    }
}

fn kind_name(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Keyword => "keyword",
        FieldKind::Text => "text",
        FieldKind::Ip => "ip",
        FieldKind::Long => "long",
        FieldKind::Double => "double",
        FieldKind::Bool => "bool",
        FieldKind::Date => "date",
        FieldKind::Json => "json",
    }
}

/// `GET /events/values`
pub async fn values(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<ValueQuery>,
) -> Result<Json<ValueList>, Problem> {
    let began = Instant::now();
    let most = i64::try_from(MOST_VALUES).unwrap_or(i64::MAX);
    let limit = asked.limit.unwrap_or(USUAL);
    if !(1..=most).contains(&limit) {
        let reason = format!("expected 1 to {most}, found {limit}");
        return Err(Problem::new(problem::REQUEST_QUERY).fault("limit", reason));
    }
    let prefix = asked.prefix.as_deref().unwrap_or_default();
    if prefix.len() > 1_024 {
        return Err(Problem::new(problem::REQUEST_QUERY).fault("prefix", "at most 1024 bytes"));
    }
    let field = field(&asked.field)?;
    if matches!(field.kind(), Some(FieldKind::Json)) {
        let reason = format!("{} holds other fields; name one below it: {}.…", field.name(), field.name());
        return Err(Problem::new(problem::EVENTS_FIELD).fault("field", reason));
    }
    let query = expression(asked.q.as_deref())?;
    let interval = interval(asked.from.as_deref(), asked.to.as_deref())?;
    let sample = (asked.all != Some(true)).then_some(SAMPLE);
    let bounds = (prefix, usize::try_from(limit).unwrap_or(1), sample);
    let found = app.shared.lake.values(caller.tenant(), &query, interval, &field, bounds).await?;
    let item = |(value, count): (String, u64)| ValueView { q: query::equals(&field, &value).to_string(), value, count };
    Ok(Json(ValueList {
        field: field.name().to_owned(),
        items: found.items.into_iter().map(item).collect(),
        more: found.more,
        since: found.since,
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_model::catalog;

    #[test]
    fn what_is_explained_is_of_the_catalog_and_in_both_languages() {
        let lines: Vec<&str> = MEANINGS.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), MEANING.len(), "each once, with three columns");
        for (name, (en, ja)) in MEANING.iter() {
            assert!(catalog::lookup(name).is_some(), "{name}");
            assert!(!en.is_empty() && ja.chars().any(|c| !c.is_ascii()), "{name}");
        }
        assert!(MEANING.len() > 80);
    }
}
