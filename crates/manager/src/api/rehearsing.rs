//! Rehearsing a playbook against the past, away from the threads that answer requests: it takes as long as it takes to play
//! thousands of executions through, and a playbook's author decides how much each is.
//!
//! Bounds: so many at once ([`AT_ONCE`]), who comes later waits; so long each ([`LONGEST`]), after which what was found so far is
//! told, and that it is not all; so many different targets ([`MOST_TARGETS`]). What is under way when its caller gives up ends
//! by the same bounds.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sakimori_model::action::Target;
use sakimori_model::{Event, Timestamp, field};
use sakimori_respond::execution::{self, Would};
use sakimori_respond::playbook::Playbook;
use tokio::sync::Semaphore;

use super::playbooks::{Rehearsal, Rehearsed};
use super::problem::{self, Problem};

/// Rehearsals at a time: one processor of a small machine stays for everything else.
static AT_ONCE: Semaphore = Semaphore::const_new(1);
/// Longest time that one takes, within the time limit of a request.
const LONGEST: Duration = Duration::from_secs(30);
/// Alerts of which each step is told.
const MOST_TOLD: usize = 100;
/// Most names of hosts.
const MOST_HOSTS: usize = 100;
/// Most different targets, and most orders within a limit's time, that are remembered.
const MOST_TARGETS: usize = 100_000;

/// An alert or finding of the past.
pub(super) struct Past {
    /// When it was.
    pub time: Timestamp,
    /// Its id.
    pub id: String,
    /// All of it.
    pub event: Event,
}

/// Does work that takes long where no request waits for it.
///
/// # Errors
/// The work did not end as it should.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let turn = AT_ONCE.acquire().await.map_err(|_| Problem::new(problem::SERVER_NOT_READY))?;
    let worked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    worked.await.map_err(|error| Problem::failed(&error))
}

/// What a playbook would do about one event now.
///
/// # Errors
/// As [`aside`].
pub(super) async fn once(
    playbook: Playbook,
    event: Event,
    alert: String,
    now: Timestamp,
    hosts: usize,
) -> Result<(Vec<Would>, execution::State, Option<String>), Problem> {
    aside(move || execution::rehearse(&playbook, &event, &alert, now, (0, hosts))).await
}

/// What a playbook would have done about these, the newest first. `more`: are there older ones?
///
/// # Errors
/// As [`aside`].
pub(super) async fn all(playbook: Playbook, past: Vec<Past>, hosts: usize, more: bool) -> Result<Rehearsal, Problem> {
    aside(move || {
        let until = Instant::now() + LONGEST;
        played(&playbook, past, (hosts, more), || Instant::now() < until)
    })
    .await
}

fn played(playbook: &Playbook, past: Vec<Past>, (hosts, more): (usize, bool), goes_on: impl Fn() -> bool) -> Rehearsal {
    let mut out = Rehearsal { more, ..Rehearsal::default() };
    let within = playbook.limits.as_ref().map_or(0, |limits| limits.within_seconds);
    let mut hits: Vec<Timestamp> = Vec::new();
    let mut targets: BTreeSet<(String, String)> = BTreeSet::new();
    // In the order in which it would have happened.
    for Past { time, id, event } in past.into_iter().rev() {
        if !goes_on() {
            out.stopped = true;
            break;
        }
        out.looked_at += 1;
        let alert = event.str(field::SAKIMORI_ALERT_ID).map_or(id, str::to_owned);
        if playbook.fits(&event, &alert, playbook.scope).is_err() {
            continue;
        }
        let since = time.plus_secs(-i64::try_from(within).unwrap_or(i64::MAX));
        hits.retain(|hit| *hit >= since);
        let (told, ends, reason) = execution::rehearse(playbook, &event, &alert, time, (hits.len(), hosts));
        out.begun += 1;
        *out.ends.entry(ends.name()).or_default() += 1;
        for order in told.iter().filter_map(|one| one.order.as_ref()) {
            *out.orders.entry(order.action.clone()).or_default() += 1;
            let target = (order.action.clone(), order.target.to_string());
            if targets.len() < MOST_TARGETS && targets.insert(target) {
                *out.targets.entry(order.action.clone()).or_default() += 1;
            }
            if !matches!(order.target, Target::Channel(_)) && within > 0 && hits.len() < MOST_TARGETS {
                hits.push(time);
            }
        }
        if let Some(host) = event.str(field::HOST_NAME).filter(|_| out.hosts.len() < MOST_HOSTS) {
            out.hosts.insert(host.to_owned());
        }
        out.told.push(Rehearsed {
            alert,
            time,
            rule: event.str(field::RULE_ID).unwrap_or_default().to_owned(),
            would: told.into_iter().map(|one| one.text).collect(),
            ends: ends.name(),
            reason: reason.unwrap_or_default(),
        });
        if out.told.len() > 2 * MOST_TOLD {
            out.told.drain(..MOST_TOLD);
        }
    }
    out.told.reverse();
    out.told.truncate(MOST_TOLD);
    out
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde_json::json;

    use super::*;

    const TEXT: &str = "id: p\ntitle: { en: P }\ntrigger: { alert: { scope: wide } }\nsteps:\n  \
                        - { for_each: event.related.ip, most: 50, steps: [ { action: waf_block, target: item } ] }\n";

    fn past(count: usize) -> Vec<Past> {
        let addresses: Vec<String> = (0..20).map(|n| format!("198.51.100.{n}")).collect();
        let json = json!({ "event": { "kind": "alert", "severity": 75 }, "related": { "ip": addresses } });
        let event = Event::from_json(json.as_object().unwrap().clone()).0;
        let one = |n: usize| Past {
            time: Timestamp::from_secs(1_800_000_000 - n as i64),
            id: n.to_string(),
            event: event.clone(),
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn a_rehearsal_stops_when_its_time_is_over_and_says_so() {
        let playbook = Playbook::parse("p.yml", TEXT).unwrap();
        let whole = played(&playbook, past(3), (0, false), || true);
        assert_eq!((whole.looked_at, whole.begun, whole.stopped, whole.orders["waf_block"]), (3, 3, false, 60));
        assert_eq!((whole.targets["waf_block"], whole.told[0].alert.as_str()), (20, "0"));
        let left = Cell::new(2);
        let cut = played(&playbook, past(3), (0, false), || left.replace(left.get() - 1) > 0);
        assert_eq!((cut.looked_at, cut.begun, cut.stopped), (2, 2, true));
    }

    #[tokio::test]
    async fn requests_are_answered_while_one_is_rehearsed() {
        // One thread answers requests here; a rehearsal on it would let nobody else have it.
        let (begun, ends) = (std::sync::Arc::new(tokio::sync::Notify::new()), std::sync::mpsc::channel::<()>());
        let told = std::sync::Arc::clone(&begun);
        let long = aside(move || {
            told.notify_one();
            ends.1.recv().unwrap();
        });
        let meanwhile = async {
            begun.notified().await;
            // This runs, or the work above never ends.
            ends.0.send(()).unwrap();
        };
        let (worked, ()) = tokio::join!(long, meanwhile);
        worked.unwrap();
    }
}
