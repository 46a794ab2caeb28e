//! Exceptions over alerts at work: which alerts are expected, so that nobody is told of them and no playbook of the manager
//! begins with them.
//!
//! The fold asks for every alert before it acts on it. One that an exception holds back is kept as an event like any other,
//! with `sakimori.alert.status: suppressed` and the exception's id, by which it is counted. What a host's own playbook did on
//! the host was done before the alert arrived here: that is a matter of policy, not of exceptions.
//!
//! Only alerts of rules of the content are held back (`rule.ruleset`): what the product says of its own health is no rule's.

use std::collections::{HashMap, HashSet};

use arc_swap::ArcSwap;
use sakimori_model::{Event, Timestamp, field};
use sakimori_store::control::exceptions::{self, Exception};
use sakimori_store::control::{Control, ControlError, Scope, agents};
use sakimori_store::query::{self, Expr, QueryError};

/// `sakimori.alert.status` of what is held back.
pub const SUPPRESSED: &str = "suppressed";
/// Hosts whose groups are known.
const MOST_HOSTS: i64 = 100_000;

/// An exception that can be asked.
#[derive(Clone, Debug)]
pub struct Ready {
    id: String,
    rule: String,
    agent: String,
    /// Agents of its group; `None` where it is about no group.
    of_group: Option<HashSet<String>>,
    condition: Expr,
    expires: Timestamp,
}

impl Ready {
    /// Makes one ready, with the agents of its group.
    ///
    /// # Errors
    /// Its condition cannot be read.
    pub fn new(exception: &Exception, of_group: Option<HashSet<String>>) -> Result<Self, QueryError> {
        Ok(Self {
            id: exception.id.clone(),
            rule: exception.rule.clone(),
            agent: exception.agent.clone(),
            of_group,
            condition: query::parse(&exception.condition)?,
            expires: exception.expires,
        })
    }

    /// Does it hold this alert back?
    pub fn holds(&self, alert: &Event, now: Timestamp) -> bool {
        let agent = alert.str(field::AGENT_ID).unwrap_or_default();
        now < self.expires
            && alert.str(field::RULE_ID) == Some(&self.rule)
            && may_be_held(alert)
            && (self.agent.is_empty() || self.agent == agent)
            && self.of_group.as_ref().is_none_or(|agents| agents.contains(agent))
            && self.condition.matches(alert)
    }
}

/// Is it the alert of a rule of the content? Nothing that the product says of itself can be held back.
pub fn may_be_held(alert: &Event) -> bool {
    alert.str(field::RULE_RULESET).is_some_and(|ruleset| !ruleset.is_empty())
}

/// The exceptions of all tenants, ready to be asked: by tenant and rule.
#[derive(Debug, Default)]
pub struct Table(ArcSwap<HashMap<(String, String), Vec<Ready>>>);

impl Table {
    /// Reads all exceptions that have not ended. One whose condition this build cannot read holds nothing back.
    ///
    /// # Errors
    /// Control state failed; the former ones stay.
    pub async fn load(&self, control: &Control, now: Timestamp) -> Result<(), ControlError> {
        let mut all = exceptions::list(control.read(), "").await?;
        all.retain(|exception| exception.expires > now);
        let mut groups: HashMap<(String, String), HashSet<String>> = HashMap::new();
        if all.iter().any(|exception| !exception.tag.is_empty()) {
            for agent in agents::list(control.read(), &Scope::All, "", MOST_HOSTS).await? {
                for tag in agent.tags {
                    groups.entry((agent.tenant.clone(), tag)).or_default().insert(agent.id.clone());
                }
            }
        }
        let mut ready: HashMap<(String, String), Vec<Ready>> = HashMap::new();
        for exception in all {
            let of_group = (!exception.tag.is_empty())
                .then(|| groups.get(&(exception.tenant.clone(), exception.tag.clone())).cloned().unwrap_or_default());
            match Ready::new(&exception, of_group) {
                Ok(one) => ready.entry((exception.tenant, exception.rule)).or_default().push(one),
                Err(error) => tracing::warn!(exception = exception.id, %error, "an exception holds nothing back"),
            }
        }
        self.0.store(std::sync::Arc::new(ready));
        Ok(())
    }

    /// Marks an alert that an exception holds back; false where none does. What an event says of exceptions by itself is
    /// taken out.
    pub fn mark(&self, tenant: &str, alert: &mut Event, now: Timestamp) -> bool {
        alert.remove(field::SAKIMORI_ALERT_EXCEPTION);
        let ready = self.0.load();
        if ready.is_empty() {
            return false;
        }
        let Some(rule) = alert.str(field::RULE_ID) else { return false };
        let Some(of_rule) = ready.get(&(tenant.to_owned(), rule.to_owned())) else { return false };
        let Some(id) = of_rule.iter().find(|one| one.holds(alert, now)).map(|one| one.id.clone()) else { return false };
        alert.set(field::SAKIMORI_ALERT_STATUS, SUPPRESSED);
        alert.set(field::SAKIMORI_ALERT_EXCEPTION, id);
        true
    }
}

/// A condition of fields and their values, as search text.
pub fn condition<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let quoted = |value: &str| {
        let escaped: String = value
            .chars()
            .flat_map(|letter| match letter {
                '"' | '\\' => vec!['\\', letter],
                other => vec![other],
            })
            .collect();
        format!("\"{escaped}\"")
    };
    let parts: Vec<String> = fields.into_iter().map(|(field, value)| format!("{field}:{}", quoted(value))).collect();
    parts.join(" and ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exception(condition: &str) -> Exception {
        Exception {
            tenant: "default".into(),
            id: "x".into(),
            rule: "ssh".into(),
            agent: String::new(),
            tag: String::new(),
            condition: condition.into(),
            reason: "ours".into(),
            owner: "ann".into(),
            created_by: "user:ann".into(),
            created: Timestamp::from_secs(1),
            expires: Timestamp::from_secs(100),
        }
    }

    fn alert(rule: &str, agent: &str, user: &str) -> Event {
        let mut event = Event::new();
        event.set(field::RULE_ID, rule.to_owned());
        event.set(field::RULE_RULESET, "sigma");
        event.set(field::AGENT_ID, agent.to_owned());
        event.set(field::USER_NAME, user.to_owned());
        event
    }

    #[test]
    fn an_alert_is_held_back_by_rule_place_and_condition_until_the_end() {
        let holds = |exception: &Exception, group: Option<&[&str]>, alert: &Event, at: i64| {
            let group = group.map(|agents| agents.iter().map(ToString::to_string).collect());
            Ready::new(exception, group).unwrap().holds(alert, Timestamp::from_secs(at))
        };
        let wide = exception("");
        assert!(holds(&wide, None, &alert("ssh", "a", "root"), 99));
        assert!(!holds(&wide, None, &alert("ssh", "a", "root"), 100), "it ended");
        assert!(!holds(&wide, None, &alert("web", "a", "root"), 99));
        let backup = exception("user.name:\"backup\"");
        assert!(holds(&backup, None, &alert("ssh", "a", "backup"), 1));
        assert!(!holds(&backup, None, &alert("ssh", "a", "root"), 1));
        let one = Exception { agent: "a".into(), ..exception("") };
        assert!(holds(&one, None, &alert("ssh", "a", "x"), 1) && !holds(&one, None, &alert("ssh", "b", "x"), 1));
        let web = Exception { tag: "web".into(), ..exception("") };
        assert!(holds(&web, Some(&["a"]), &alert("ssh", "a", "x"), 1));
        assert!(
            !holds(&web, Some(&["a"]), &alert("ssh", "b", "x"), 1)
                && !holds(&web, Some(&[]), &alert("ssh", "a", "x"), 1)
        );
    }

    #[test]
    fn what_the_product_says_of_its_own_health_is_never_held_back() {
        let mut own = alert("proof-failing", "a", "x");
        own.remove(field::RULE_RULESET);
        let exception = Exception { rule: "proof-failing".into(), ..exception("") };
        assert!(!Ready::new(&exception, None).unwrap().holds(&own, Timestamp::from_secs(1)));
    }

    #[test]
    fn an_event_cannot_say_by_itself_that_it_is_held_back() {
        let table = Table::default();
        let mut event = alert("ssh", "a", "x");
        event.set(field::SAKIMORI_ALERT_EXCEPTION, "made-up");
        assert!(!table.mark("default", &mut event, Timestamp::from_secs(1)));
        assert_eq!(event.get(field::SAKIMORI_ALERT_EXCEPTION), None);
    }

    proptest! {
        #[test]
        fn any_value_becomes_a_condition_that_matches_just_it(value in "[^\\x00-\\x1f]{1,40}", other in "[a-z]{1,8}") {
            let text = condition([("user.name", value.as_str())]);
            let expression = query::parse(&text).unwrap();
            prop_assert!(expression.matches(&alert("r", "a", &value)), "{}", text);
            let same = other.to_lowercase() == value.to_lowercase();
            prop_assert_eq!(expression.matches(&alert("r", "a", &other)), same);
        }
    }
}
