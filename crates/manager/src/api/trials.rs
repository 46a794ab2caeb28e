//! Network rules on trial, with the evidence: what each would have stopped, and whether that looked honest.
//!
//! A policy layer lists rules on trial (`modules.intrusion_prevention.trial`); an agent lets what they match through and
//! records it. Everything here is asked of that: the layers' history says since when, the alerts in the lake what they
//! would have stopped, the access logs in the lake which of those requests the server answered with success. Nothing is
//! changed: a proposal is carried out by a person who takes the rule out of the list.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use sakimori_model::{Event, Timestamp, field};
use sakimori_respond::playbook::TRIAL_REASON;
use sakimori_store::control::policies::{self, Version};
use sakimori_store::query;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::Caller;
use super::events::{SearchQuery, find};
use super::extract::{Page, Query};
use super::problem::{self, Problem};

/// Rules that are looked at in one answer.
const MOST: usize = 50;
/// Versions of a layer that are looked through for the beginning of a trial.
const VERSIONS: i64 = 500;
/// Requests that are shown of a rule.
const SAMPLES: i64 = 5;
/// Days of a trial where none are asked for.
const DAYS: i64 = 14;
/// Within so many seconds an access log has the request of an alert.
const NEAR: i64 = 10;

/// What is asked.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TrialQuery {
    /// How many days a trial takes, 1 to 365; 14 where absent.
    pub days: Option<i64>,
}

/// A request that a rule would have stopped.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialSample {
    /// `@timestamp` of its alert.
    pub time: String,
    /// `sakimori.alert.id`.
    pub alert: String,
    /// Host name.
    pub host: String,
    /// Who sent it: the client, where it came through a trusted proxy.
    pub client: String,
    /// `GET /shop?q=1`; empty where it is no HTTP.
    pub request: String,
    /// Bytes around the match, printable.
    pub payload: String,
}

/// A rule on trial.
#[derive(Debug, Serialize, ToSchema)]
pub struct Trial {
    /// Number of the rule.
    pub rule: u32,
    /// Its title; empty where no bundle in force has it and it never matched.
    pub title: String,
    /// Is it in the bundle in force?
    pub known: bool,
    /// The oldest bundle whose rule matched: the first version that it was seen at work in.
    pub first_bundle: Option<u64>,
    /// Policy layers that have it on trial.
    pub layers: Vec<String>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When its trial is over.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// What it would have stopped.
    pub hits: u64,
    /// By how many clients.
    pub clients: u64,
    /// On how many hosts.
    pub hosts: u64,
    /// Hits whose request a server answered with success (200 to 399), as its access log says.
    pub answered: u64,
    /// Share of them, 0 to 1.
    pub answered_share: f64,
    /// Clients of whom no other rule said anything in that time.
    pub honest_clients: u64,
    /// `@timestamp` of the last hit.
    pub last: Option<String>,
    /// The newest ones.
    pub samples: Vec<TrialSample>,
    /// `wait`: the trial is not over. `prevent`: take it off trial. `look`: it would have stopped what looks honest.
    pub proposal: &'static str,
    /// Why.
    pub reason: String,
}

/// Rules on trial.
#[derive(Debug, Serialize, ToSchema)]
pub struct Trials {
    /// In the order of their numbers.
    pub items: Vec<Trial>,
    /// Are more on trial than are shown?
    pub more: bool,
}

/// `GET /rules/trials`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<TrialQuery>,
) -> Result<Json<Trials>, Problem> {
    let days = asked.days.unwrap_or(DAYS);
    if !(1..=365).contains(&days) {
        return Err(Problem::new(problem::REQUEST_QUERY).fault("days", "a trial takes 1 to 365 days"));
    }
    let on_trial = on_trial(&app, caller.tenant()).await?;
    let opened = app.content.get(&app).await?;
    let more = on_trial.len() > MOST;
    let mut items = Vec::new();
    for (rule, (since, layers)) in on_trial.into_iter().take(MOST) {
        let title = title(&opened.bundle.files, rule);
        let mut trial = Trial::begun(rule, title, layers, since, days);
        evidence(&app, &caller, &mut trial).await?;
        (trial.proposal, trial.reason) = proposal(&trial, app.shared.clock.now());
        items.push(trial);
    }
    Ok(Json(Trials { items, more }))
}

impl Trial {
    /// Without any evidence yet.
    fn begun(rule: u32, title: Option<String>, layers: Vec<String>, since: Timestamp, days: i64) -> Self {
        Self {
            rule,
            known: title.is_some(),
            title: title.unwrap_or_default(),
            first_bundle: None,
            layers,
            since,
            until: since.plus_secs(days * 86_400),
            hits: 0,
            clients: 0,
            hosts: 0,
            answered: 0,
            answered_share: 0.0,
            honest_clients: 0,
            last: None,
            samples: Vec::new(),
            proposal: "wait",
            reason: String::new(),
        }
    }
}

/// Rules on trial in the layers in force: since when, and in which.
async fn on_trial(app: &App, tenant: &str) -> Result<BTreeMap<u32, (Timestamp, Vec<String>)>, Problem> {
    let mut all: BTreeMap<u32, (Timestamp, Vec<String>)> = BTreeMap::new();
    for current in policies::current(app.shared.control.read(), tenant).await? {
        let rules = listed(&current.tree);
        if rules.is_empty() {
            continue;
        }
        let history = policies::history(app.shared.control.read(), tenant, &current.layer, i64::MAX, VERSIONS).await?;
        for rule in rules {
            let since = since(&history, rule).unwrap_or(current.created);
            let (earliest, layers) = all.entry(rule).or_insert_with(|| (since, Vec::new()));
            *earliest = since.min(*earliest);
            layers.push(current.layer.clone());
        }
    }
    Ok(all)
}

/// Rules that a layer puts on trial, as a list or by `add`.
fn listed(tree: &Map<String, Value>) -> BTreeSet<u32> {
    let trial = tree.get("modules").and_then(|at| at.get("intrusion_prevention")).and_then(|at| at.get("trial"));
    let list = trial.and_then(|trial| trial.as_array().or_else(|| trial.get("add").and_then(Value::as_array)));
    list.into_iter().flatten().filter_map(|one| u32::try_from(one.as_u64()?).ok()).collect()
}

/// When the newest unbroken run of versions that list a rule began. `history`: newest first.
fn since(history: &[Version], rule: u32) -> Option<Timestamp> {
    let run = history.iter().take_while(|version| listed(&version.tree).contains(&rule));
    run.last().map(|version| version.created)
}

/// What the rule's file says that it finds.
fn title(files: &sakimori_content::files::Files, rule: u32) -> Option<String> {
    let wanted = format!("sid:{rule};");
    let texts = files.iter().filter(|(path, _)| path.starts_with("network/") && path.ends_with(".rules"));
    texts.into_iter().find_map(|(_, bytes)| {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().find(|line| !line.starts_with('#') && line.contains(&wanted))?;
        let (_, message) = line.split_once("msg:\"")?;
        message.split_once('"').map(|(message, _)| message.to_owned())
    })
}

async fn evidence(app: &App, caller: &Caller, trial: &mut Trial) -> Result<(), Problem> {
    // Numbers, a time and a constant of ours: nothing that anybody wrote is in the statements.
    let hit = |of: &str| {
        format!(
            "{of}\"event.kind\" = 'alert' AND {of}\"rule.ruleset\" = 'suricata' AND {of}\"rule.id\" = '{}' AND \
             {of}\"event.reason\" = '{TRIAL_REASON}' AND {of}\"@timestamp\" >= TIMESTAMP '{}'",
            trial.rule, trial.since
        )
    };
    let counted = format!(
        "SELECT COUNT(*), COUNT(DISTINCT \"client.ip\"), COUNT(DISTINCT \"host.name\"), MIN(\"sakimori.detect.bundle\"), \
         MAX(\"@timestamp\"), MAX(\"rule.name\") FROM events WHERE {}",
        hit("")
    );
    let table = app.shared.lake.sql(caller.tenant(), &counted).await?;
    let row = table.rows.first().cloned().unwrap_or_default();
    let number = |at: usize| row.get(at).and_then(Value::as_u64);
    (trial.hits, trial.clients, trial.hosts) = (number(0).unwrap_or(0), number(1).unwrap_or(0), number(2).unwrap_or(0));
    trial.first_bundle = number(3);
    trial.last = row.get(4).and_then(Value::as_str).map(str::to_owned);
    if let Some(name) = row.get(5).and_then(Value::as_str).filter(|_| trial.title.is_empty()) {
        name.clone_into(&mut trial.title);
    }
    if trial.hits == 0 {
        return Ok(());
    }
    let answered = format!(
        "SELECT COUNT(*) FROM events AS a WHERE {} AND EXISTS (SELECT 1 FROM events AS b WHERE \
         b.\"host.name\" = a.\"host.name\" AND b.\"source.ip\" = a.\"client.ip\" AND b.\"url.original\" = a.\"url.original\" \
         AND b.\"event.kind\" <> 'alert' AND b.\"http.response.status_code\" BETWEEN 200 AND 399 \
         AND b.\"@timestamp\" BETWEEN a.\"@timestamp\" - INTERVAL '{NEAR} seconds' AND a.\"@timestamp\" + INTERVAL '{NEAR} seconds')",
        hit("a.")
    );
    let honest = format!(
        "SELECT COUNT(DISTINCT a.\"client.ip\") FROM events AS a WHERE {} AND NOT EXISTS (SELECT 1 FROM events AS b WHERE \
         b.\"source.ip\" = a.\"client.ip\" AND b.\"event.kind\" = 'alert' AND b.\"rule.id\" <> '{}')",
        hit("a."),
        trial.rule
    );
    trial.answered = one(app, caller, &answered).await?;
    trial.honest_clients = one(app, caller, &honest).await?;
    trial.answered_share = trial.answered as f64 / trial.hits as f64;
    let wanted = format!(
        "event.kind:alert and rule.ruleset:suricata and rule.id:\"{}\" and event.reason:\"{TRIAL_REASON}\"",
        trial.rule
    );
    let from = Some(trial.since.to_string());
    let search = SearchQuery { from, limit: Some(SAMPLES), ..SearchQuery::default() };
    let page: Page<TrialSample> = find(app, caller, &query::parse(&wanted)?, &search).await?;
    trial.samples = page.items;
    Ok(())
}

async fn one(app: &App, caller: &Caller, statement: &str) -> Result<u64, Problem> {
    let table = app.shared.lake.sql(caller.tenant(), statement).await?;
    Ok(table.rows.first().and_then(|row| row.first()).and_then(Value::as_u64).unwrap_or(0))
}

impl From<Event> for TrialSample {
    fn from(event: Event) -> Self {
        let text = |field| event.str(field).unwrap_or_default().to_owned();
        let payload = event.rest_at("sakimori.network.payload_printable").and_then(Value::as_str).unwrap_or_default();
        let request = format!("{} {}", text(field::HTTP_REQUEST_METHOD), text(field::URL_ORIGINAL));
        Self {
            time: event.timestamp().map(|time| time.to_string()).unwrap_or_default(),
            alert: text(field::SAKIMORI_ALERT_ID),
            host: text(field::HOST_NAME),
            client: event.ip(field::CLIENT_IP).map(|ip| ip.to_string()).unwrap_or_default(),
            request: request.trim().to_owned(),
            payload: payload.chars().take(300).collect(),
        }
    }
}

fn proposal(trial: &Trial, now: Timestamp) -> (&'static str, String) {
    let found = match trial.hits {
        0 => "it would have stopped nothing".to_owned(),
        hits => format!("it would have stopped {hits} requests of {} clients", trial.clients),
    };
    if now < trial.until {
        return ("wait", format!("its trial is over at {}; so far {found}", trial.until));
    }
    match (trial.answered, trial.hits) {
        (0, 0) => ("prevent", found),
        (0, _) => ("prevent", format!("{found}, none of which a server answered with success")),
        (answered, _) => (
            "look",
            format!(
                "{found}; {answered} of them a server answered with success, and {} of the clients did nothing else that \
                 a rule knows: look at them first",
                trial.honest_clients
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(number: i64, trial: Value) -> Version {
        let tree = json!({"modules": {"intrusion_prevention": {"trial": trial}}});
        Version {
            tenant: "default".into(),
            layer: "tenant".into(),
            number,
            tree: tree.as_object().unwrap().clone(),
            author: "user:ann".into(),
            created: Timestamp::from_secs(number),
            reason: String::new(),
        }
    }

    #[test]
    fn a_trial_began_with_the_first_version_of_the_newest_run_that_lists_the_rule() {
        let history =
            [version(5, json!([7, 8])), version(4, json!({"add": [7]})), version(3, json!([])), version(2, json!([7]))];
        assert_eq!(since(&history, 7), Some(Timestamp::from_secs(4)));
        assert_eq!(since(&history, 8), Some(Timestamp::from_secs(5)));
        assert_eq!(since(&history, 9), None);
        assert_eq!(listed(&version(1, json!([1, "x", -1, 5_000_000_000_u64])).tree), BTreeSet::from([1]));
    }

    #[test]
    fn prevention_is_proposed_after_the_trial_unless_what_it_would_stop_looks_honest() {
        let mut trial = Trial::begun(7, None, Vec::new(), Timestamp::from_secs(0), 14);
        let (before, after) = (Timestamp::from_secs(14 * 86_400 - 1), Timestamp::from_secs(14 * 86_400));
        assert_eq!(proposal(&trial, before).0, "wait");
        assert_eq!(proposal(&trial, after), ("prevent", "it would have stopped nothing".to_owned()));
        (trial.hits, trial.clients) = (9, 2);
        assert!(proposal(&trial, before).1.ends_with("so far it would have stopped 9 requests of 2 clients"));
        assert_eq!(proposal(&trial, after).0, "prevent");
        (trial.answered, trial.honest_clients) = (3, 1);
        let (proposal, reason) = proposal(&trial, after);
        assert_eq!(proposal, "look");
        assert!(reason.contains("3 of them a server answered with success, and 1 of the clients"), "{reason}");
    }

    #[test]
    fn a_title_is_that_of_the_rule_of_this_number_and_no_comment() {
        let rules = "# alert (msg:\"old\"; sid:7;)\nalert tcp any any -> any any (msg:\"Seven\"; sid:7; rev:1;)\n\
                     alert tcp any any -> any any (msg:\"Much\"; sid:77; rev:1;)\n";
        let files = [("network/a.rules".to_owned(), rules.as_bytes().to_vec())].into_iter().collect();
        assert_eq!(title(&files, 7).as_deref(), Some("Seven"));
        assert_eq!(title(&files, 77).as_deref(), Some("Much"));
        assert_eq!(title(&files, 1), None);
    }
}
