//! The values of a field as an expression over the lake's columns, for counting them.
//!
//! A field with a column is that column, as text; what lies in the rest because it did not fit its column is not
//! counted. Any other field is read from the rest.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, StringBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr as Logical, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};
use datafusion::prelude::ident;
use sakimori_model::{Value, field as f};
use serde_json::Value as Json;

use super::FieldRef;
use crate::lake::layout;
use crate::lake::rows::rest_event;

/// Longest value that is counted by itself, in characters; longer ones count with what they begin with.
const LONGEST: usize = 1_024;

/// The field's values as text, or as a list of texts; with `single` the first value of a list.
pub(crate) fn values_of(field: &FieldRef, single: bool) -> Logical {
    let column = match field.known() {
        // Each event has its own: the batch is what can be counted.
        Some(id) if id == f::EVENT_ID => Some(layout::BATCH),
        Some(id) if super::field::COMPUTED.contains(&id) || layout::column_of_catalog(id) => Some(id.name()),
        _ => None,
    };
    match (column, field.known().is_some_and(layout::is_list)) {
        (Some(column), true) if single => {
            datafusion::functions_nested::expr_fn::array_element(ident(column), datafusion::logical_expr::lit(1_i64))
        }
        (Some(column), true) => ident(column),
        (Some(column), false) => cast(ident(column), DataType::Utf8),
        (None, _) => ScalarUDF::new_from_impl(RestValue {
            field: field.clone(),
            signature: Signature::any(1, Volatility::Immutable),
        })
        .call(vec![ident(layout::REST)]),
    }
}

/// The first value of a field in the rest, as text.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RestValue {
    field: FieldRef,
    signature: Signature,
}

impl ScalarUDFImpl for RestValue {
    fn name(&self) -> &'static str {
        "sakimori_value"
    }

    fn display_name(&self, _: &[Logical]) -> Result<String> {
        Ok(format!("[value of {}]", self.field.name()))
    }

    fn schema_name(&self, _: &[Logical]) -> Result<String> {
        Ok(format!("[value of {}]", self.field.name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut out = StringBuilder::new();
        for rest in args.args {
            let rest = super::plan::text_column(&rest.into_array(rows)?)?;
            for text in rest.as_string::<i32>() {
                out.append_option(text.and_then(|text| self.first(text)));
            }
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

impl RestValue {
    fn first(&self, rest: &str) -> Option<String> {
        let event = rest_event(rest);
        let value = match self.field.known().and_then(|known| event.get(known)) {
            Some(value) => return text(&value.each().first()?.to_json()),
            None => match self.field.above().and_then(|(above, path)| Some((event.get(above)?, path))) {
                Some((Value::Json(json), path)) => super::matches::below(json, path)?.clone(),
                _ => event.rest_at(self.field.name())?.clone(),
            },
        };
        text(value.as_array().and_then(|list| list.first()).unwrap_or(&value))
    }
}

fn text(json: &Json) -> Option<String> {
    let text = match json {
        Json::Null | Json::Object(_) | Json::Array(_) => return None,
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some(match text.char_indices().nth(LONGEST) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
        None => text,
    })
}
