//! An alert: an ECS event that says which rule holds, about whom, and because of which events.
//!
//! It speaks of the entities of the last event that contributed (source, user, host, address and so on), so that a
//! playbook and a person find them where they find those of any event. Its id is a hash of the rule, its revision,
//! the group and the ids of the contributing events (D8): the same events read again make the same alert.

use std::sync::{Arc, LazyLock};

use sakimori_model::catalog::FieldId;
use sakimori_model::rule::Scope;
use sakimori_model::{Event, Timestamp, Value, field};
use sha2::{Digest, Sha256};

use crate::rule::Meta;

/// What of an event an alert speaks of too: whole fields, and groups of them (those that end in a dot).
const ENTITIES: [&str; 39] = [
    "agent.",
    "client.",
    "cloud.",
    "container.",
    "destination.",
    "dns.question.",
    "file.",
    "group.",
    "host.",
    "http.request.method",
    "http.response.status_code",
    "network.direction",
    "network.forwarded_ip",
    "network.protocol",
    "network.transport",
    "observer.",
    "orchestrator.",
    "organization.",
    "process.",
    "related.",
    "sakimori.action.id",
    "sakimori.action.kind",
    "sakimori.action.state",
    "sakimori.action.target",
    "sakimori.client_network",
    "sakimori.cloud.",
    "sakimori.finding.",
    "sakimori.probe",
    "sakimori.proxy.ip",
    "sakimori.scan.id",
    "sakimori.source",
    "sakimori.stream",
    "server.",
    "service.",
    "source.",
    "url.",
    "user.",
    "user_agent.original",
    "log.file.path",
];

static COPIED: LazyLock<Vec<bool>> = LazyLock::new(|| {
    FieldId::all()
        .map(|field| {
            let name = field.name();
            ENTITIES.iter().any(|entity| if entity.ends_with('.') { name.starts_with(entity) } else { name == *entity })
        })
        .collect()
});

/// ATT&CK's numbers of its tactics.
const TACTICS: [(&str, &str); 14] = [
    ("reconnaissance", "TA0043"),
    ("resource-development", "TA0042"),
    ("initial-access", "TA0001"),
    ("execution", "TA0002"),
    ("persistence", "TA0003"),
    ("privilege-escalation", "TA0004"),
    ("defense-evasion", "TA0005"),
    ("credential-access", "TA0006"),
    ("discovery", "TA0007"),
    ("lateral-movement", "TA0008"),
    ("collection", "TA0009"),
    ("command-and-control", "TA0011"),
    ("exfiltration", "TA0010"),
    ("impact", "TA0040"),
];

/// What a rule found.
pub(crate) struct Finding<'a> {
    pub meta: &'a Meta,
    /// The last event that contributed.
    pub event: &'a Event,
    pub tenant: &'a str,
    /// Of what contributed, oldest first.
    pub ids: &'a [Arc<str>],
    pub count: usize,
    /// The earliest and the latest, in microseconds.
    pub span: (i64, i64),
    /// Key of the group, unambiguous.
    pub key: &'a str,
    /// Names of the grouping.
    pub group_by: &'a [String],
    pub bundle: Option<u64>,
}

/// Makes the alert.
pub(crate) fn alert(found: &Finding<'_>) -> Event {
    let (meta, info) = (found.meta, &found.meta.info);
    let mut alert = Event::new();
    for (field, value) in found.event.slots() {
        if COPIED.get(field.index()).copied().unwrap_or(false) {
            alert.set(field, value.clone());
        }
    }
    alert.set(field::TIMESTAMP, Timestamp::from_micros(found.span.1));
    alert.set(field::EVENT_START, Timestamp::from_micros(found.span.0));
    alert.set(field::EVENT_END, Timestamp::from_micros(found.span.1));
    if let Some(created) = found.event.get(field::EVENT_CREATED) {
        alert.set(field::EVENT_CREATED, created.clone());
    }
    alert.set(field::EVENT_KIND, "alert");
    alert.set(field::EVENT_CATEGORY, Value::List(vec!["intrusion_detection".into()]));
    alert.set(field::EVENT_TYPE, Value::List(vec!["info".into()]));
    alert.set(field::EVENT_DATASET, "sakimori.alert");
    alert.set(field::EVENT_MODULE, "sakimori");
    alert.set(field::EVENT_SEVERITY, info.severity.number());
    alert.set(field::EVENT_RISK_SCORE, Value::Double(f64::from(i32::try_from(info.severity.number()).unwrap_or(0))));
    alert.set(field::MESSAGE, info.title.en.clone());
    if !found.tenant.is_empty() {
        alert.set(field::ORGANIZATION_ID, found.tenant.to_owned());
    }

    alert.set(field::RULE_ID, info.id.clone());
    alert.set(field::RULE_NAME, info.title.en.clone());
    alert.set(field::RULE_RULESET, "sigma");
    alert.set(field::RULE_VERSION, info.revision.to_string());
    let texts = [
        (field::RULE_UUID, meta.uuid.as_ref()),
        (field::RULE_DESCRIPTION, meta.description.as_ref()),
        (field::RULE_AUTHOR, meta.author.as_ref()),
        (field::RULE_REFERENCE, info.references.first()),
        (field::RULE_LICENSE, Some(&info.licence).filter(|licence| !licence.is_empty())),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            alert.set(field, text.trim_end().to_owned());
        }
    }
    threat(&mut alert, meta);

    alert.set(field::SAKIMORI_ALERT_ID, id(meta, found.key, found.ids));
    alert.set(field::SAKIMORI_ALERT_STATUS, "open");
    alert.set(field::SAKIMORI_ALERT_SCOPE, if info.scope == Scope::Host { "host" } else { "wide" });
    alert.set(field::SAKIMORI_ALERT_COUNT, i64::try_from(found.count).unwrap_or(i64::MAX));
    let ids = found.ids.iter().map(|id| Value::from(id.to_string())).collect();
    alert.set(field::SAKIMORI_ALERT_EVENTS, Value::List(ids));
    if !found.group_by.is_empty() {
        alert.set(field::SAKIMORI_ALERT_GROUP, group(found));
    }
    if let Some(bundle) = found.bundle {
        alert.set(field::SAKIMORI_DETECT_BUNDLE, i64::try_from(bundle).unwrap_or(i64::MAX));
    }
    alert
}

fn threat(alert: &mut Event, meta: &Meta) {
    let list = |texts: Vec<String>| Value::List(texts.into_iter().map(Value::from).collect());
    let tactics: Vec<_> =
        meta.tactics.iter().filter_map(|name| TACTICS.iter().find(|(known, _)| known == name)).collect();
    if !tactics.is_empty() || !meta.info.techniques.is_empty() {
        alert.set(field::THREAT_FRAMEWORK, "MITRE ATT&CK");
    }
    if !tactics.is_empty() {
        alert.set(field::THREAT_TACTIC_ID, list(tactics.iter().map(|(_, id)| (*id).to_owned()).collect()));
        alert.set(field::THREAT_TACTIC_NAME, list(tactics.iter().map(|(name, _)| (*name).to_owned()).collect()));
    }
    if !meta.info.techniques.is_empty() {
        alert.set(field::THREAT_TECHNIQUE_ID, list(meta.info.techniques.clone()));
    }
}

/// The group for people: `source.ip=203.0.113.7, host.name=web-1`.
fn group(found: &Finding<'_>) -> String {
    use rsigma_eval::Event as _;
    let view = crate::view::View(found.event);
    let parts = found.group_by.iter().map(|path| {
        let value = view.get_field(path);
        let text = value.as_ref().and_then(crate::view::scalar).unwrap_or_default();
        format!("{path}={}", text.chars().take(256).collect::<String>())
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// The first 32 hex digits of SHA-256 over all that makes it this alert.
fn id(meta: &Meta, key: &str, ids: &[Arc<str>]) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(meta.info.id.as_bytes());
    part(&meta.info.revision.to_be_bytes());
    part(key.as_bytes());
    for id in ids {
        part(id.as_bytes());
    }
    let mut text = hex::encode(hash.finalize());
    text.truncate(32);
    text
}
