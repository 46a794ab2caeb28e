//! `export`: what a search finds as a file, streamed page after page: NDJSON or CSV.
//!
//! A cell of a CSV that a spreadsheet would take for a formula begins with an apostrophe, so that what an attacker
//! wrote into a field is text where it is opened. Rows and bytes are bounded, and so are exports at a time; an export
//! that ended before its end says so in its last line, also where it has as many rows as were asked for and there are more.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use sakimori_model::FieldId;
use sakimori_store::lake::{Ask, Hit, Interval, Order};
use sakimori_store::query::Expr;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::App;
use super::access::Caller;
use super::events::{expression, interval};
use super::extract::Query;
use super::problem::{self, Problem};
use super::search;

/// Most exports at a time.
pub const AT_A_TIME: usize = 4;
/// Most rows of one.
const MOST_ROWS: i64 = 1_000_000;
/// Most bytes of one.
const MOST_BYTES: usize = 2 << 30;
/// Rows that are read at a time.
const PAGE: usize = 1_000;
/// What an export says last that ended before its end.
const CUT: &str = "the export ends here before its end";
/// And one that has as many rows as were asked for, where there are more.
const MORE: &str = "the export ends here with as many rows as were asked for, and there are more";
/// Columns of a CSV where the request names none.
const COLUMNS: [&str; 12] = [
    "@timestamp",
    "host.name",
    "event.dataset",
    "event.action",
    "event.outcome",
    "source.ip",
    "destination.ip",
    "user.name",
    "rule.id",
    "rule.name",
    "event.id",
    "message",
];

/// What to export.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    /// `ndjson` (one document a line; where absent) or `csv`.
    pub format: Option<String>,
    /// Search text; everything where absent.
    pub q: Option<String>,
    /// Earliest time, RFC 3339.
    pub from: Option<String>,
    /// Before this time, RFC 3339.
    pub to: Option<String>,
    /// `newest` (first; where absent) or `oldest`.
    pub order: Option<String>,
    /// Names of fields with commas between, at most 64. Of NDJSON all where absent, nested; else flat.
    pub fields: Option<String>,
    /// Most rows, 1 to 1,000,000; 100,000 where absent.
    pub limit: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Ndjson,
    Csv,
}

struct Export {
    app: App,
    tenant: String,
    query: Expr,
    interval: Interval,
    order: Order,
    format: Format,
    names: Option<Vec<String>>,
    cursor: Option<String>,
    left: usize,
    bytes: usize,
    begun: bool,
    over: bool,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

/// `GET /events/export`
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<ExportQuery>,
) -> Result<Response, Problem> {
    let wrong = |place: &str, reason: String| Problem::new(problem::REQUEST_QUERY).fault(place, reason);
    let format = match asked.format.as_deref() {
        None | Some("ndjson") => Format::Ndjson,
        Some("csv") => Format::Csv,
        Some(other) => return Err(wrong("format", format!("expected ndjson or csv, found {other:?}"))),
    };
    let limit = asked.limit.unwrap_or(100_000);
    if !(1..=MOST_ROWS).contains(&limit) {
        return Err(wrong("limit", format!("expected 1 to {MOST_ROWS}, found {limit}")));
    }
    let mut names = search::chosen(asked.fields.as_deref())?;
    if format == Format::Csv && names.is_none() {
        names = Some(COLUMNS.map(str::to_owned).into());
    }
    let export = Export {
        query: expression(asked.q.as_deref())?,
        interval: interval(asked.from.as_deref(), asked.to.as_deref())?,
        order: search::order(asked.order.as_deref())?,
        format,
        names,
        cursor: None,
        left: usize::try_from(limit).unwrap_or(0),
        bytes: 0,
        begun: false,
        over: false,
        tenant: caller.tenant().to_owned(),
        _permit: std::sync::Arc::clone(&app.exports)
            .try_acquire_owned()
            .map_err(|_| Problem::new(problem::EVENTS_BUSY).retry_after(10))?,
        app,
    };
    // The first page is read before the answer begins: what is wrong with the search is told as such.
    let (first, export) = export.page().await?;
    let rest = futures::stream::unfold(Some(export), |export| async move {
        let export = export.filter(|export| !export.over)?;
        let format = export.format;
        match export.page().await {
            Ok((bytes, export)) => Some((Ok::<_, std::convert::Infallible>(bytes), Some(export))),
            Err(problem) => Some((Ok(broken(format, &problem)), None)),
        }
    });
    let body = Body::from_stream(futures::StreamExt::chain(futures::stream::iter([Ok(first)]), rest));
    let (kind, name) = match format {
        Format::Ndjson => ("application/x-ndjson", "attachment; filename=\"events.ndjson\""),
        Format::Csv => ("text/csv; charset=utf-8; header=present", "attachment; filename=\"events.csv\""),
    };
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(name));
    Ok(response)
}

/// The last line of an export that ended before its end.
fn broken(format: Format, problem: &Problem) -> Bytes {
    Bytes::from(last(format, problem.code.code, CUT))
}

fn last(format: Format, code: &str, message: &str) -> String {
    match format {
        Format::Ndjson => format!("{}\n", json!({"error": {"code": code, "message": message}})),
        Format::Csv => format!("\"{message}: {code}\"\r\n"),
    }
}

impl Export {
    async fn page(mut self) -> Result<(Bytes, Self), Problem> {
        let ask = Ask {
            query: &self.query,
            interval: self.interval,
            limit: PAGE.min(self.left),
            cursor: self.cursor.as_deref(),
            order: self.order,
            fields: self
                .names
                .as_ref()
                .map(|names| names.iter().filter_map(|name| search::column(name)).collect::<Vec<FieldId>>()),
        };
        let found = self.app.shared.lake.page(&self.tenant, ask).await?;
        let mut out = String::new();
        if !self.begun && self.format == Format::Csv {
            line(self.names.iter().flatten().map(|name| cell(name)), &mut out);
        }
        self.begun = true;
        for hit in &found.hits {
            self.row(hit, &mut out);
        }
        self.left -= found.hits.len().min(self.left);
        self.bytes += out.len();
        self.cursor = found.cursor;
        self.over = self.cursor.is_none() || self.left == 0;
        if self.cursor.is_some() && (self.over || self.bytes > MOST_BYTES) {
            let message = if self.over { MORE } else { CUT };
            self.over = true;
            out.push_str(&last(self.format, problem::EVENTS_TOO_LARGE.code, message));
        }
        Ok((Bytes::from(out), self))
    }

    fn row(&self, hit: &Hit, out: &mut String) {
        match (self.format, &self.names) {
            (Format::Csv, names) => line(
                names.iter().flatten().map(|name| match search::value(&hit.event, name) {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => cell(&text),
                    Some(Value::Array(list)) => cell(
                        &list
                            .iter()
                            .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
                            .collect::<Vec<_>>()
                            .join(", "),
                    ),
                    Some(other) => cell(&other.to_string()),
                }),
                out,
            ),
            (Format::Ndjson, None) => {
                out.push_str(&Value::Object(hit.event.to_json()).to_string());
                out.push('\n');
            }
            (Format::Ndjson, names) => {
                let row = search::row(hit, names.as_deref());
                out.push_str(&serde_json::to_string(&row.fields).unwrap_or_default());
                out.push('\n');
            }
        }
    }
}

fn line(cells: impl Iterator<Item = String>, out: &mut String) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&cell);
    }
    out.push_str("\r\n");
}

/// A cell (RFC 4180). What a spreadsheet would compute gets an apostrophe before it: a number alone does not.
fn cell(text: &str) -> String {
    let looks = text
        .trim_start_matches([' ', '\u{feff}', '\u{a0}'])
        .starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let computed = looks && text.parse::<f64>().is_err();
    let text = if computed { format!("'{text}") } else { text.to_owned() };
    if computed || text.contains([',', '"', '\r', '\n', ';', '\t']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_text_where_it_is_opened() {
        for (text, expected) in [
            ("web-1", "web-1"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "\"'=1+1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("-2+3", "\"'-2+3\""),
            ("  =cmd|' /C calc'!A0", "\"'  =cmd|' /C calc'!A0\""),
            ("\t=1", "\"'\t=1\""),
            ("＝1", "\"'＝1\""),
            ("-5", "-5"),
            ("+8.5", "+8.5"),
            ("a\nb", "\"a\nb\""),
            ("", ""),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
    }
}
