//! Rules: what is looked for, in which language, whether it is on, and how often it fired lately.
//!
//! The list is over all languages ([`crate::rules`]). How often each fired is asked of the lake at most every half minute a
//! tenant, however often the page is looked at.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use sakimori_model::policy::{IntrusionPrevention, Mode, RuleMode, Switch};
use sakimori_model::{Timestamp, rule::Scope};
use sakimori_store::control::policies;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::Caller;
use super::bundles::Opened;
use super::extract::{Query, cursor, limit, place};
use super::problem::{self, Problem};
use crate::notices;
use crate::rules::{self as catalog, Language, Listed};

/// How long counts of a tenant are good, in seconds.
const FRESH: i64 = 30;
/// Tenants whose counts are kept.
const MOST_KEPT: usize = 256;

/// Which rules.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct RuleQuery {
    /// Text in the id, title, group, or file; case does not matter.
    pub q: Option<String>,
    /// `sigma`, `correlation`, `suricata`, `yara` or `hash`.
    pub language: Option<String>,
    /// `informational` to `critical`.
    pub severity: Option<String>,
    /// `on`, `off`, `detect`, `prevent` or `trial`.
    pub state: Option<String>,
    /// An ATT&CK technique or a CVE number.
    pub tag: Option<String>,
    /// Those that fired in the last 30 days.
    #[serde(default)]
    pub fired: bool,
    /// `id` (where absent) or `hits`: those of the last 7 days, most first.
    pub sort: Option<String>,
    /// Most rows, 1 to 1000; 100 where absent.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// How often a rule fired, without what exceptions held back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Hits {
    /// In the last 24 hours.
    pub day: u64,
    /// In the last 7 days.
    pub week: u64,
    /// In the last 30 days.
    pub month: u64,
    /// Held back by exceptions in the last 30 days.
    pub suppressed: u64,
    /// `@timestamp` of the last.
    pub last: Option<String>,
}

/// A rule.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Rule)]
pub struct RuleView {
    /// `rule.id` of its alerts.
    pub id: String,
    /// Grows with every change of meaning.
    pub revision: u32,
    /// Title in English.
    pub title: String,
    /// Title in Japanese; empty where there is none.
    pub title_ja: String,
    /// `sigma`, `correlation`, `suricata`, `yara` or `hash`.
    pub language: &'static str,
    /// `informational` to `critical`.
    #[schema(value_type = String)]
    pub severity: sakimori_model::rule::Severity,
    /// `host`: on the agent, without the manager; `wide`: in the manager.
    #[schema(value_type = String)]
    pub scope: Scope,
    /// MITRE ATT&CK techniques.
    pub techniques: Vec<String>,
    /// CVE numbers.
    pub cves: Vec<String>,
    /// Links.
    pub references: Vec<String>,
    /// `built-in`, or `own` where the bundle's text is none of this release's.
    pub source: &'static str,
    /// Its file in the bundle.
    pub file: String,
    /// The line where it begins.
    pub line: usize,
    /// Of a network rule, its group for policy; empty else.
    pub group: String,
    /// What it does for the tenant as a whole: `on` or `off`; of network rules `detect` or `prevent`, or `trial`; single hosts
    /// and groups may differ.
    pub state: &'static str,
    /// The policy layer that says so; `default` where none does, empty where it cannot be switched.
    pub state_by: String,
    /// Can it be switched by policy? So far network rules can, one by one; others are on where their module is.
    pub switchable: bool,
    /// Layers that say something else of this rule alone.
    pub differs_in: Vec<String>,
    /// Is it on trial in some layer?
    pub on_trial: bool,
    /// Has it tests that can be run?
    pub tested: bool,
    /// Sums of a hash list.
    pub sums: usize,
    /// How often it fired.
    pub hits: Hits,
}

/// Rules of the bundle in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rules {
    /// The bundle that they are of.
    pub bundle: u64,
    /// Rules that the filter leaves.
    pub total: usize,
    /// A page of them.
    pub items: Vec<RuleView>,
    /// Cursor of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A rule with its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct RuleDetail {
    /// The rule.
    pub rule: RuleView,
    /// Its text.
    pub text: String,
    /// Whole file that it stands in; of network and malware rules several stand in one.
    pub file_text: String,
    /// File of its tests; empty where there is none.
    pub tests_file: String,
    /// Their text.
    pub tests: String,
}

/// Counts of tenants, each with its moment.
#[derive(Clone, Default)]
pub struct Counts(Arc<Mutex<HashMap<String, (Timestamp, Arc<HashMap<String, Hits>>)>>>);

impl Counts {
    async fn get(&self, app: &App, tenant: &str) -> Result<Arc<HashMap<String, Hits>>, Problem> {
        let now = app.shared.clock.now();
        let fresh = |at: Timestamp| (0..FRESH * 1_000_000).contains(&now.since(at));
        if let Some((at, counts)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant)
            && fresh(*at)
        {
            return Ok(Arc::clone(counts));
        }
        let counts = Arc::new(count(app, tenant, now).await?);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(tenant.to_owned(), (now, Arc::clone(&counts)));
        Ok(counts)
    }
}

async fn count(app: &App, tenant: &str, now: Timestamp) -> Result<HashMap<String, Hits>, Problem> {
    let since = |days: i64| now.plus_secs(-days * 86_400);
    let within = |days: i64| {
        format!(
            "SUM(CASE WHEN \"sakimori.alert.exception\" IS NULL AND \"@timestamp\" >= TIMESTAMP '{}' THEN 1 ELSE 0 END)",
            since(days)
        )
    };
    // Times of ours: nothing that anybody wrote is in the statement.
    let statement = format!(
        "SELECT \"rule.id\", {}, {}, {}, SUM(CASE WHEN \"sakimori.alert.exception\" IS NULL THEN 0 ELSE 1 END), \
         MAX(\"@timestamp\") FROM events WHERE \"event.kind\" = 'alert' AND \"rule.id\" IS NOT NULL \
         AND \"@timestamp\" >= TIMESTAMP '{}' GROUP BY \"rule.id\"",
        within(1),
        within(7),
        within(30),
        since(30)
    );
    let table = app.shared.lake.sql(tenant, &statement).await?;
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(0);
    let row = |row: &Vec<Value>| {
        let id = row.first()?.as_str()?.to_owned();
        let last = row.get(5).and_then(Value::as_str).map(str::to_owned);
        let [day, week, month, suppressed] = [1, 2, 3, 4].map(|at| number(row.get(at)));
        Some((id, Hits { day, week, month, suppressed, last }))
    };
    Ok(table.rows.iter().filter_map(row).collect())
}

/// What policy says of network rules, for the tenant as a whole and in each layer.
struct Said {
    effective: IntrusionPrevention,
    origin: BTreeMap<String, Vec<String>>,
    antimalware: Switch,
    logs: Switch,
    layers: Vec<(String, Vec<u64>, Vec<u64>)>,
}

async fn said(app: &App, tenant: &str) -> Result<Said, Problem> {
    let effective = crate::policy::of_tenant(&app.shared, tenant).await;
    let (_, effective) = effective.map_err(|reason| Problem::new(problem::POLICY_INVALID).detail(reason))?;
    let current = policies::current(app.shared.control.read(), tenant).await?;
    let numbers = |tree: &Map<String, Value>, name: &str, part: Option<&str>| -> Vec<u64> {
        let setting = tree.get("modules").and_then(|at| at.get("intrusion_prevention")).and_then(|at| at.get(name));
        let list = setting.and_then(|list| list.as_array().or_else(|| list.get("add").and_then(Value::as_array)));
        let number = |one: &Value| part.map_or(Some(one), |part| one.get(part)).and_then(Value::as_u64);
        list.into_iter().flatten().filter_map(number).collect()
    };
    let layers = current.iter().map(|version| {
        let of = |name, part| numbers(&version.tree, name, part);
        (version.layer.clone(), of("overrides", Some("rule")), of("trial", None))
    });
    let modules = effective.policy.modules;
    Ok(Said {
        effective: modules.intrusion_prevention,
        origin: effective.origin,
        antimalware: modules.antimalware.state,
        logs: modules.log_inspection.state,
        layers: layers.collect(),
    })
}

impl Said {
    /// State of a rule for the tenant as a whole, and the layer that says so.
    fn of(&self, rule: &Listed) -> (&'static str, String) {
        let by = |path: &str| self.origin.get(path).and_then(|layers| layers.last()).cloned().unwrap_or_default();
        let switch = |state: Switch, module: &str| match state {
            Switch::On => ("on", by(&format!("modules.{module}.state"))),
            Switch::Off => ("off", by(&format!("modules.{module}.state"))),
        };
        match (rule.language, rule.info.scope) {
            (Language::Suricata, _) => {}
            (Language::Yara | Language::Hash, _) => return switch(self.antimalware, "antimalware"),
            (_, Scope::Host) => return switch(self.logs, "log_inspection"),
            (_, Scope::Wide) => return ("on", String::new()),
        }
        let ips = "intrusion_prevention";
        if self.effective.state == Switch::Off {
            return switch(Switch::Off, ips);
        }
        let sid: u32 = rule.info.id.parse().unwrap_or(0);
        if self.effective.trial.contains(&sid) {
            return ("trial", by(&format!("modules.{ips}.trial")));
        }
        match (self.effective.mode_of(sid, &rule.group), self.effective.mode) {
            (Some(RuleMode::Off), _) => ("off", by(&format!("modules.{ips}.overrides"))),
            (Some(RuleMode::Detect), _) => ("detect", by(&format!("modules.{ips}.overrides"))),
            (Some(RuleMode::Prevent), _) => ("prevent", by(&format!("modules.{ips}.overrides"))),
            (None, Mode::Prevent) if rule.action == "drop" || rule.action == "reject" => {
                ("prevent", by(&format!("modules.{ips}.mode")))
            }
            (None, _) => ("detect", by(&format!("modules.{ips}.mode"))),
        }
    }

    /// Layers that name a rule among what this picks.
    fn naming(&self, rule: &Listed, of: impl Fn(&(String, Vec<u64>, Vec<u64>)) -> &Vec<u64>) -> Vec<String> {
        let sid = rule.info.id.parse::<u64>().ok().filter(|_| rule.language == Language::Suricata);
        let named = self.layers.iter().filter(|layer| sid.is_some_and(|sid| of(layer).contains(&sid)));
        named.map(|layer| layer.0.clone()).collect()
    }
}

fn view(rule: &Listed, opened: &Opened, said: &Said, hits: &HashMap<String, Hits>) -> RuleView {
    let (state, state_by) = said.of(rule);
    let tests = catalog::tests_file(rule).is_some_and(|file| opened.bundle.files.contains_key(&file));
    RuleView {
        id: rule.info.id.clone(),
        revision: rule.info.revision,
        title: rule.info.title.en.clone(),
        title_ja: rule.info.title.ja.clone(),
        language: rule.language.name(),
        severity: rule.info.severity,
        scope: rule.info.scope,
        techniques: rule.info.techniques.clone(),
        cves: rule.cves.clone(),
        references: rule.info.references.clone(),
        source: if opened.own.contains(&rule.file) { "own" } else { "built-in" },
        file: rule.file.clone(),
        line: rule.line,
        group: rule.group.clone(),
        state,
        state_by,
        switchable: rule.language == Language::Suricata,
        differs_in: said.naming(rule, |layer| &layer.1),
        on_trial: !said.naming(rule, |layer| &layer.2).is_empty(),
        tested: tests,
        sums: rule.sums,
        hits: hits.get(&rule.info.id).cloned().unwrap_or_default(),
    }
}

/// The rule of this id.
pub(super) fn one(opened: &Opened, id: &str) -> Result<Listed, Problem> {
    opened.listed.iter().find(|rule| rule.info.id == id).cloned().ok_or_else(|| Problem::new(problem::RULE_MISSING))
}

/// `GET /rules`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<RuleQuery>,
) -> Result<Json<Rules>, Problem> {
    let limit = usize::try_from(limit(query.limit)?).unwrap_or(1);
    let from: usize = place(query.cursor.as_deref())?.unwrap_or(0);
    let one_of = |place: &str, value: &Option<String>, known: &[&str]| match value {
        Some(value) if !known.contains(&value.as_str()) => {
            Err(Problem::new(problem::REQUEST_QUERY).fault(place, format!("expected one of {}", known.join(", "))))
        }
        _ => Ok(()),
    };
    one_of("language", &query.language, &Language::ALL.map(Language::name))?;
    one_of("severity", &query.severity, &["informational", "low", "medium", "high", "critical"])?;
    one_of("state", &query.state, &["on", "off", "detect", "prevent", "trial"])?;
    one_of("sort", &query.sort, &["id", "hits"])?;
    let opened = app.content.get(&app).await?;
    let said = said(&app, caller.tenant()).await?;
    let hits = app.counts.get(&app, caller.tenant()).await?;
    let text = query.q.as_deref().unwrap_or_default().to_lowercase();
    let tag = query.tag.as_deref().unwrap_or_default().to_uppercase();
    let fits = |rule: &RuleView| {
        let severity = serde_json::to_value(rule.severity).unwrap_or_default();
        let texts = [&rule.id, &rule.title, &rule.title_ja, &rule.group, &rule.file];
        query.language.as_ref().is_none_or(|language| rule.language == language)
            && query.severity.as_ref().is_none_or(|wanted| severity == **wanted)
            && query.state.as_ref().is_none_or(|state| rule.state == state)
            && (tag.is_empty() || rule.techniques.iter().chain(&rule.cves).any(|one| one.to_uppercase() == tag))
            && (!query.fired || rule.hits.month > 0)
            && (text.is_empty() || texts.iter().any(|one| one.to_lowercase().contains(&text)))
    };
    let all = opened.listed.iter().map(|rule| view(rule, &opened, &said, &hits));
    let mut items: Vec<RuleView> = all.filter(fits).collect();
    if query.sort.as_deref() == Some("hits") {
        items.sort_by(|a, b| b.hits.week.cmp(&a.hits.week).then_with(|| a.id.cmp(&b.id)));
    }
    let total = items.len();
    let items: Vec<RuleView> = items.into_iter().skip(from).take(limit).collect();
    let next = (from + items.len() < total && !items.is_empty()).then(|| cursor(&(from + items.len())));
    Ok(Json(Rules { bundle: opened.bundle.number, total, items, next }))
}

/// Titles of rules in another language than that of their alerts' `rule.name`.
#[derive(Debug, Serialize, ToSchema)]
pub struct RuleTitles {
    /// The bundle that they are of.
    pub bundle: u64,
    /// Titles in Japanese by `rule.id`, those of the platform's own alerts among them. A rule without one is absent.
    pub ja: BTreeMap<String, String>,
}

/// `GET /rules/titles`
pub async fn titles(State(app): State<App>, _caller: Caller) -> Result<Json<RuleTitles>, Problem> {
    let opened = app.content.get(&app).await?;
    let own = notices::TITLES_JA.iter().map(|(id, ja)| ((*id).to_owned(), (*ja).to_owned()));
    let rules = opened.listed.iter().filter(|rule| !rule.info.title.ja.is_empty());
    let rules = rules.map(|rule| (rule.info.id.clone(), rule.info.title.ja.clone()));
    Ok(Json(RuleTitles { bundle: opened.bundle.number, ja: own.chain(rules).collect() }))
}

/// `GET /rules/{id}`
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<RuleDetail>, Problem> {
    let opened = app.content.get(&app).await?;
    let rule = one(&opened, &id)?;
    let (said, hits) = (said(&app, caller.tenant()).await?, app.counts.get(&app, caller.tenant()).await?);
    let text = |path: &str| {
        let bytes = opened.bundle.files.get(path).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    let tests_file = catalog::tests_file(&rule).filter(|file| opened.bundle.files.contains_key(file));
    Ok(Json(RuleDetail {
        text: catalog::text(&rule, &opened.bundle.files),
        file_text: text(&rule.file),
        tests: tests_file.as_deref().map(text).unwrap_or_default(),
        tests_file: tests_file.unwrap_or_default(),
        rule: view(&rule, &opened, &said, &hits),
    }))
}
