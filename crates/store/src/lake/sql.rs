//! SQL over one tenant's events.
//!
//! What is refused is refused twice. The text must be one query (`SELECT`, `WITH`, `VALUES`) or `EXPLAIN` of one;
//! and the session that plans it knows `events`, a view over the tenant's rows, and `alerts`, those of them that are
//! alerts: no other table, no catalog of tables, no table function, no file. So there is no name by which another
//! tenant's rows could be asked.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::lit;
use datafusion::prelude::ident;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{self, SetExpr};
use sakimori_model::field;
use serde_json::Value as Json;

use super::engine::collect;
use super::rows::date_at;
use super::view::events;
use super::{Interval, Lake, LakeError};

/// Longest statement in bytes.
const MAX_LENGTH: usize = 64 * 1024;

/// The result of a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Its rows; times are RFC 3339, lists are arrays.
    pub rows: Vec<Vec<Json>>,
    /// Were there more rows than a result may have? Then these are the first.
    pub more: bool,
}

impl Lake {
    /// Runs one query over the tables `events` and `alerts`, whose columns are field names in double quotes.
    ///
    /// # Errors
    /// `Refused` for anything but one query, `Query` for a wrong one, `TooLarge`, `TimedOut`.
    pub async fn sql(&self, tenant: &str, sql: &str) -> Result<Table, LakeError> {
        let statement = allowed(sql)?;
        let (pin, session, tenant) = (self.pin(tenant)?, self.inner.engine.session(), tenant.to_owned());
        let (rows, bytes) = (self.inner.options.max_rows, self.inner.engine.max_result_bytes());
        self.inner
            .engine
            .run(async move {
                let view = events(&session, pin, &tenant, Interval::default()).await?;
                let alerts = view.clone().filter(ident(field::EVENT_KIND.name()).eq(lit("alert")))?;
                session.register_table("events", view.into_view())?;
                session.register_table("alerts", alerts.into_view())?;
                let plan = session.state().statement_to_plan(statement).await?;
                SQLOptions::new()
                    .with_allow_ddl(false)
                    .with_allow_dml(false)
                    .with_allow_statements(false)
                    .verify_plan(&plan)
                    .map_err(|_| LakeError::Refused("the statement changes something".into()))?;
                let frame = DataFrame::new(session.state(), plan);
                let columns = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
                let found = collect(frame, rows, bytes).await?;
                let mut out = Table { columns, rows: Vec::new(), more: found.more };
                for batch in &found.batches {
                    for row in 0..batch.num_rows() {
                        out.rows.push(batch.columns().iter().map(|column| json_at(column, row)).collect());
                    }
                }
                Ok(out)
            })
            .await
    }
}

/// The one statement, if it only reads.
fn allowed(sql: &str) -> Result<Statement, LakeError> {
    if sql.len() > MAX_LENGTH {
        return Err(LakeError::Refused(format!("the statement is longer than {MAX_LENGTH} bytes")));
    }
    let mut statements = DFParser::parse_sql(sql).map_err(|error| LakeError::Query(error.strip_backtrace()))?;
    let statement = statements.pop_front().ok_or_else(|| LakeError::Refused("there is no statement".into()))?;
    if !statements.is_empty() {
        return Err(LakeError::Refused("there is more than one statement".into()));
    }
    if reads_only(&statement) { Ok(statement) } else { Err(LakeError::Refused("this is no query".into())) }
}

fn reads_only(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(inner) => match inner.as_ref() {
            ast::Statement::Query(query) => is_query(query),
            ast::Statement::Explain { statement, .. } => {
                matches!(statement.as_ref(), ast::Statement::Query(query) if is_query(query))
            }
            _ => false,
        },
        Statement::Explain(explain) => match explain.statement.as_ref() {
            Statement::Statement(inner) => matches!(inner.as_ref(), ast::Statement::Query(query) if is_query(query)),
            _ => false,
        },
        _ => false,
    }
}

/// A query whose body is no INSERT, UPDATE or DELETE (some dialects allow them there).
fn is_query(query: &ast::Query) -> bool {
    fn reads(body: &SetExpr) -> bool {
        match body {
            SetExpr::Select(select) => select.into.is_none(),
            SetExpr::Query(query) => is_query(query),
            SetExpr::SetOperation { left, right, .. } => reads(left) && reads(right),
            SetExpr::Values(_) => true,
            _ => false,
        }
    }
    let with = query.with.as_ref().is_none_or(|with| with.cte_tables.iter().all(|cte| is_query(&cte.query)));
    with && reads(&query.body)
}

fn json_at(column: &ArrayRef, row: usize) -> Json {
    if column.is_null(row) {
        return Json::Null;
    }
    let special = match column.data_type() {
        DataType::Boolean => column.as_boolean_opt().map(|column| Json::from(column.value(row))),
        DataType::Int64 => column.as_primitive_opt::<Int64Type>().map(|column| Json::from(column.value(row))),
        DataType::Float64 => column.as_primitive_opt::<Float64Type>().map(|column| Json::from(column.value(row))),
        DataType::Timestamp(..) => date_at(column, row).map(|time| Json::from(time.to_string())),
        DataType::List(_) => column.as_list_opt::<i32>().map(|column| {
            let values = column.value(row);
            (0..values.len()).map(|at| json_at(&values, at)).collect()
        }),
        _ => None,
    };
    special.unwrap_or_else(|| {
        let text = ArrayFormatter::try_new(column, &FormatOptions::default()).map(|form| form.value(row).to_string());
        let text = text.unwrap_or_default();
        match column.data_type() {
            kind if kind.is_integer() || kind.is_floating() => serde_json::from_str(&text).unwrap_or(Json::from(text)),
            _ => Json::from(text),
        }
    })
}
