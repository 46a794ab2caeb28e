//! `threshold`, `detection_filter`, and the global file that limits, suppresses and changes alerts.

use std::collections::HashMap;
use std::sync::Arc;

use super::ranges::Ranges;
use super::state::Track;
use super::variables::{Resolver, Variables};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThresholdKind {
    /// The first `count` of a time window.
    Limit,
    /// Every `count`-th.
    Threshold,
    /// Once a window, at the `count`-th.
    Both,
    /// From the `count`-th on.
    Detection,
}

/// How often a rule alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Threshold {
    pub kind: ThresholdKind,
    pub track: Track,
    pub count: u32,
    pub seconds: i64,
}

impl Threshold {
    /// The value of `threshold` or `detection_filter`.
    pub(crate) fn parse(value: &str, detection: bool) -> Result<Self, String> {
        let words = pairs(value)?;
        let get = |name: &str| words.get(name).map(String::as_str).ok_or_else(|| format!("'{name}' is missing"));
        let kind = if detection {
            ThresholdKind::Detection
        } else {
            match get("type")? {
                "limit" => ThresholdKind::Limit,
                "threshold" => ThresholdKind::Threshold,
                "both" => ThresholdKind::Both,
                other => return Err(format!("'{other}' is no type of threshold")),
            }
        };
        let number =
            |name: &str| get(name)?.parse().ok().filter(|number| *number > 0).ok_or("a number is wrong".to_owned());
        Ok(Self { kind, track: track(get("track")?)?, count: number("count")?, seconds: number("seconds")?.into() })
    }
}

fn pairs(value: &str) -> Result<HashMap<String, String>, String> {
    let mut words = HashMap::new();
    for part in super::variables::split_list(value) {
        let part = part.trim();
        let (name, value) = part.split_once(char::is_whitespace).ok_or_else(|| format!("'{part}' has no value"))?;
        words.insert(name.to_owned(), value.trim().to_owned());
    }
    Ok(words)
}

fn track(text: &str) -> Result<Track, String> {
    Ok(match text {
        "by_src" => Track::Src,
        "by_dst" => Track::Dst,
        "by_both" => Track::Pair,
        "by_either" => Track::Both,
        "by_rule" => Track::Rule,
        "by_flow" => Track::Flow,
        other => return Err(format!("'{other}' is nothing to track by")),
    })
}

/// What a rate filter changes a rule to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateFilter {
    pub threshold: Threshold,
    pub action: super::model::Action,
    /// Seconds.
    pub timeout: i64,
}

/// One line of the global file.
#[derive(Clone, Debug)]
pub(crate) struct GlobalRule {
    pub gid: u32,
    pub sid: u32,
    pub what: Global,
}

#[derive(Clone, Debug)]
pub(crate) enum Global {
    Suppress { track: Option<Track>, addresses: Arc<Ranges> },
    Filter(Threshold),
    Rate(RateFilter),
}

/// Reads a `threshold.config`; lines that cannot be read are listed.
pub(crate) fn read(text: &str, variables: &Variables) -> (Vec<GlobalRule>, Vec<(usize, String)>) {
    let mut resolver = Resolver::new(variables);
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    for (line, text) in super::syntax::rules(text) {
        match global(&text, &mut resolver) {
            Ok(rule) => rules.push(rule),
            Err(reason) => errors.push((line, reason)),
        }
    }
    (rules, errors)
}

fn global(text: &str, resolver: &mut Resolver<'_>) -> Result<GlobalRule, String> {
    let (kind, rest) = text.split_once(char::is_whitespace).ok_or("nothing follows the first word")?;
    // `gen_id 1, sig_id 2, …`: the parts are separated by commas.
    let words = pairs(rest)?;
    let number = |name: &str| -> Result<u32, String> {
        words.get(name).and_then(|text| text.parse().ok()).ok_or_else(|| format!("'{name}' is missing or no number"))
    };
    let word = |name: &str| words.get(name).map(String::as_str);
    let threshold = |kind: ThresholdKind| -> Result<Threshold, String> {
        let track = track(word("track").ok_or("'track' is missing")?)?;
        Ok(Threshold { kind, track, count: number("count")?, seconds: number("seconds")?.into() })
    };
    let what = match kind {
        "suppress" => {
            let track = word("track").map(track).transpose()?;
            let addresses = resolver.addresses(word("ip").unwrap_or("any"))?;
            Global::Suppress { track, addresses }
        }
        "threshold" | "event_filter" => Global::Filter(threshold(match word("type") {
            Some("limit") => ThresholdKind::Limit,
            Some("both") => ThresholdKind::Both,
            Some("threshold") => ThresholdKind::Threshold,
            _ => return Err("the type is missing or wrong".into()),
        })?),
        "rate_filter" => {
            let action = super::model::Action::parse(word("new_action").ok_or("'new_action' is missing")?);
            Global::Rate(RateFilter {
                threshold: threshold(ThresholdKind::Detection)?,
                action: action.ok_or("'new_action' is no action")?,
                timeout: number("timeout")?.into(),
            })
        }
        other => return Err(format!("'{other}' is unknown")),
    };
    Ok(GlobalRule { gid: number("gen_id")?, sid: number("sig_id")?, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        let threshold = Threshold::parse("type limit, track by_src, count 1, seconds 60", false).unwrap();
        assert_eq!((threshold.kind, threshold.track, threshold.seconds), (ThresholdKind::Limit, Track::Src, 60));
        assert!(Threshold::parse("type limit, track by_moon, count 1, seconds 60", false).is_err());
        let text = "suppress gen_id 1, sig_id 2, track by_src, ip [10.0.0.1,10.0.0.2]\nnonsense here\n";
        let (rules, errors) = read(text, &Variables::default());
        assert_eq!((rules.len(), errors.len(), errors[0].0), (1, 1, 2));
    }
}
