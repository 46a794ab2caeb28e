//! Works through the steps of a rule on one buffer.
//!
//! A step that others follow relative to it is tried at each of its matches until the rest holds. The number of
//! tries is bounded, so hostile bytes cannot make it slow.

use base64::Engine as _;

use crate::app::File;
use crate::rules::content::Content;
use crate::rules::model::Step;
use crate::rules::number::Value;
use crate::rules::sets::DataSets;

/// Most tries for one list on one buffer.
const MOST_TRIES: u32 = 3000;
/// Most bytes that Base64 is decoded from.
const MOST_BASE64: usize = 64 << 10;

/// What a walk needs besides the bytes.
pub(crate) struct Walk<'a> {
    pub variables: &'a mut Vec<u64>,
    pub sets: &'a mut DataSets,
    pub file: Option<&'a File>,
    /// Nothing more is added to the buffer.
    pub last: bool,
    /// Captures by name, of the flow or the packet.
    pub captures: Option<&'a mut Vec<(String, Vec<u8>)>>,
    tries: u32,
}

/// Whether all steps hold, and whether further tries make sense.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Yes,
    No,
    /// Trying other places does not help.
    Never,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(variables: &'a mut Vec<u64>, sets: &'a mut DataSets) -> Self {
        Self { variables, sets, file: None, last: true, captures: None, tries: 0 }
    }

    /// Whether all steps hold on the bytes.
    pub(crate) fn holds(&mut self, steps: &[Step], data: &[u8]) -> bool {
        self.tries = 0;
        self.from(steps, data, 0) == Held::Yes
    }

    /// `place` is where the step before ended.
    fn from(&mut self, steps: &[Step], data: &[u8], place: usize) -> Held {
        self.tries += 1;
        if self.tries > MOST_TRIES {
            return Held::Never;
        }
        let Some((step, rest)) = steps.split_first() else { return Held::Yes };
        let next = |walk: &mut Self, holds: bool, place: usize| {
            if holds { walk.from(rest, data, place) } else { Held::No }
        };
        match step {
            Step::Content(content) => self.content(content, rest, data, place),
            Step::Pcre(pcre) => {
                let mut from = if pcre.relative { place } else { 0 };
                if !pcre.place_wanted && self.captures.is_none() {
                    let holds = pcre.is_match(data, from) != pcre.negated;
                    return next(self, holds, place);
                }
                loop {
                    let found = pcre.find(data, from);
                    match (found, pcre.negated) {
                        (None, true) => return self.from(rest, data, place),
                        (Some(_), true) | (None, false) => return Held::No,
                        (Some((start, end)), false) => {
                            if let Some(captures) = self.captures.as_mut() {
                                for (at, value) in pcre.captured(data, from) {
                                    if let Some(capture) = pcre.captures.get(at) {
                                        captures.push((capture.name.clone(), value));
                                    }
                                }
                            }
                            let held = self.from(rest, data, end);
                            if held != Held::No || !pcre.relative_next || start >= data.len() {
                                return held;
                            }
                            from = start + 1;
                        }
                    }
                }
            }
            Step::ByteTest(test) => {
                let holds = test.holds(data, place, self.variables);
                next(self, holds, place)
            }
            Step::ByteJump(jump) => match jump.land(data, place, self.variables) {
                Some(place) => self.from(rest, data, place),
                None => Held::No,
            },
            Step::ByteExtract(extract) => match extract.reading.read(data, place, self.variables) {
                Some((value, place)) => {
                    self.set(extract.into, value);
                    self.from(rest, data, place)
                }
                None => Held::No,
            },
            Step::ByteMath(math) => match math.compute(data, place, self.variables) {
                Some((value, place)) => {
                    self.set(math.into, value);
                    self.from(rest, data, place)
                }
                None => Held::No,
            },
            Step::IsDataAt(at) => {
                let holds = at.holds(data, place, self.variables);
                next(self, holds, place)
            }
            Step::Size(wanted) => {
                let holds = wanted.holds(data.len() as u64);
                next(self, holds, place)
            }
            Step::Absent { or_else } => next(self, *or_else, place),
            Step::DataSet(test) => {
                let holds = self.sets.test(test, data);
                next(self, holds, place)
            }
            Step::Reputation(test) => {
                let holds = self.sets.rated(test, data);
                next(self, holds, place)
            }
            Step::Base64 { bytes, offset, relative, steps } => {
                let start = if *relative { place } else { 0 } + *offset as usize;
                let end = bytes.map_or(data.len(), |count| (start + count as usize).min(data.len()));
                let encoded = data.get(start..end.min(start.saturating_add(MOST_BASE64))).unwrap_or_default();
                let decoded = decode_base64(encoded);
                if decoded.is_empty() || self.from(steps, &decoded, 0) != Held::Yes {
                    return Held::No;
                }
                self.from(rest, data, place)
            }
            Step::FileHash(hashes) => {
                let Some(hash) = self.file.and_then(|file| file.hash(hashes.length)) else { return Held::No };
                next(self, hashes.hashes.contains(&hash) != hashes.negated, place)
            }
            Step::FileSize(wanted) => {
                let holds = self.file.is_some_and(|file| file.closed && wanted.holds(file.size));
                next(self, holds, place)
            }
            Step::FileStore => next(self, true, place),
        }
    }

    fn content(&mut self, content: &Content, rest: &[Step], data: &[u8], place: usize) -> Held {
        let (mut from, to) = self.bounds(content, data.len(), place);
        loop {
            let found = if from > to { None } else { self.find(content, data, from, to) };
            let Some(start) = found else {
                return if content.negated { self.from(rest, data, place) } else { Held::No };
            };
            if content.negated {
                return Held::No;
            }
            let held = self.from(rest, data, start + content.bytes.len());
            if held != Held::No || !content.relative_next {
                return held;
            }
            from = start + 1;
        }
    }

    fn find(&self, content: &Content, data: &[u8], from: usize, to: usize) -> Option<usize> {
        let part = data.get(from..to)?;
        if content.ends {
            let start = data.len().checked_sub(content.bytes.len())?;
            return (to == data.len() && start >= from && content.is_at_end(data)).then_some(start);
        }
        content.find(part).map(|at| from + at)
    }

    /// Where the content may lie.
    fn bounds(&self, content: &Content, length: usize, place: usize) -> (usize, usize) {
        let number = |value: Option<Value>| -> i64 {
            match value {
                None => 0,
                Some(Value::Fixed(number)) => number,
                Some(Value::Variable(at)) => {
                    self.variables.get(at).map_or(0, |value| i64::try_from(*value).unwrap_or(i64::MAX / 4))
                }
            }
        };
        let clamp = |value: i64| usize::try_from(value.max(0)).unwrap_or(0);
        if content.is_relative() {
            let from = place as i64 + number(content.distance);
            let to = match content.within {
                Some(_) => clamp(from.saturating_add(number(content.within))).min(length),
                None => length,
            };
            return (clamp(from), to);
        }
        if content.starts {
            return (0, content.bytes.len().min(length));
        }
        let offset = number(content.offset);
        let to = match content.depth {
            Some(_) => clamp(offset.saturating_add(number(content.depth))).min(length),
            None => length,
        };
        (clamp(offset), to)
    }

    fn set(&mut self, into: usize, value: u64) {
        if self.variables.len() <= into {
            self.variables.resize(into + 1, 0);
        }
        if let Some(slot) = self.variables.get_mut(into) {
            *slot = value;
        }
    }
}

/// As much as can be decoded from the start; white space is passed over (RFC 2045).
fn decode_base64(data: &[u8]) -> Vec<u8> {
    let letters: Vec<u8> = data
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b' ' | b'\r' | b'\n' | b'\t'))
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        .collect();
    let whole = letters.len() - usize::from(letters.len() % 4 == 1);
    let engine = base64::engine::GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        base64::engine::GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
    );
    engine.decode(letters.get(..whole).unwrap_or_default()).unwrap_or_default()
}
