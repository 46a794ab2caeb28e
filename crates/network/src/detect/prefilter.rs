//! Which rules are worth a look: one search a kind of buffer finds the rules' most selective patterns, whatever
//! their number. Where a rule has none, or only a common one, the literals that its regular expression needs are looked
//! for in its place; rules that have neither are always worth a look.

use std::collections::HashMap;

use super::needles::Needles;
use crate::rules::RuleSet;
use crate::rules::buffers::Buffer;
use crate::rules::model::{Fast, NO_PLACE, Rule, Step};
use crate::rules::transform::Transform;

/// Patterns of one buffer.
#[derive(Debug)]
pub(crate) struct Matcher {
    pub buffer: Option<Buffer>,
    pub transforms: Vec<Transform>,
    pub place: u32,
    needles: Needles,
    /// Rules of each pattern.
    rules: Vec<Vec<u32>>,
}

impl Matcher {
    fn new(buffer: Option<Buffer>, (place, transforms): (u32, Vec<Transform>), patterns: ByPattern) -> Self {
        let (patterns, rules): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
        Self { buffer, transforms, place, needles: Needles::new(patterns), rules }
    }

    /// Adds the rules whose pattern is in the bytes.
    pub(crate) fn search(&self, data: &[u8], out: &mut Vec<u32>) {
        let mut last = None;
        self.needles.search(data, &mut |pattern| {
            // Many in a row are the same one.
            if last.replace(pattern) != Some(pattern) {
                out.extend_from_slice(self.rules.get(pattern).map_or(&[], Vec::as_slice));
            }
        });
    }

    /// The same in bytes of which so many were searched when there were no more: what lies in them alone was found.
    pub(crate) fn search_behind(&self, searched: usize, data: &[u8], out: &mut Vec<u32>) {
        if searched < data.len() {
            let from = searched.saturating_sub(self.needles.longest().saturating_sub(1));
            self.search(data.get(from..).unwrap_or_default(), out);
        }
    }
}

/// Rules by a pattern that they need.
type ByPattern = HashMap<Vec<u8>, Vec<u32>>;

/// All of a rule set's groups.
#[derive(Debug, Default)]
pub(crate) struct Prefilter {
    /// Patterns of payloads of packets and streams.
    pub payload: Option<Matcher>,
    /// Patterns of transactions, each with its place in this list.
    pub buffers: Vec<Matcher>,
    /// Rules on packets without a pattern, by IP protocol; those of any beside.
    packet_rules: Vec<Vec<u32>>,
    any_packet_rules: Vec<u32>,
    /// Rules on transactions without a pattern.
    pub tx_rules: Vec<u32>,
    pub ip_only: Vec<u32>,
    /// Rules for packets that are broken or no IP.
    pub event_rules: Vec<u32>,
}

impl Prefilter {
    pub(crate) fn new(set: &RuleSet) -> Self {
        let mut prefilter = Self { packet_rules: vec![Vec::new(); 256], ..Self::default() };
        let mut payload = ByPattern::new();
        let mut buffers: Vec<(Buffer, (u32, Vec<Transform>), ByPattern)> = Vec::new();
        for (at, rule) in set.rules.iter().enumerate() {
            let at = at as u32;
            if rule.is_ip_only() {
                prefilter.ip_only.push(at);
                continue;
            }
            match rule.fast {
                Some(Fast::Payload(step)) => match patterns(rule.payload.get(step)) {
                    Some(found) => add(&mut payload, found, at),
                    None => prefilter.without(rule, at),
                },
                Some(Fast::Buffer(number, step)) => {
                    let test = rule.buffers.get(number);
                    let found = test.and_then(|test| Some((test, patterns(test.steps.get(step))?)));
                    let Some((test, found)) = found else {
                        prefilter.without(rule, at);
                        continue;
                    };
                    let known = buffers.iter_mut().find(|known| test.same_place(&known.0, &known.1.1));
                    match known {
                        Some(known) => add(&mut known.2, found, at),
                        None => {
                            let mut first = ByPattern::new();
                            add(&mut first, found, at);
                            buffers.push((test.buffer, (test.place, test.transforms.clone()), first));
                        }
                    }
                }
                None => prefilter.without(rule, at),
            }
        }
        prefilter.payload =
            Some(payload).filter(|map| !map.is_empty()).map(|map| Matcher::new(None, (NO_PLACE, Vec::new()), map));
        let buffers = buffers.into_iter();
        prefilter.buffers = buffers.map(|(buffer, place, map)| Matcher::new(Some(buffer), place, map)).collect();
        prefilter
    }

    fn without(&mut self, rule: &Rule, at: u32) {
        if rule.proto.header_only {
            self.event_rules.push(at);
        }
        if rule.is_app() {
            self.tx_rules.push(at);
        } else if rule.proto.numbers.is_empty() {
            self.any_packet_rules.push(at);
        } else {
            for number in &rule.proto.numbers {
                if let Some(rules) = self.packet_rules.get_mut(usize::from(*number)) {
                    rules.push(at);
                }
            }
        }
    }

    /// Rules without a pattern for packets of a protocol.
    pub(crate) fn always(&self, proto: u8, out: &mut Vec<u32>) {
        out.extend_from_slice(&self.any_packet_rules);
        out.extend_from_slice(self.packet_rules.get(usize::from(proto)).map_or(&[], Vec::as_slice));
    }
}

fn add(to: &mut ByPattern, patterns: Vec<Vec<u8>>, rule: u32) {
    for pattern in patterns {
        to.entry(pattern).or_default().push(rule);
    }
}

/// What one of has to be there, in small letters: a content, or the literals of a regular expression.
fn patterns(step: Option<&Step>) -> Option<Vec<Vec<u8>>> {
    match step {
        Some(Step::Content(content)) => {
            Some(vec![content.bytes.to_ascii_lowercase()]).filter(|_| !content.bytes.is_empty())
        }
        Some(Step::Pcre(pcre)) => Some(pcre.required.as_ref()?.literals.iter().map(|one| one.to_vec()).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::LoadOptions;

    #[test]
    fn what_lies_across_two_parts_of_a_body_is_found_once() {
        let patterns =
            ["union select", "ab", "x"].iter().zip(0..).map(|(text, at)| (text.as_bytes().to_vec(), vec![at]));
        let matcher = Matcher::new(None, (NO_PLACE, Vec::new()), patterns.collect());
        let body = b"..UNION SELECT..aB..x";
        for first in 0..=body.len() {
            let mut found = Vec::new();
            matcher.search_behind(0, &body[..first], &mut found);
            matcher.search_behind(first, body, &mut found);
            found.sort_unstable();
            found.dedup();
            assert_eq!(found, [0, 1, 2], "{first}");
        }
        let mut found = Vec::new();
        matcher.search_behind(body.len(), body, &mut found);
        assert!(found.is_empty(), "nothing was added");
    }

    fn looked_for(rule: &str) -> Vec<String> {
        let set = RuleSet::load(&[("r", rule)], &LoadOptions::default(), &|_| None);
        assert_eq!(set.refused, []);
        let prefilter = Prefilter::new(&set);
        let rule = set.rules().next().unwrap();
        let step = match rule.fast {
            Some(Fast::Buffer(number, step)) => rule.buffers[number].steps.get(step),
            Some(Fast::Payload(step)) => rule.payload.get(step),
            None => None,
        };
        let alone = prefilter.tx_rules.len() + prefilter.any_packet_rules.len() + prefilter.packet_rules[6].len();
        assert_eq!(alone == 0, rule.fast.is_some());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        patterns(step).unwrap_or_default().into_iter().map(text).collect()
    }

    #[test]
    fn a_rarer_regular_expression_goes_before_a_common_content() {
        let http = "alert http any any -> any any";
        for (rule, expected) in [
            (r#"(http.uri; content:"("; pcre:"/(?:sleep|benchmark)\s+\(/i"; sid:1;)"#, vec!["sleep", "benchmark"]),
            (r#"(http.uri; content:"information_schema"; pcre:"/from|where/"; sid:1;)"#, vec!["information_schema"]),
            (r#"(http.uri; pcre:"/union.{1,9}select/i"; sid:1;)"#, vec!["select"]),
            (r#"(http.uri; pcre:!"/union.{1,9}select/i"; sid:1;)"#, vec![]),
            (r#"(http.uri; pcre:"/^\w+$/"; sid:1;)"#, vec![]),
            // The part that must not begin later than it did.
            (r#"(http.uri; content:"a"; http.header; pcre:"/longliteral/"; sid:1;)"#, vec!["a"]),
            (r#"(flowbits:isset,x; http.uri; content:"a"; pcre:"/longliteral/"; sid:1;)"#, vec!["a"]),
            (r#"(http.header; pcre:"/longliteral/"; http.request_body; content:!"a"; sid:1;)"#, vec![]),
            (r#"(http.uri; dataset:set,x,type string; pcre:"/longliteral/"; sid:1;)"#, vec![]),
        ] {
            assert_eq!(looked_for(&format!("{http} {rule}")), expected, "{rule}");
        }
        let tcp = r#"alert tcp any any -> any any (content:"a"; pcre:"/a+longliteral/"; sid:1;)"#;
        assert_eq!(looked_for(tcp), ["alongliteral"]);
    }
}
