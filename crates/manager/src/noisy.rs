//! Rules that speak too often, and an exception that would help: as narrow as can be, and still holding back most of it. Pure.
//!
//! Of a rule's newest alerts the value that most of them share is taken; it is no proposal where it is not half of them. Then
//! every further field is added that has one value in nearly all of those: an exception for the one program that does it,
//! by the one user, on the one host, is better than one for the user.

use std::collections::BTreeMap;

use sakimori_model::Event;

/// Fields that an exception may be about, the most telling first.
pub const FIELDS: &[&str] = &[
    "process.executable",
    "process.name",
    "process.parent.name",
    "file.path",
    "user.name",
    "user_agent.original",
    "url.path",
    "destination.port",
    "dns.question.name",
    "source.ip",
    "client.ip",
    "host.name",
];
/// Least share of the alerts that the first field of a proposal has.
const LEAST: f64 = 0.5;
/// From this share on the most telling field is taken first.
const MOST_OF_IT: f64 = 0.8;
/// Least share of those that a further field has.
const NEARLY: f64 = 0.95;
/// Most fields of a proposal.
const MOST_FIELDS: usize = 4;
/// Values that are told of each field.
const MOST_TOLD: usize = 5;
/// Longest value that is told or proposed, in bytes: an attacker chooses values.
const MOST_VALUE: usize = 512;

/// One alert, as far as it is looked at: values by field.
pub type Sample = BTreeMap<&'static str, String>;

/// How often a field has a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// Alerts with it.
    pub count: usize,
    /// Share of the alerts that were looked at, 0 to 1.
    pub share: f64,
}

/// What an exception might say.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Fields and values, all of which must hold.
    pub fields: Vec<(&'static str, String)>,
    /// Alerts of those that were looked at that it would hold back.
    pub held: usize,
    /// Their share, 0 to 1.
    pub share: f64,
}

/// What is looked at of an alert.
pub fn sample(alert: &Event) -> Sample {
    let value = |name: &str| {
        let field = sakimori_model::catalog::lookup(name)?;
        let text = alert.get(field)?.to_json();
        let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
        ((1..=MOST_VALUE).contains(&text.len()) && !text.chars().any(char::is_control)).then_some(text)
    };
    FIELDS.iter().filter_map(|name| Some((*name, value(name)?))).collect()
}

/// The values that alerts share most, by field in their order.
pub fn shares(samples: &[Sample]) -> Vec<Share> {
    let mut out = Vec::new();
    for field in FIELDS {
        out.extend(of_field(samples, field).into_iter().take(MOST_TOLD));
    }
    out
}

/// Values of a field, the most frequent first.
fn of_field(samples: &[Sample], field: &'static str) -> Vec<Share> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for value in samples.iter().filter_map(|sample| sample.get(field)) {
        *counts.entry(value).or_default() += 1;
    }
    let mut all: Vec<Share> = counts
        .into_iter()
        .map(|(value, count)| Share { field, value: value.to_owned(), count, share: share(count, samples.len()) })
        .collect();
    all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    all
}

fn share(count: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

/// An exception that would hold back at least half of these alerts, where there is one.
pub fn propose(samples: &[Sample]) -> Option<Proposal> {
    let of_each: Vec<Share> = FIELDS.iter().filter_map(|field| of_field(samples, field).into_iter().next()).collect();
    // That all of it is of one host says little of who does it: a more telling field is taken where it has most of it.
    let telling = of_each.iter().find(|one| one.share >= MOST_OF_IT).cloned();
    let most = || of_each.into_iter().reduce(|best, other| if other.count > best.count { other } else { best });
    let best = telling.or_else(most)?;
    if best.share < LEAST {
        return None;
    }
    let mut fields = vec![(best.field, best.value)];
    let mut held: Vec<Sample> = with(samples, &fields);
    for field in FIELDS.iter().filter(|field| **field != best.field) {
        if fields.len() == MOST_FIELDS {
            break;
        }
        if let Some(more) = of_field(&held, field).into_iter().next().filter(|more| more.share >= NEARLY) {
            fields.push((more.field, more.value));
            held = with(&held, &fields);
        }
    }
    fields.sort_by_key(|(field, _)| FIELDS.iter().position(|known| known == field));
    Some(Proposal { share: share(held.len(), samples.len()), held: held.len(), fields })
}

fn with(samples: &[Sample], fields: &[(&'static str, String)]) -> Vec<Sample> {
    let fits = |sample: &&Sample| fields.iter().all(|(field, value)| sample.get(field) == Some(value));
    samples.iter().filter(fits).cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(pairs: &[(&'static str, &str)]) -> Sample {
        pairs.iter().map(|(field, value)| (*field, (*value).to_owned())).collect()
    }

    #[test]
    fn a_proposal_is_narrow_and_holds_back_most() {
        let mut samples: Vec<Sample> = (0..90)
            .map(|number| {
                let address = format!("192.0.2.{number}");
                one(&[
                    ("user.name", "backup"),
                    ("process.name", "rsync"),
                    ("host.name", "db-1"),
                    ("source.ip", &address),
                ])
            })
            .collect();
        samples.extend((0..10).map(|_| one(&[("user.name", "root"), ("process.name", "bash"), ("host.name", "db-1")])));
        let proposal = propose(&samples).unwrap();
        let fields: Vec<(&str, &str)> = proposal.fields.iter().map(|(field, value)| (*field, value.as_str())).collect();
        assert_eq!(fields, [("process.name", "rsync"), ("user.name", "backup"), ("host.name", "db-1")]);
        assert_eq!((proposal.held, proposal.share), (90, 0.9));
    }

    #[test]
    fn where_nothing_is_shared_nothing_is_proposed() {
        assert_eq!(propose(&[]), None);
        let samples: Vec<Sample> = (0..10).map(|number| one(&[("source.ip", &format!("192.0.2.{number}"))])).collect();
        assert_eq!(propose(&samples), None);
        assert_eq!(shares(&samples).len(), MOST_TOLD);
        assert_eq!(propose(&[one(&[])]), None);
    }

    #[test]
    fn values_that_an_attacker_makes_long_are_left_out() {
        let mut event = Event::new();
        event.set(sakimori_model::field::USER_NAME, "x".repeat(MOST_VALUE + 1));
        event.set(sakimori_model::field::HOST_NAME, "web-1");
        event.set(sakimori_model::field::PROCESS_NAME, "a\nb");
        assert_eq!(sample(&event), one(&[("host.name", "web-1")]));
    }

    proptest! {
        #[test]
        fn a_proposal_holds_what_it_says(users in proptest::collection::vec(0_u8..4, 0..60), hosts in 1_u8..3) {
            let samples: Vec<Sample> = users
                .iter()
                .enumerate()
                .map(|(at, user)| {
                    let host = format!("h{}", at % usize::from(hosts));
                    one(&[("user.name", &format!("u{user}")), ("host.name", &host)])
                })
                .collect();
            if let Some(proposal) = propose(&samples) {
                prop_assert_eq!(with(&samples, &proposal.fields).len(), proposal.held);
                prop_assert!(proposal.held * 100 >= samples.len() * 47 && proposal.fields.len() <= MOST_FIELDS);
            }
        }
    }
}
