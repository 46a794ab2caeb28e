//! Mutants of a Sigma rule: the rule with one condition taken away or one bound moved.
//!
//! A rule's tests prove something only if each part of the rule is needed to pass them. So every mutant must
//! fail at least one of them:
//! - a selection in the condition that always holds, or never does;
//! - a field of a selection with several fields, taken out;
//! - a value of a list of values, taken out;
//! - of a correlation: the threshold one lower and one higher, a window eight times as long, a field of the
//!   grouping taken out, a rule of an order taken out.

use std::collections::BTreeSet;

use serde::Deserialize;
use yaml_serde::{Mapping, Value};

/// A changed rule file.
pub struct Mutant {
    /// What was changed, for people.
    pub change: String,
    /// The whole file, changed.
    pub text: String,
}

/// All mutants of a rule file, which may hold several documents.
pub fn of(text: &str) -> anyhow::Result<Vec<Mutant>> {
    let documents = yaml_serde::Deserializer::from_str(text).map(Value::deserialize).collect::<Result<Vec<_>, _>>()?;
    let mut mutants = Vec::new();
    for (at, document) in documents.iter().enumerate() {
        let mut changed = Vec::new();
        detection(document, &mut changed);
        correlation(document, &mut changed);
        for (change, document) in changed {
            let mut all = documents.clone();
            if let Some(place) = all.get_mut(at) {
                *place = document;
            }
            let texts = all.iter().map(yaml_serde::to_string).collect::<Result<Vec<_>, _>>()?;
            mutants.push(Mutant { change: format!("document {}: {change}", at + 1), text: texts.join("---\n") });
        }
    }
    Ok(mutants)
}

fn detection(document: &Value, out: &mut Vec<(String, Value)>) {
    let Some(Value::Mapping(detection)) = document.get("detection") else { return };
    let with = |detection: Mapping| {
        let mut document = document.clone();
        if let Value::Mapping(map) = &mut document {
            map.insert("detection".into(), Value::Mapping(detection));
        }
        document
    };
    for (name, selection) in detection.iter().filter_map(|(name, selection)| Some((name.as_str()?, selection))) {
        if name == "condition" {
            for word in words(selection.as_str().unwrap_or_default()) {
                for (is, holds) in [("always holds", true), ("never holds", false)] {
                    let mut changed = detection.clone();
                    changed.insert(word.clone().into(), constant(holds));
                    out.push((format!("{word} {is}"), with(changed)));
                }
            }
            continue;
        }
        let Value::Mapping(fields) = selection else { continue };
        for (field, values) in fields {
            let label = field.as_str().unwrap_or_default();
            if fields.len() > 1 {
                let mut fewer = fields.clone();
                fewer.remove(field);
                let mut changed = detection.clone();
                changed.insert(name.into(), Value::Mapping(fewer));
                out.push((format!("{name} without {label}"), with(changed)));
            }
            let Value::Sequence(values) = values else { continue };
            for (at, value) in values.iter().enumerate() {
                let fewer = values.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, value)| value.clone());
                let mut map = fields.clone();
                map.insert(field.clone(), Value::Sequence(fewer.collect()));
                let mut changed = detection.clone();
                changed.insert(name.into(), Value::Mapping(map));
                out.push((format!("{name}: {label} without {value:?}"), with(changed)));
            }
        }
    }
}

fn correlation(document: &Value, out: &mut Vec<(String, Value)>) {
    let Some(Value::Mapping(correlation)) = document.get("correlation") else { return };
    let mut push = |change: String, key: &str, value: Value| {
        let mut changed = correlation.clone();
        changed.insert(key.into(), value);
        let mut document = document.clone();
        if let Value::Mapping(map) = &mut document {
            map.insert("correlation".into(), Value::Mapping(changed));
        }
        out.push((change, document));
    };
    if let Some(Value::Mapping(condition)) = correlation.get("condition")
        && let Some(number) = condition.get("gte").and_then(Value::as_i64)
    {
        for moved in [number - 1, number + 1] {
            let mut condition = condition.clone();
            condition.insert("gte".into(), moved.into());
            push(format!("threshold {moved}"), "condition", Value::Mapping(condition));
        }
    }
    if let Some(span) = correlation.get("timespan").and_then(Value::as_str)
        && let Some(unit) = span.chars().last()
        && let Ok(number) = span.trim_end_matches(unit).parse::<u64>()
    {
        push(format!("window {}{unit}", number * 8), "timespan", format!("{}{unit}", number * 8).into());
    }
    for (key, least) in [("group-by", 1), ("rules", 2)] {
        let Some(Value::Sequence(items)) = correlation.get(key) else { continue };
        if items.len() < least {
            continue;
        }
        for (at, item) in items.iter().enumerate() {
            let fewer = items.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, item)| item.clone());
            push(format!("{key} without {item:?}"), key, Value::Sequence(fewer.collect()));
        }
    }
}

/// Names of selections in a condition.
fn words(condition: &str) -> BTreeSet<String> {
    condition
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty() && !["and", "or", "not"].contains(word))
        .map(str::to_owned)
        .collect()
}

/// A selection that holds for every event of the tests (each has a host), or for none.
fn constant(holds: bool) -> Value {
    Value::Mapping(Mapping::from_iter([("host.name|exists".into(), holds.into())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_rule_has_its_mutant() {
        let text = "detection:\n  a:\n    x: 1\n    y: [2, 3]\n  condition: a\n---\ncorrelation:\n  type: event_count\n  rules: [r]\n  group-by: [g, h]\n  timespan: 2m\n  condition: { gte: 5 }\n";
        let changes: Vec<_> = of(text).unwrap().into_iter().map(|mutant| mutant.change).collect();
        assert_eq!(changes.len(), 2 + 2 + 2 + 2 + 1 + 2, "{changes:#?}");
        assert!(of("detection: [").is_err());
    }
}
