//! Rules: what is looked for, where it runs, and how often it fired.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use sakimori_model::rule::RuleInfo;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::App;
use super::access::Caller;
use super::problem::Problem;

/// Alerts by rule, all time.
const FIRED: &str = "SELECT \"rule.id\", COUNT(*), MAX(\"@timestamp\") FROM events \
                     WHERE \"event.kind\" = 'alert' GROUP BY \"rule.id\"";

/// A rule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rule)]
pub struct RuleView {
    /// Stable slug, `rule.id` of its alerts.
    pub id: String,
    /// Grows with every change of meaning.
    pub revision: u32,
    /// Title in English.
    pub title: String,
    /// Title in Japanese; empty where there is none.
    pub title_ja: String,
    /// `sigma`, …
    pub language: String,
    /// `informational` to `critical`.
    #[schema(value_type = String)]
    pub severity: sakimori_model::rule::Severity,
    /// `host`: on the agent, without the manager; `wide`: in the manager.
    #[schema(value_type = String)]
    pub scope: sakimori_model::rule::Scope,
    /// MITRE ATT&CK techniques.
    pub techniques: Vec<String>,
    /// Links.
    pub references: Vec<String>,
    /// Alerts of this tenant so far.
    pub alerts: u64,
    /// `@timestamp` of the last.
    pub last_alert: Option<String>,
}

/// The rules in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rules {
    /// The bundle that they are of.
    pub bundle: u64,
    /// In the order of their ids.
    pub items: Vec<RuleView>,
}

/// `GET /rules`
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Rules>, Problem> {
    let opened = app.content.get(&app).await?;
    let fired = app.shared.lake.sql(caller.tenant(), FIRED).await?;
    let fired: HashMap<&str, (u64, Option<&str>)> = fired
        .rows
        .iter()
        .filter_map(|row| match row.as_slice() {
            [Value::String(id), count, last] => Some((id.as_str(), (count.as_u64().unwrap_or(0), last.as_str()))),
            _ => None,
        })
        .collect();
    let view = |rule: &RuleInfo| {
        let (alerts, last) = fired.get(rule.id.as_str()).copied().unwrap_or_default();
        RuleView {
            id: rule.id.clone(),
            revision: rule.revision,
            title: rule.title.en.clone(),
            title_ja: rule.title.ja.clone(),
            language: rule.language.clone(),
            severity: rule.severity,
            scope: rule.scope,
            techniques: rule.techniques.clone(),
            references: rule.references.clone(),
            alerts,
            last_alert: last.map(str::to_owned),
        }
    };
    let mut items: Vec<RuleView> = opened.rules.iter().map(view).collect();
    items.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(Json(Rules { bundle: opened.bundle.number, items }))
}
