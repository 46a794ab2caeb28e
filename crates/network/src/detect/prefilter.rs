//! Which rules are worth a look: one search a kind of buffer finds the rules' most selective patterns, whatever
//! their number; rules without a pattern are always worth one.

use std::collections::HashMap;

use super::needles::Needles;
use crate::rules::RuleSet;
use crate::rules::buffers::Buffer;
use crate::rules::model::{Fast, Rule, Step};
use crate::rules::transform::Transform;

/// Patterns of one buffer.
#[derive(Debug)]
pub(crate) struct Matcher {
    pub buffer: Option<Buffer>,
    pub transforms: Vec<Transform>,
    needles: Needles,
    /// Rules of each pattern.
    rules: Vec<Vec<u32>>,
}

impl Matcher {
    fn new(buffer: Option<Buffer>, transforms: Vec<Transform>, patterns: HashMap<Vec<u8>, Vec<u32>>) -> Self {
        let (patterns, rules): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
        Self { buffer, transforms, needles: Needles::new(patterns), rules }
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
}

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
        let mut payload: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
        let mut buffers: Vec<(Buffer, Vec<Transform>, HashMap<Vec<u8>, Vec<u32>>)> = Vec::new();
        for (at, rule) in set.rules.iter().enumerate() {
            let at = at as u32;
            if rule.is_ip_only() {
                prefilter.ip_only.push(at);
                continue;
            }
            match rule.fast {
                Some(Fast::Payload(step)) => match pattern(rule.payload.get(step)) {
                    Some(pattern) => payload.entry(pattern).or_default().push(at),
                    None => prefilter.without(rule, at),
                },
                Some(Fast::Buffer(number, step)) => {
                    let test = rule.buffers.get(number);
                    let found = test.and_then(|test| Some((test, pattern(test.steps.get(step))?)));
                    let Some((test, pattern)) = found else {
                        prefilter.without(rule, at);
                        continue;
                    };
                    let known = buffers.iter_mut().find(|known| test.same_place(&known.0, &known.1));
                    match known {
                        Some(known) => known.2.entry(pattern).or_default().push(at),
                        None => {
                            let patterns = HashMap::from([(pattern, vec![at])]);
                            buffers.push((test.buffer, test.transforms.clone(), patterns));
                        }
                    }
                }
                None => prefilter.without(rule, at),
            }
        }
        prefilter.payload = Some(payload).filter(|map| !map.is_empty()).map(|map| Matcher::new(None, Vec::new(), map));
        let buffers = buffers.into_iter();
        prefilter.buffers =
            buffers.map(|(buffer, transforms, map)| Matcher::new(Some(buffer), transforms, map)).collect();
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

fn pattern(step: Option<&Step>) -> Option<Vec<u8>> {
    match step {
        Some(Step::Content(content)) => Some(content.bytes.to_ascii_lowercase()).filter(|bytes| !bytes.is_empty()),
        _ => None,
    }
}
