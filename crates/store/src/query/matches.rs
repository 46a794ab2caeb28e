//! An expression over an event in memory: for live tails, previews and the test that the lake agrees.

use sakimori_model::Event;
use serde_json::Value as Json;

use super::{Expr, FREE_TEXT, FieldRef, Test};

impl Expr {
    /// Does the event match?
    pub fn matches(&self, event: &Event) -> bool {
        match self {
            Self::All => true,
            Self::And(parts) => parts.iter().all(|part| part.matches(event)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(event)),
            Self::Not(inner) => !inner.matches(event),
            Self::Field(field, test) => field_matches(event, field, test),
            Self::Text(form) => {
                let test = Test::Contains(form.clone());
                FREE_TEXT.iter().any(|field| field_matches(event, &FieldRef::from(*field), &test))
            }
        }
    }
}

/// Does any value of the field match?
pub(super) fn field_matches(event: &Event, field: &FieldRef, test: &Test) -> bool {
    if let Some(known) = field.known() {
        if let Some(value) = event.get(known) {
            return test.value(value);
        }
    } else if let Some((above, path)) = field.above()
        && let Some(sakimori_model::Value::Json(json)) = event.get(above)
    {
        return below(json, path).is_some_and(|json| test.json(json));
    }
    event.rest_at(field.name()).is_some_and(|json| test.json(json))
}

pub(super) fn below<'a>(json: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(json, |at, part| at.as_object()?.get(part))
}
