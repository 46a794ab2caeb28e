//! Templates: the words of messages in each language, as data (`content/notify/<language>/message.txt`).
//!
//! A template is rendered once for each part of a message (`part`: `title`, `head`, `alert`, `more`), with the facts of the
//! message, and gives lines with marks ([`super::doc`]). One of the user's content folder stands in place of the built-in
//! one; where it does not load, that is said with file and line, and the built-in one is used. What a template may cost is
//! bounded.
//!
//! Jinja's language by minijinja, and not Fluent, in which the API's short texts are written: a message has lists and
//! conditions, which Fluent does not know, and people who write templates know this one.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;

use chrono_tz::Tz;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value, context};
use sakimori_content::files::{self, Files};
use sakimori_model::Timestamp;
use sakimori_respond::message::line;
use serde_json::json;

use super::doc::{Doc, Line, chars};
use crate::config::Language;

/// Longest line of a message, in characters; what a template makes longer is cut.
const LONGEST_LINE: usize = 2_400;
/// Most lines of one part.
const MOST_LINES: usize = 200;
/// Longest title, in characters.
const LONGEST_TITLE: usize = 140;
/// What rendering one part may cost, in instructions of the template.
const FUEL: u64 = 100_000;
/// Largest template, in bytes.
const LARGEST: usize = 64 << 10;

/// Templates of all languages.
pub struct Templates {
    by_language: BTreeMap<Language, Arc<Pair>>,
    console: Option<String>,
    problems: Vec<String>,
}

/// The template in force, and the built-in one where that is another.
struct Pair {
    ours: String,
    theirs: Option<String>,
    path: String,
}

/// The words of one channel: a language and a zone.
#[derive(Clone)]
pub struct Words {
    language: Language,
    zone: Tz,
    pair: Arc<Pair>,
    console: Option<String>,
}

/// The zone of this name.
///
/// # Errors
/// There is none.
pub fn zone(name: &str) -> Result<Tz, String> {
    Tz::from_str(name).map_err(|_| format!("zone {name:?} is none; expected one like Asia/Tokyo or UTC"))
}

impl Templates {
    /// Loads the templates of this content. `console` is the address of pages that people open, where there is one.
    pub fn load(content: &Files, console: Option<&str>) -> Self {
        let builtin = files::builtin();
        let (mut by_language, mut problems) = (BTreeMap::new(), Vec::new());
        for language in Language::ALL {
            let path = format!("notify/{}/message.txt", language.name());
            let read = |files: &Files| files.get(&path).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let ours = read(&builtin).unwrap_or_default();
            let theirs = read(content).filter(|text| *text != ours);
            let theirs = theirs.filter(|text| match check(*language, text) {
                Ok(()) => true,
                Err(problem) => {
                    problems.push(format!("{path}:{problem}; the built-in one is used"));
                    false
                }
            });
            by_language.insert(*language, Arc::new(Pair { ours, theirs, path }));
        }
        let console = console.map(|url| url.trim_end_matches('/').to_owned());
        Self { by_language, console, problems }
    }

    /// What did not load, with file and line.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The words of a channel.
    ///
    /// # Errors
    /// There is no such zone or language.
    pub fn words(&self, language: Language, zone_name: &str) -> Result<Words, String> {
        let pair = self.by_language.get(&language).ok_or("there is no such language")?;
        Ok(Words { language, zone: zone(zone_name)?, pair: Arc::clone(pair), console: self.console.clone() })
    }
}

impl Words {
    /// The words of a message with these facts.
    pub fn of(&self, facts: &serde_json::Value) -> Doc {
        if let Some(theirs) = &self.pair.theirs {
            match doc(theirs, facts, self.zone, self.console.as_deref()) {
                Ok(doc) => return doc,
                Err(problem) => tracing::warn!("{}:{problem}; the built-in one is used", self.pair.path),
            }
        }
        doc(&self.pair.ours, facts, self.zone, self.console.as_deref()).unwrap_or_else(|problem| {
            // The built-in ones are rendered by tests; a message is never lost to its words.
            tracing::warn!("{}:{problem}", self.pair.path);
            let summary = facts.get("summary").and_then(|text| text.as_str()).unwrap_or("a message of Sakimori");
            Doc { title: line(summary), head: vec![Line::Text(line(summary))], ..Doc::default() }
        })
    }

    /// Slug of the language.
    pub fn language(&self) -> &'static str {
        self.language.name()
    }
}

/// Renders a template with facts that have everything, and with some that have nothing.
///
/// # Errors
/// The line, and what is wrong there.
pub fn check(language: Language, text: &str) -> Result<(), String> {
    if text.len() > LARGEST {
        return Err(format!("1: a template has at most {LARGEST} bytes"));
    }
    let zone = if language == Language::Ja { Tz::Asia__Tokyo } else { Tz::UTC };
    for facts in [full(), json!({"summary": "s", "count": 0, "alerts": []})] {
        let doc = doc(text, &facts, zone, Some("https://console.example"))?;
        if doc.title.is_empty() {
            return Err("1: the part `title` is empty".to_owned());
        }
    }
    Ok(())
}

/// Facts with everything that a message may have.
pub fn full() -> serde_json::Value {
    let time = "2026-01-02T03:04:05Z";
    let action = |state: &str, undo: Option<&str>| {
        json!({
            "id": "0198c0de", "action": "block_address", "title": "Block an address", "title_ja": "アドレスを遮断",
            "target": "192.0.2.7", "place": "web1", "state": state, "reason": "because", "until": time,
            "undo": undo, "undoable": undo.is_some(),
        })
    };
    let alert = json!({
        "id": "a1", "time": time, "rule": { "id": "ssh-brute-force", "title": "SSH brute force" }, "severity": 75,
        "severity_name": "high", "source": "192.0.2.7", "user": "root", "host": "web1", "count": 12, "detail": "detail",
        "text": "Look at it.", "more_actions": 3,
        "actions": [action("done", Some("sakimori actions undo 0198c0de")), action("failed", None)],
    });
    json!({
        "form": 1, "id": "m1", "time": time, "summary": "SSH brute force and 1 more", "count": 2, "severity": 75,
        "severity_name": "high", "kind": "alert", "alerts": [alert, alert],
        "ask": {
            "question_en": "Isolate web1?", "question_ja": "web1 を隔離しますか?", "url": "https://s.example/answer/e30.x",
            "allow_command": "sakimori playbook approve e --step '1'", "deny_command": "sakimori playbook deny e --step '1'",
            "until": time, "otherwise": "deny",
        },
    })
}

fn doc(text: &str, facts: &serde_json::Value, zone: Tz, console: Option<&str>) -> Result<Doc, String> {
    let env = environment(zone);
    let template = env.template_from_str(text).map_err(|error| problem(&error))?;
    let render = |part: &str, alert: Option<&serde_json::Value>, more: usize| -> Result<String, String> {
        let context = context! {
            part => part,
            alert => alert.map(|alert| Value::from(Serde(alert))),
            more => more,
            console => console,
            ..Value::from(Serde(facts))
        };
        template.render(context).map_err(|error| problem(&error))
    };
    let lines = |text: String| -> Vec<Line> {
        let cut = text.lines().map(|line| chars(line, LONGEST_LINE)).take(MOST_LINES).collect::<Vec<_>>();
        Line::all(&cut.join("\n"))
    };
    let title = render("title", None, 0)?;
    let title = chars(&line(&title.split_whitespace().collect::<Vec<_>>().join(" ")), LONGEST_TITLE);
    let head = lines(render("head", None, 0)?);
    let told = facts.get("alerts").and_then(|list| list.as_array()).map(Vec::as_slice).unwrap_or_default();
    let alerts = told.iter().map(|one| render("alert", Some(one), 0).map(lines)).collect::<Result<Vec<_>, _>>()?;
    let count = facts.get("count").and_then(serde_json::Value::as_u64).unwrap_or_default();
    let count = usize::try_from(count).unwrap_or(usize::MAX).max(told.len());
    let more = (0..=told.len())
        .map(|shown| match count - shown {
            0 => Ok(String::new()),
            left => render("more", None, left).map(|text| text.trim().to_owned()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Doc { title, head, alerts, more })
}

fn environment(zone: Tz) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(50);
    // What is absent shows nothing.
    env.set_formatter(|out, _, value| match value.is_none() || value.is_undefined() {
        true => Ok(()),
        // A value is never more than one line; what a receiver would read in it, the receiver's form escapes.
        false => write!(out, "{}", line_of(value)).map_err(|_| ErrorKind::WriteFailure.into()),
    });
    env.add_filter("time", move |text: Option<String>| text.map(|text| time(&text, zone)));
    env
}

fn line_of(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.chars().map(|c| if c == '\n' || c == '\r' { ' ' } else { c }).collect(),
        None => value.to_string().replace(['\n', '\r'], " "),
    }
}

/// RFC 3339 as a person of the zone reads it.
fn time(text: &str, zone: Tz) -> String {
    match Timestamp::parse(text) {
        Some(at) => at.to_chrono().with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z").to_string(),
        None => text.to_owned(),
    }
}

fn problem(error: &minijinja::Error) -> String {
    let detail =
        error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    format!("{}: {detail}", error.line().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(language: Language, zone: &str) -> Words {
        let templates = Templates::load(&files::builtin(), Some("https://console.example/"));
        assert_eq!(templates.problems(), [] as [String; 0]);
        templates.words(language, zone).unwrap()
    }

    fn text(language: Language, zone: &str, facts: &serde_json::Value) -> (String, String) {
        let doc = words(language, zone).of(facts);
        (doc.title.clone(), doc.plain(100_000))
    }

    #[test]
    fn from_the_message_alone_a_person_knows_what_happened_what_was_done_and_how_to_undo_it() {
        let (title, said) = text(Language::En, "UTC", &full());
        assert_eq!(title, "Answer needed: [high] SSH brute force and 1 more");
        for needed in [
            "SSH brute force",
            "high",
            "web1",
            "192.0.2.7",
            "root",
            "12",
            "2026-01-02 03:04:05 UTC",
            "Look at it.",
            "Block an address",
            "in effect until 2026-01-02 03:04:05 UTC",
            "sakimori actions undo 0198c0de",
            "failed",
            "because",
            "3 more",
            "Isolate web1?",
            "https://s.example/answer/e30.x",
            "playbook deny e --step",
            "not done",
            "https://console.example/api/v1/alerts/a1",
        ] {
            assert!(said.contains(needed), "{needed}: {said}");
        }
        let (title, said) = text(Language::Ja, "Asia/Tokyo", &full());
        assert!(title.contains("回答が必要") && title.contains("高"), "{title}");
        for needed in [
            "SSH brute force",
            "web1",
            "192.0.2.7",
            "root",
            "12",
            "2026-01-02 12:04:05 JST",
            "アドレスを遮断",
            "実施中",
            "sakimori actions undo 0198c0de",
            "失敗",
            "ほか 3 件",
            "web1 を隔離しますか?",
            "実行されません",
            "https://console.example/api/v1/alerts/a1",
        ] {
            assert!(said.contains(needed), "{needed}: {said}");
        }
        let mut allowed = full();
        allowed["ask"]["otherwise"] = "allow".into();
        assert!(text(Language::En, "UTC", &allowed).1.contains("it is done"));
        assert!(text(Language::Ja, "UTC", &allowed).1.contains("実行されます"));
    }

    #[test]
    fn what_is_absent_is_left_out_and_what_is_too_much_is_counted() {
        for language in Language::ALL {
            let mut facts = full();
            facts["alerts"][0] = json!({"rule": {"title": "t"}, "actions": []});
            facts["ask"] = serde_json::Value::Null;
            facts["count"] = 30.into();
            let doc = words(*language, "UTC").of(&facts);
            let said = doc.plain(100_000);
            assert!(!said.contains("none") && !said.contains("undefined") && !said.contains(": \n"), "{said}");
            assert!(said.contains("28") && doc.more[0].contains("30"), "{said}");
            for kind in ["test", "close"] {
                facts["kind"] = kind.into();
                assert_ne!(words(*language, "UTC").of(&facts).title, doc.title);
            }
        }
    }

    #[test]
    fn a_template_of_the_users_is_used_and_one_that_does_not_load_is_told_with_its_line() {
        let load = |text: &str| {
            let mut content = files::builtin();
            content.insert("notify/en/message.txt".into(), text.as_bytes().to_vec());
            Templates::load(&content, None)
        };
        let own = load(
            "{% if part == 'title' %}Ours: {{ summary }}{% elif part == 'alert' %}- Host: {{ alert.host }}{% endif %}",
        );
        assert_eq!(own.problems().len(), 0);
        let doc = own.words(Language::En, "UTC").unwrap().of(&full());
        assert_eq!((doc.title.as_str(), doc.alerts[0].len()), ("Ours: SSH brute force and 1 more", 1));
        for (text, said) in [
            ("a\n{% if %}", "notify/en/message.txt:2: "),
            ("a\n\n{{ summary | nothing }}", "notify/en/message.txt:3: "),
            (
                "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
                "notify/en/message.txt:1: ",
            ),
            ("{% if part == 'head' %}x{% endif %}", "notify/en/message.txt:1: the part `title`"),
            (&"x".repeat(LARGEST + 1), "notify/en/message.txt:1: a template has"),
        ] {
            let templates = load(text);
            let [problem] = templates.problems() else { panic!("{:?}", templates.problems()) };
            assert!(problem.starts_with(said) && problem.ends_with("the built-in one is used"), "{problem}");
            let doc = templates.words(Language::En, "UTC").unwrap().of(&full());
            assert!(doc.title.starts_with("Answer needed"), "{}", doc.title);
        }
        assert!(own.words(Language::En, "Mars/Olympus").is_err_and(|error| error.contains("Asia/Tokyo")));
    }

    #[test]
    fn a_value_is_one_line_and_never_a_mark() {
        let mut facts = full();
        facts["alerts"][0]["user"] = "x\n$ rm -rf /\n@ a: https://evil.example".into();
        let doc = words(Language::En, "UTC").of(&facts);
        assert!(!doc.alerts[0].contains(&Line::Command("rm -rf /".into())), "{:?}", doc.alerts[0]);
        assert!(!doc.alerts[0].iter().any(|line| matches!(line, Line::Link(_, url) if url.contains("evil"))));
    }
}
