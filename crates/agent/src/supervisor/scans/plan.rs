//! When a scan of the policy begins: its schedule, put off by a time of this host's own, and made up for once where it
//! was missed. Pure: time and zone come in as arguments.

use chrono_tz::Tz;
use sakimori_model::Timestamp;
use sakimori_model::policy::{Missed, Scan};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A start that is later than this was missed, in seconds: the agent or its host did not run.
const LATE: i64 = 600;
/// A turn that lies further ahead than this was noted by a clock that was wrong, in seconds.
const CLOCK_WRONG: i64 = 86_400;

/// What is done with, of a scan's turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The schedule that it is about.
    schedule: String,
    /// All turns up to here are done with.
    done: Timestamp,
    /// What was missed is made up for at this time.
    #[serde(default)]
    make_up: Option<Timestamp>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing until then; never, for a scan without schedule.
    Later(Option<Timestamp>),
    /// It begins.
    Now,
    /// It was missed, and is made up for at this time.
    MadeUp(Timestamp),
    /// It was missed, and is left out.
    LeftOut(Timestamp),
}

/// Looks at a scan's turns, and notes what is done with. `host` tells hosts apart.
pub fn look(turn: &mut Option<Turn>, scan: &Scan, host: &str, now: Timestamp, zone: Tz) -> Due {
    let Some(schedule) = &scan.schedule else {
        *turn = None;
        return Due::Later(None);
    };
    let text = schedule.to_string();
    let known = turn.take().filter(|turn| turn.schedule == text && turn.done.since(now) < CLOCK_WRONG * 1_000_000);
    // A schedule that is new begins now: what would have been its turns before is nobody's miss.
    let turn = turn.insert(known.unwrap_or(Turn { schedule: text, done: now, make_up: None }));
    let put_off = |at: Timestamp| at.plus_secs(jitter(scan, host, at));
    let next = schedule.next_after(turn.done, &zone);
    let start = next.map(put_off);
    if let (Some(next), Some(start)) = (next, start)
        && start <= now
    {
        if now.since(start) <= LATE * 1_000_000 {
            turn.done = next;
            turn.make_up = None;
            return Due::Now;
        }
        turn.done = now;
        if scan.if_missed == Missed::Skip {
            return Due::LeftOut(next);
        }
        let at = put_off(now);
        turn.make_up = Some(at);
        return Due::MadeUp(at);
    }
    match turn.make_up {
        Some(at) if at <= now => {
            turn.make_up = None;
            Due::Now
        }
        made_up => Due::Later(made_up.into_iter().chain(start).min()),
    }
}

/// By how many seconds this host puts this turn off.
fn jitter(scan: &Scan, host: &str, at: Timestamp) -> i64 {
    let most = i64::from(scan.jitter_minutes) * 60;
    let mut hash = Sha256::new();
    for part in [host, &scan.name, &at.micros().to_string()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let number = hash.finalize().first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    i64::try_from(number >> 1).unwrap_or(0) % most.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scan(more: serde_json::Value) -> Scan {
        let mut scan = json!({"name": "n", "paths": ["/"], "schedule": "30 2 * * *", "jitter_minutes": 0});
        scan.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(scan).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn see(turn: &mut Option<Turn>, scan: &Scan, now: &str) -> Due {
        look(turn, scan, "host", at(now), Tz::UTC)
    }

    #[test]
    fn a_scan_begins_at_its_time_and_once() {
        let (mut turn, scan) = (None, scan(json!({})));
        let next = at("2026-11-27T02:30:00Z");
        assert_eq!(see(&mut turn, &scan, "2026-11-26T12:00:00Z"), Due::Later(Some(next)));
        assert_eq!(see(&mut turn, &scan, "2026-11-27T02:29:59Z"), Due::Later(Some(next)));
        assert_eq!(see(&mut turn, &scan, "2026-11-27T02:30:00Z"), Due::Now);
        let after = Due::Later(Some(at("2026-11-28T02:30:00Z")));
        assert_eq!(see(&mut turn, &scan, "2026-11-27T02:30:01Z"), after);
        // What was noted outlives a restart.
        let mut again: Option<Turn> = serde_json::from_str(&serde_json::to_string(&turn).unwrap()).unwrap();
        assert_eq!(see(&mut again, &scan, "2026-11-27T02:31:00Z"), after);
        assert_eq!(look(&mut turn, &self::scan(json!({"schedule": null})), "h", next, Tz::UTC), Due::Later(None));
    }

    #[test]
    fn what_was_missed_is_made_up_for_once_or_left_out() {
        for (if_missed, expected) in
            [("run", Due::MadeUp(at("2026-11-30T09:00:00Z"))), ("skip", Due::LeftOut(at("2026-11-27T02:30:00Z")))]
        {
            let (mut turn, scan) = (None, scan(json!({ "if_missed": if_missed })));
            see(&mut turn, &scan, "2026-11-26T12:00:00Z");
            // Three nights without power.
            assert_eq!(see(&mut turn, &scan, "2026-11-30T09:00:00Z"), expected);
            let next = Due::Later(Some(at("2026-12-01T02:30:00Z")));
            if if_missed == "run" {
                assert_eq!(see(&mut turn, &scan, "2026-11-30T09:00:01Z"), Due::Now);
            }
            assert_eq!(see(&mut turn, &scan, "2026-11-30T09:00:02Z"), next);
        }
    }

    #[test]
    fn a_changed_schedule_or_a_clock_that_was_wrong_is_no_miss() {
        let mut turn = None;
        see(&mut turn, &scan(json!({})), "2026-11-26T12:00:00Z");
        let other = scan(json!({"schedule": "0 13 * * *"}));
        assert_eq!(see(&mut turn, &other, "2026-12-26T14:00:00Z"), Due::Later(Some(at("2026-12-27T13:00:00Z"))));
        // Noted in a year that was not: begun anew.
        see(&mut turn, &other, "2099-01-01T00:00:00Z");
        assert_eq!(see(&mut turn, &other, "2026-12-26T14:00:00Z"), Due::Later(Some(at("2026-12-27T13:00:00Z"))));
    }

    #[test]
    fn hosts_do_not_begin_at_once() {
        let scan = scan(json!({"jitter_minutes": 60}));
        let turn = at("2026-11-27T02:30:00Z");
        let starts: Vec<i64> = (0..200).map(|n| jitter(&scan, &format!("host-{n}"), turn)).collect();
        assert!(starts.iter().all(|start| (0..3_600).contains(start)));
        let quarter = starts.iter().filter(|start| **start < 900).count();
        assert!((25..=80).contains(&quarter), "{quarter} of 200 in the first quarter of an hour");
        let mut noted = None;
        look(&mut noted, &scan, "host-0", at("2026-11-27T02:00:00Z"), Tz::UTC);
        let start = turn.plus_secs(starts[0]);
        assert_eq!(look(&mut noted, &scan, "host-0", start.plus_secs(-1), Tz::UTC), Due::Later(Some(start)));
        assert_eq!(look(&mut noted, &scan, "host-0", start, Tz::UTC), Due::Now);
    }
}
