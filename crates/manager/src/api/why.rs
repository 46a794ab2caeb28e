//! Why an alert was raised: its rule as it is written, what the rule counts, and for each event behind it which tests
//! matched which part of which value.
//!
//! A Sigma rule is evaluated once more over the events that the alert names, as they are kept in the lake, so that what
//! is told is what the rule says now; where another bundle judged then, that is said. Of network rules and malware the
//! packets and files are gone: what the alert keeps of them is shown, and what is not kept is said.

use axum::Json;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sakimori_content::Files;
use sakimori_detect::why::{self, Asked, Judged};
use sakimori_model::{Event, Timestamp, field};
use sakimori_network::explain;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::App;
use super::access::Caller;
use super::problem::Problem;
use super::{alerts, event};

/// Why an alert was raised.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Why {
    /// `sakimori.alert.id`.
    pub alert: String,
    /// `sigma`, `suricata`, `yara`, `hash`, or empty where no rule of a bundle is behind it.
    pub language: String,
    /// The rule.
    pub rule: WhyRule,
    /// What the rule counts, where it counts others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counting: Option<WhyCounting>,
    /// The events behind it that are kept, oldest first, with what the rule says of each.
    pub events: Vec<WhyEvent>,
    /// Contents of a network rule, in order.
    pub contents: Vec<WhyContent>,
    /// What of it the alert keeps: texts by name, for `contents`.
    pub kept: Vec<WhyKept>,
    /// What cannot be shown, and why.
    pub missing: Vec<String>,
}

/// The rule.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct WhyRule {
    /// `rule.id`.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its title in Japanese; empty where there is none.
    pub title_ja: String,
    /// The version that raised the alert.
    pub version: String,
    /// Version of the rule in force; empty where it has it not.
    pub version_now: String,
    /// The bundle that judged.
    pub bundle: Option<i64>,
    /// The bundle in force.
    pub bundle_now: u64,
    /// Its file in the bundle in force; empty where it has it not.
    pub file: String,
    /// Line of the file at which it begins.
    pub line: usize,
    /// The rule as it is written.
    pub text: String,
}

/// What a rule counts.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyCounting {
    /// `event_count`, `value_count`, `temporal`, …
    pub kind: String,
    /// The rules whose events are counted.
    pub rules: Vec<String>,
    /// Fields that make a group.
    pub group_by: Vec<String>,
    /// Within so many seconds.
    pub seconds: u64,
    /// The group that it was: `source.ip=203.0.113.7`.
    pub group: String,
    /// How many there were.
    pub count: i64,
}

/// What the rules say of one event.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyEvent {
    /// `event.id`.
    pub id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// `event.original`, else `message`.
    pub line: String,
    /// Each rule that looks at single events.
    pub judged: Vec<WhyJudged>,
}

/// What one rule says of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyJudged {
    /// The rule.
    pub rule: String,
    /// Its condition as it is written.
    pub condition: String,
    /// Does it match?
    pub matched: bool,
    /// Its tests; those that speak for the match come first.
    pub tests: Vec<WhyTest>,
}

/// One test of a rule.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyTest {
    /// The selection that it is of.
    pub selection: String,
    /// The field; absent where every text is looked through.
    pub field: Option<String>,
    /// `exact`, `contains`, `startswith`, `endswith`, `one_of`, `regex`, `cidr`, …
    pub test: String,
    /// What is asked for.
    pub pattern: Option<String>,
    /// The event's value.
    #[schema(value_type = Object)]
    pub value: Option<Value>,
    /// Did it hold?
    pub matched: bool,
    /// Does the condition want it not to hold?
    pub negated: bool,
    /// Where in which field's text.
    pub spans: Vec<WhySpan>,
}

/// A part of a value.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhySpan {
    /// The field.
    pub field: String,
    /// Which of its values, from 0.
    pub value: usize,
    /// Begins there, in UTF-16 units.
    pub from: usize,
    /// Ends before that.
    pub to: usize,
}

/// One content of a network rule.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyContent {
    /// `content` or `pcre`.
    pub keyword: &'static str,
    /// The buffer that it looks into.
    pub buffer: String,
    /// As it is written.
    pub written: String,
    /// Does the rule want it not to be there?
    pub negated: bool,
    /// In which of `kept` it lies; absent where what was kept does not hold it.
    pub place: Option<&'static str>,
    /// Begins there, in bytes.
    pub from: Option<usize>,
    /// Ends before that.
    pub to: Option<usize>,
}

/// A text that the alert keeps.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhyKept {
    /// `url.original`, `payload`, …
    pub name: &'static str,
    /// Its bytes, base64.
    pub base64: String,
    /// The same with a dot for each byte that cannot be printed.
    pub printable: String,
}

/// `GET /alerts/{id}/why`
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<Why>, Problem> {
    let alert = alerts::one(&app, &caller, &id).await?;
    let opened = app.content.get(&app).await?;
    let text = |field| alert.str(field).unwrap_or_default().to_owned();
    let mut why = Why { alert: id, language: text(field::RULE_RULESET), ..Why::default() };
    why.rule = WhyRule {
        id: text(field::RULE_ID),
        title: text(field::RULE_NAME),
        version: text(field::RULE_VERSION),
        bundle: alert.long(field::SAKIMORI_DETECT_BUNDLE),
        bundle_now: opened.bundle.number,
        ..WhyRule::default()
    };
    match why.language.as_str() {
        "sigma" => {
            let (opened, rule) = (std::sync::Arc::clone(&opened), why.rule.id.clone());
            // Rules are compiled for it.
            let asked = tokio::task::spawn_blocking(move || why::find(&opened.bundle.files, &rule));
            let asked = asked.await.map_err(|error| Problem::failed(&error))?;
            sigma(&app, &caller, &alert, asked, &mut why).await?;
        }
        "suricata" => suricata(&alert, &opened.bundle.files, &mut why),
        "yara" => yara(&alert, &opened.bundle.files, &mut why),
        "hash" => why.missing.push(format!(
            "the file's SHA-256 {} is on a list of hashes; there is nothing more to match",
            alert.str(field::FILE_HASH_SHA256).unwrap_or_default()
        )),
        _ => {
            why.language.clear();
            why.missing
                .push("no rule of a bundle raised this alert: the program itself did, and its message says why".into());
        }
    }
    if why.rule.bundle.is_some_and(|bundle| u64::try_from(bundle) != Ok(why.rule.bundle_now))
        && !why.rule.text.is_empty()
    {
        why.missing.push(
            "another bundle was in force when the alert was raised; what is shown is what the rule in force now says"
                .into(),
        );
    }
    Ok(Json(why))
}

async fn sigma(app: &App, caller: &Caller, alert: &Event, asked: Option<Asked>, why: &mut Why) -> Result<(), Problem> {
    let Some(asked) = asked else {
        why.missing.push("the bundle in force has no rule of this id".into());
        return Ok(());
    };
    why.rule.title_ja.clone_from(&asked.info.title.ja);
    why.rule.version_now = asked.info.revision.to_string();
    why.rule.file.clone_from(&asked.file);
    why.rule.line = asked.line;
    why.rule.text.clone_from(&asked.text);
    why.counting = asked.counting.as_ref().map(|counting| WhyCounting {
        kind: counting.kind.clone(),
        rules: counting.rules.clone(),
        group_by: counting.group_by.clone(),
        seconds: counting.seconds,
        group: alert.str(field::SAKIMORI_ALERT_GROUP).unwrap_or_default().to_owned(),
        count: alert.long(field::SAKIMORI_ALERT_COUNT).unwrap_or_default(),
    });
    let named = alert.get(field::SAKIMORI_ALERT_EVENTS).map_or(0, |ids| ids.each().len());
    let hits = event::causing(app, caller, alert).await?;
    if hits.len() < named {
        why.missing.push(format!(
            "of {named} events behind the alert {} are shown; the others are beyond what is shown, or their retention is over",
            hits.len()
        ));
    }
    for hit in hits {
        let line = [field::EVENT_ORIGINAL, field::MESSAGE].into_iter().find_map(|field| hit.event.str(field));
        why.events.push(WhyEvent {
            id: hit.id.to_string(),
            time: hit.time,
            line: line.unwrap_or_default().to_owned(),
            judged: asked.judge(&hit.event).into_iter().map(judged).collect(),
        });
    }
    Ok(())
}

fn judged(judged: Judged) -> WhyJudged {
    let span = |span: why::Span| WhySpan { field: span.field, value: span.value, from: span.from, to: span.to };
    let test = |test: why::Test| WhyTest {
        selection: test.selection,
        field: test.field,
        test: test.test,
        pattern: test.pattern,
        value: test.value,
        matched: test.matched,
        negated: test.negated,
        spans: test.spans.into_iter().map(span).collect(),
    };
    WhyJudged {
        rule: judged.rule,
        condition: judged.condition,
        matched: judged.matched,
        tests: judged.tests.into_iter().map(test).collect(),
    }
}

/// Files below a folder that end so, as text.
fn texts<'a>(files: &'a Files, folder: &'a str, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let those = files.iter().filter(move |(path, _)| path.starts_with(folder) && path.ends_with(end));
    those.filter_map(|(path, bytes)| Some((path.as_str(), std::str::from_utf8(bytes).ok()?)))
}

fn suricata(alert: &Event, files: &Files, why: &mut Why) {
    let kept = kept(alert);
    let parts: Vec<(&'static str, &[u8])> = kept.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let rule = why.rule.id.parse().ok().and_then(|sid| {
        texts(files, "network/", ".rules").find_map(|(path, text)| Some((path, explain::find(text, sid)?)))
    });
    match rule {
        Some((path, rule)) => {
            path.clone_into(&mut why.rule.file);
            why.rule.line = rule.line;
            let found = explain::contents(&rule.text, &parts);
            why.rule.text = rule.text;
            why.contents = found.into_iter().map(content).collect();
        }
        None => why.missing.push("the bundle in force has no network rule of this number".into()),
    }
    why.missing.push(
        "the packets were judged as they came and are not judged again; of them the alert keeps the bytes around the match \
         and the request's head"
            .into(),
    );
    why.kept = kept
        .iter()
        .map(|(name, bytes)| WhyKept { name, base64: STANDARD.encode(bytes), printable: printable(bytes) })
        .collect();
}

fn content(content: explain::Content) -> WhyContent {
    let (place, from, to) = content.found.map_or((None, None, None), |at| (Some(at.place), Some(at.from), Some(at.to)));
    let explain::Content { keyword, buffer, written, negated, .. } = content;
    WhyContent { keyword, buffer, written, negated, place, from, to }
}

fn kept(alert: &Event) -> Vec<(&'static str, Vec<u8>)> {
    let fields = [
        ("http.request.method", field::HTTP_REQUEST_METHOD),
        ("url.domain", field::URL_DOMAIN),
        ("url.original", field::URL_ORIGINAL),
        ("user_agent.original", field::USER_AGENT_ORIGINAL),
    ];
    let mut kept: Vec<(&'static str, Vec<u8>)> =
        fields.into_iter().filter_map(|(name, field)| Some((name, alert.str(field)?.as_bytes().to_vec()))).collect();
    let payload = alert.rest_at("sakimori.network.payload").and_then(Value::as_str);
    kept.extend(payload.and_then(|text| STANDARD.decode(text).ok()).map(|bytes| ("payload", bytes)));
    kept
}

fn printable(bytes: &[u8]) -> String {
    let shown = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
    bytes.iter().map(shown).collect()
}

fn yara(alert: &Event, files: &Files, why: &mut Why) {
    let id = why.rule.id.clone();
    let found = texts(files, "malware/", ".yar").find_map(|(path, text)| {
        let (line, rule) = yara_rule(text, &id)?;
        Some((path, line, rule))
    });
    match found {
        Some((path, line, rule)) => {
            path.clone_into(&mut why.rule.file);
            why.rule.line = line;
            rule.clone_into(&mut why.rule.text);
        }
        None => why.missing.push("the bundle in force has no YARA rule of this name".into()),
    }
    why.missing.push(format!(
        "which of the rule's strings matched, and where, is not kept; the file {} has the SHA-256 {}",
        alert.str(field::FILE_PATH).unwrap_or_default(),
        alert.str(field::FILE_HASH_SHA256).unwrap_or_default()
    ));
}

/// A rule of a file by its name, with the line at which it begins.
fn yara_rule<'a>(text: &'a str, name: &str) -> Option<(usize, &'a str)> {
    let is = |line: &str| {
        let words = line.split([' ', '\t', ':', '{', '\r', '\n']);
        let mut words = words.filter(|word| !matches!(*word, "" | "private" | "global"));
        words.next() == Some("rule") && words.next() == Some(name)
    };
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is(line) {
            let left = text.get(offset..)?;
            let end = left.find("\n}").map_or(left.len(), |at| at + 2);
            return Some((number + 1, left.get(..end)?));
        }
        offset += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yara_rule_is_cut_out_of_its_file() {
        let text = "// rule b\nrule a {\n condition: true\n}\nprivate rule b : tag\n{\n condition: false\n}\n";
        assert_eq!(yara_rule(text, "a"), Some((2, "rule a {\n condition: true\n}")));
        assert_eq!(yara_rule(text, "b").map(|found| found.0), Some(5));
        assert_eq!(yara_rule(text, "c"), None);
    }
}
