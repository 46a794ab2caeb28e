//! What the engine has to tell of itself: that something is full, and so something was not looked at.
//!
//! A notice is an alert of a rule that the engine brings along (generator [`GENERATOR`]), about no host in particular:
//! who fills a table may send under any address. The same notice comes at most once a minute of the packets' time, and
//! its payload says how often it was so since the last.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::alert::Alert;
use crate::rules::{Action, LoadOptions, Rule, RuleSet};

/// The generator of the engine's own rules.
pub const GENERATOR: u32 = 90;

/// The signature of the first of them.
const FIRST: u32 = 9_000_001;

/// Microseconds between two notices of a kind.
const BETWEEN: i64 = 60_000_000;

/// What can be full, in the order of [`RULES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Flows pushed out because there were too many.
    pub flows: u64,
    /// Flows pushed out because all together kept too much.
    pub memory: u64,
    pub fragments: u64,
    pub segments: u64,
    /// Bits and counts of hosts that rules noted.
    pub hosts: u64,
    /// Values that had no room in a set.
    pub sets: u64,
}

const RULES: &str = "\
alert ip any any -> any any (msg:\"Sakimori: too many flows, the quietest are not followed any more\"; gid:90; sid:9000001; rev:1; priority:2;)
alert ip any any -> any any (msg:\"Sakimori: memory of flows is full, the quietest are not followed any more\"; gid:90; sid:9000002; rev:1; priority:2;)
alert ip any any -> any any (msg:\"Sakimori: memory of fragments is full, the oldest are given up\"; gid:90; sid:9000003; rev:1; priority:2;)
alert ip any any -> any any (msg:\"Sakimori: segments before their turn could not be kept\"; gid:90; sid:9000004; rev:1; priority:2;)
alert ip any any -> any any (msg:\"Sakimori: too many hosts to remember, what rules counted and noted is forgotten\"; gid:90; sid:9000005; rev:1; priority:2;)
alert ip any any -> any any (msg:\"Sakimori: a set of values is full, further ones are not added\"; gid:90; sid:9000006; rev:1; priority:2;)
";

/// What was told, and when.
pub(crate) struct Notices {
    rules: Vec<Arc<Rule>>,
    told: [(u64, i64); 6],
    /// The counts that were looked at last.
    seen: Counts,
}

impl Notices {
    pub(crate) fn new() -> Self {
        let rules = RuleSet::load(&[("the engine's own", RULES)], &LoadOptions::default(), &|_| None);
        Self { rules: rules.rules, told: [(0, i64::MIN); 6], seen: Counts::default() }
    }

    /// Adds what is due, with a frame's number and time.
    pub(crate) fn tell(&mut self, counts: Counts, number: u64, time: i64, out: &mut Vec<Alert>) {
        if counts == self.seen {
            return;
        }
        self.seen = counts;
        let Counts { flows, memory, fragments, segments, hosts, sets } = counts;
        let all = [flows, memory, fragments, segments, hosts, sets];
        for ((sid, count), (told, last)) in (FIRST..).zip(all).zip(&mut self.told) {
            if count <= *told || time < last.saturating_add(BETWEEN) {
                continue;
            }
            if let Some(rule) = self.rules.iter().find(|rule| rule.sid == sid) {
                out.push(notice(rule, count - *told, number, time));
            }
            (*told, *last) = (count, time);
        }
    }
}

fn notice(rule: &Arc<Rule>, times: u64, number: u64, time: i64) -> Alert {
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    Alert {
        rule: rule.clone(),
        action: Action::Alert,
        blocked: false,
        stopped: false,
        packet: number,
        time,
        src: nobody,
        dst: nobody,
        sport: 0,
        dport: 0,
        proto: 0,
        app: None,
        to_server: false,
        flow: None,
        tx: None,
        vlan: Vec::new(),
        payload: format!("{times} times").into_bytes(),
        http: None,
        tag: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute_with_how_often() {
        let (mut notices, mut out) = (Notices::new(), Vec::new());
        assert_eq!(notices.rules.len(), notices.told.len());
        let mut tell = |flows, second: i64| {
            notices.tell(Counts { flows, ..Counts::default() }, 1, second * 1_000_000, &mut out);
            out.drain(..).map(|alert| String::from_utf8(alert.payload).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(tell(0, 0), Vec::<String>::new());
        assert_eq!(tell(3, 1), ["3 times"]);
        assert_eq!(tell(9, 30), Vec::<String>::new());
        assert_eq!(tell(9, 70), Vec::<String>::new());
        assert_eq!(tell(10, 71), ["7 times"]);
        let event = notice(&notices.rules[0], 1, 1, 0).event().to_json();
        assert_eq!(event["rule"]["ruleset"], "90");
        assert!(!event.contains_key("client") && !event.contains_key("source"), "{event:?}");
    }
}
