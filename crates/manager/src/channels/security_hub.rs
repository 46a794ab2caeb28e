//! `security_hub`: each alert is a finding in AWS Security Hub (ASFF), and resolved there when it is closed here.
//!
//! A finding's id follows from tenant and alert, so that it is there once however often it is told. An alert that came from
//! Security Hub is not told to it again. A finding has at most 240 KB; its title 256, its description 1,024 characters.

use sakimori_cloud::aws::security_hub::{
    Finding, Hub, MOST_DESCRIPTION, MOST_FIELD, MOST_NOTE, MOST_TITLE, PERMISSIONS,
};
use sakimori_model::Timestamp;
use sakimori_respond::actions::Safety;
use sakimori_respond::ports::{BoxFuture, PortError};
use serde_json::Value;

use super::doc::chars;
use super::{Failure, Findings, Key, Kind, Letter, Need, Receipt, Receiver, Setting};

/// Beginning of what our findings call their rule: what the log source `aws/securityhub` knows them by, when they come back.
pub const GENERATOR: &str = "sakimori/";
/// Fields of the alert that go along.
const FIELDS: &[(&str, &str)] = &[
    ("sakimori/alert", "/sakimori/alert/id"),
    ("sakimori/rule", "/rule/id"),
    ("sakimori/host", "/host/name"),
    ("sakimori/source_ip", "/source/ip"),
    ("sakimori/client_ip", "/client/ip"),
    ("sakimori/user", "/user/name"),
    ("sakimori/file", "/file/path"),
];

/// What it is.
pub const KIND: Kind = Kind {
    id: "security_hub",
    about: "a finding in AWS Security Hub, resolved when it is closed here",
    url: Need::Never,
    secret: Need::Never,
    settings: &[Setting::may("account", "name of the account in cloud.accounts; the only one where absent")],
    safety: Safety::Keyed,
    closes: true,
    findings: Some(Findings { source: "aws/securityhub", rights: PERMISSIONS }),
    settles: 0,
    // BatchImportFindings: 10 calls a second, 30 at once.
    rate: (30, 600),
    open: |channel, tools| {
        let hub = Hub::new(tools.account(channel)?.clone())?;
        Ok(Box::new(SecurityHub { hub }))
    },
};

struct SecurityHub {
    hub: Hub,
}

impl Receiver for SecurityHub {
    fn tell<'a>(&'a self, letter: &'a Letter<'a>, _: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let finding = finding(letter, &self.hub)?;
            match self.hub.import(&finding).await {
                Ok(()) => Ok(Receipt::called(finding.id, "imported")),
                Err(problem) => Err(failed(problem)),
            }
        })
    }

    fn close<'a>(&'a self, letter: &'a Letter<'a>, _: &'a Key) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            let said =
                [letter.fact("/comment"), "closed"].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
            let by = match letter.fact("/by") {
                "" => "sakimori",
                by => by,
            };
            match self.hub.resolve(letter.reference, &chars(said, MOST_NOTE), &chars(by, MOST_NOTE)).await {
                Ok(()) => Ok(Receipt::called(letter.reference, "resolved")),
                Err(problem) => Err(failed(problem)),
            }
        })
    }
}

/// Whatever became of a call, the next one makes the same of it.
fn failed(problem: PortError) -> Failure {
    match problem {
        PortError::Permanent { reason } => Failure::Refused(reason),
        PortError::Transient { reason, retry_after } => Failure::NotTaken { reason, retry_after },
    }
}

/// A letter as a finding.
fn finding(letter: &Letter<'_>, hub: &Hub) -> Result<Finding, Failure> {
    let test = letter.fact("/kind") == "test";
    let alert = letter.fact("/event/sakimori/alert/id");
    if alert.is_empty() && !test {
        return Err(Failure::Refused("Security Hub is told alerts, and this is none".to_owned()));
    }
    let text = |path: &str| flat(letter.fact(&format!("/event{path}")));
    let tenant = match letter.fact("/event/organization/id") {
        "" => "default",
        tenant => tenant,
    };
    let one = |all: &[String]| all.iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
    let title = one(&[text("/rule/name"), letter.fact("/summary").to_owned(), "Alert".to_owned()]);
    let about = one(&[text("/rule/description"), text("/message"), title.clone()]);
    let time = Timestamp::parse(&text("/@timestamp")).unwrap_or(letter.created);
    let instance = text("/cloud/instance/id");
    let resource = match instance.starts_with("i-") {
        true => ("AwsEc2Instance", hub.instance(&text("/cloud/account/id"), &text("/cloud/region"), &instance)),
        false => ("Other", one(&[text("/host/name"), text("/source/ip"), "sakimori".to_owned()])),
    };
    let fields = FIELDS.iter().map(|(name, path)| ((*name).to_owned(), chars(&text(path), MOST_FIELD)));
    Ok(Finding {
        // Of all tests there is one.
        id: format!("sakimori/{tenant}/{}", if test { "test" } else { alert }),
        generator: chars(&format!("{GENERATOR}{}", one(&[text("/rule/id"), "test".to_owned()])), MOST_NOTE),
        title: chars(&title, MOST_TITLE),
        description: chars(&about, MOST_DESCRIPTION),
        severity: severity(letter.facts.pointer("/severity")),
        kind: kind(letter.facts.pointer("/event/threat/tactic/name")),
        created: time,
        updated: letter.created.max(time),
        resource: (resource.0, chars(&resource.1, MOST_NOTE)),
        fields: fields.filter(|(_, value)| !value.is_empty()).collect(),
        archived: test,
    })
}

/// A text as one line: Security Hub wants something that is seen in the first.
fn flat(text: &str) -> String {
    let unseen = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().map(|c| if unseen(c) { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// Security Hub's word for ECS's severity, as ours are numbered.
fn severity(number: Option<&Value>) -> &'static str {
    match sakimori_respond::message::severity_name(number.and_then(Value::as_i64).unwrap_or_default()) {
        "critical" => "CRITICAL",
        "high" => "HIGH",
        "medium" => "MEDIUM",
        "low" => "LOW",
        _ => "INFORMATIONAL",
    }
}

/// AWS's taxonomy has the tactics of ATT&CK under `TTPs`.
fn kind(tactics: Option<&Value>) -> &'static str {
    const KNOWN: &[(&str, &str)] = &[
        ("initial-access", "TTPs/Initial Access"),
        ("execution", "TTPs/Execution"),
        ("persistence", "TTPs/Persistence"),
        ("privilege-escalation", "TTPs/Privilege Escalation"),
        ("defense-evasion", "TTPs/Defense Evasion"),
        ("credential-access", "TTPs/Credential Access"),
        ("discovery", "TTPs/Discovery"),
        ("lateral-movement", "TTPs/Lateral Movement"),
        ("collection", "TTPs/Collection"),
        ("command-and-control", "TTPs/Command and Control"),
        ("exfiltration", "Effects/Data Exfiltration"),
    ];
    let first = tactics.and_then(|tactics| tactics.as_str().or_else(|| tactics.get(0)?.as_str()));
    let named = first.unwrap_or_default().to_ascii_lowercase().replace(' ', "-");
    KNOWN.iter().find(|(name, _)| *name == named).map_or("Unusual Behaviors", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use sakimori_cloud::aws::Account;
    use serde_json::json;

    use super::super::testing::{HOSTILE, facts_with, letter};
    use super::*;

    fn hub() -> Hub {
        let account = Account { region: "eu-west-1".into(), account_id: Some("1".repeat(12)), ..Account::default() };
        Hub::new(account).unwrap()
    }

    fn of(facts: &Value) -> Result<Finding, Failure> {
        letter(facts, |letter| finding(letter, &hub()))
    }

    #[test]
    fn a_finding_has_one_id_its_bounds_and_the_right_resource() {
        let long = "W".repeat(5_000);
        for hostile in HOSTILE.iter().copied().chain([long.as_str()]) {
            let mut facts = facts_with(hostile);
            facts["severity"] = json!(100);
            facts["event"] = json!({
                "@timestamp": "2026-11-26T10:00:00Z", "message": hostile, "organization": {"id": "acme"},
                "rule": {"id": "finding-malware", "name": hostile, "description": hostile}, "host": {"name": hostile},
                "sakimori": {"alert": {"id": "0a1b"}}, "threat": {"tactic": {"name": ["execution"]}},
                "cloud": {"instance": {"id": "i-0a1b"}, "region": "us-east-1", "account": {"id": "222222222222"}},
            });
            let one = of(&facts).unwrap();
            assert_eq!((one.id.as_str(), one.severity, one.kind), ("sakimori/acme/0a1b", "CRITICAL", "TTPs/Execution"));
            assert_eq!(one.generator, "sakimori/finding-malware");
            assert_eq!(one.resource.1, "arn:aws:ec2:us-east-1:222222222222:instance/i-0a1b");
            assert!([&one.title, &one.description].iter().all(|text| !text.contains(['\r', '\n'])));
            assert!(one.title.chars().count() <= MOST_TITLE && one.description.chars().count() <= MOST_DESCRIPTION);
            assert!(one.fields.iter().all(|(_, value)| (1..=MOST_FIELD).contains(&value.chars().count())));
        }
    }

    #[test]
    fn only_alerts_are_told_and_a_test_is_shown_to_nobody() {
        assert!(matches!(of(&facts_with("x")), Err(Failure::Refused(reason)) if reason.contains("is none")));
        let test = of(&json!({"kind": "test", "summary": "Test message"})).unwrap();
        assert!(test.archived && test.id == "sakimori/default/test" && test.severity == "INFORMATIONAL", "{test:?}");
        assert_eq!((test.title.as_str(), &test.resource), ("Test message", &("Other", "sakimori".to_owned())));
    }
}
