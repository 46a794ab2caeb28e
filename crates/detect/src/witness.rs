//! What a rule cannot match without.
//!
//! For each rule a set of witnesses is found of which at least one holds on every event that the rule matches. It
//! may be too weak (then the rule is looked at more often than needed), never too strong (then a match would be
//! lost). So whatever is not understood gives no witness, and a rule without one is looked at for every event.
//!
//! A rule's `and` needs one of its parts, the one that is hardest to meet; an `or` needs all of them; a `not`
//! gives nothing. Texts are compared in lower case, as the evaluator does; a text with case (`|cased`) is used in
//! lower case too where it is ASCII, since what equals it also equals it without case.

use rsigma_eval::{CompiledDetection, CompiledDetectionItem, CompiledMatcher, CompiledRule};
use rsigma_parser::{ArrayQuantifier, ConditionExpr, Quantifier};

/// One necessary condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Witness {
    /// The field, or an element of it, is this text.
    Is(String, String),
    /// The field, or an element of it, holds this text.
    Holds(String, String),
    /// Some text of the event holds this.
    Anywhere(String),
    /// The field is there.
    Present(String),
}

/// Any of these, or nothing is known.
pub(crate) type Witnesses = Option<Vec<Witness>>;

/// The witnesses of a rule.
pub(crate) fn of(rule: &CompiledRule) -> Witnesses {
    let mut found = any(rule.conditions.iter().map(|condition| of_condition(condition, rule)))?;
    found.sort();
    found.dedup();
    (!found.is_empty()).then_some(found)
}

fn of_condition(condition: &ConditionExpr, rule: &CompiledRule) -> Witnesses {
    match condition {
        ConditionExpr::Identifier(name) => of_detection(rule.detections.get(name)?),
        ConditionExpr::And(parts) => all(parts.iter().map(|part| of_condition(part, rule))),
        ConditionExpr::Or(parts) => any(parts.iter().map(|part| of_condition(part, rule))),
        ConditionExpr::Not(_) => None,
        ConditionExpr::Selector { quantifier, pattern } => {
            let selected: Vec<_> = rule
                .detections
                .iter()
                .filter(|(name, _)| pattern.matches_detection_name(name))
                .map(|(_, detection)| of_detection(detection))
                .collect();
            match quantifier {
                // Nothing selected: it always holds.
                Quantifier::Count(0) => None,
                Quantifier::All => all(selected.into_iter()),
                Quantifier::Any | Quantifier::Count(_) => any(selected.into_iter()),
            }
        }
    }
}

fn of_detection(detection: &CompiledDetection) -> Witnesses {
    match detection {
        CompiledDetection::AllOf(items) => all(items.iter().map(of_item)),
        CompiledDetection::And(parts) => all(parts.iter().map(of_detection)),
        CompiledDetection::AnyOf(parts) => any(parts.iter().map(of_detection)),
        CompiledDetection::Keywords(matcher) => of_matcher(matcher, None),
        CompiledDetection::ArrayMatch { field, quantifier: ArrayQuantifier::Any | ArrayQuantifier::All, .. } => {
            Some(vec![Witness::Present(field.clone())])
        }
        CompiledDetection::ArrayMatch { .. } | CompiledDetection::Conditional { .. } => None,
    }
}

fn of_item(item: &CompiledDetectionItem) -> Witnesses {
    let Some(field) = item.field.as_deref() else { return of_matcher(&item.matcher, None) };
    let present = || Some(vec![Witness::Present(field.to_owned())]);
    match item.exists {
        Some(true) => present(),
        Some(false) => None,
        // An absent field satisfies this one matcher alone.
        None if matches!(item.matcher, CompiledMatcher::Null) => None,
        None => of_matcher(&item.matcher, Some(field)).or_else(present),
    }
}

fn of_matcher(matcher: &CompiledMatcher, field: Option<&str>) -> Witnesses {
    let holds = |text: &str| -> Witnesses {
        let text = folded(text)?;
        Some(vec![match field {
            Some(field) => Witness::Holds(field.to_owned(), text),
            None => Witness::Anywhere(text),
        }])
    };
    match matcher {
        CompiledMatcher::Exact { value, .. } => match field {
            Some(field) => Some(vec![Witness::Is(field.to_owned(), folded(value)?)]),
            None => holds(value),
        },
        CompiledMatcher::Contains { value, .. }
        | CompiledMatcher::StartsWith { value, .. }
        | CompiledMatcher::EndsWith { value, .. } => holds(value),
        CompiledMatcher::AhoCorasickSet { needles, .. } => any(needles.iter().map(|needle| holds(needle))),
        CompiledMatcher::AnyOf(parts) => any(parts.iter().map(|part| of_matcher(part, field))),
        // In a field that is a list, each part may be met by another element; each is needed all the same.
        CompiledMatcher::AllOf(parts) => all(parts.iter().map(|part| of_matcher(part, field))),
        CompiledMatcher::CaseInsensitiveGroup { children, mode } => match mode {
            rsigma_eval::matcher::GroupMode::Any => any(children.iter().map(|part| of_matcher(part, field))),
            rsigma_eval::matcher::GroupMode::All => all(children.iter().map(|part| of_matcher(part, field))),
        },
        _ => None,
    }
}

/// The text in lower case, where lowering it letter by letter is what the evaluator does.
fn folded(text: &str) -> Option<String> {
    (!text.is_empty() && text.is_ascii()).then(|| text.to_ascii_lowercase())
}

/// One of the parts is met: the witnesses of all.
fn any(parts: impl Iterator<Item = Witnesses>) -> Witnesses {
    let mut union = Vec::new();
    let mut some = false;
    for part in parts {
        union.extend(part?);
        some = true;
    }
    some.then_some(union)
}

/// Every part is met: the witnesses of the one that is hardest to meet.
fn all(parts: impl Iterator<Item = Witnesses>) -> Witnesses {
    parts.flatten().min_by_key(|set| (set.iter().map(ease).max().unwrap_or(u8::MAX), set.len()))
}

/// How easily it is met.
fn ease(witness: &Witness) -> u8 {
    match witness {
        Witness::Is(..) => 0,
        Witness::Holds(_, text) => {
            if text.len() >= 6 {
                1
            } else {
                2
            }
        }
        Witness::Anywhere(text) => {
            if text.len() >= 6 {
                3
            } else {
                4
            }
        }
        Witness::Present(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witnesses(detection: &str) -> Witnesses {
        let text = format!("title: t\nlogsource: {{ product: linux }}\ndetection:\n{detection}\nlevel: low\n");
        let collection = rsigma_parser::parse_sigma_yaml(&text).unwrap();
        assert!(collection.errors.is_empty(), "{:?}", collection.errors);
        of(&rsigma_eval::compile_rule(&collection.rules[0]).unwrap())
    }

    fn is(field: &str, text: &str) -> Witness {
        Witness::Is(field.into(), text.into())
    }

    #[test]
    fn an_and_needs_its_hardest_part() {
        let found = witnesses("  a:\n    event.action: ssh_login\n    user.name|contains: x\n  condition: a");
        assert_eq!(found, Some(vec![is("event.action", "ssh_login")]));
    }

    #[test]
    fn an_or_needs_all_its_parts() {
        let found =
            witnesses("  a:\n    user.name: [Root, admin]\n  b:\n    url.path|contains: /x\n  condition: a or b");
        let holds = Witness::Holds("url.path".into(), "/x".into());
        assert_eq!(found, Some(vec![is("user.name", "admin"), is("user.name", "root"), holds]));
    }

    #[test]
    fn what_matches_in_absence_has_no_witness() {
        assert_eq!(witnesses("  a:\n    user.name: null\n  condition: a"), None);
        assert_eq!(witnesses("  a:\n    user.name|exists: false\n  condition: a"), None);
        assert_eq!(witnesses("  a:\n    user.name: root\n  condition: not a"), None);
        assert_eq!(witnesses("  a:\n    user.name: root\n  b:\n    user.id: null\n  condition: 1 of them"), None);
    }

    #[test]
    fn what_is_no_text_needs_its_field() {
        let present = Some(vec![Witness::Present("source.ip".into())]);
        assert_eq!(witnesses("  a:\n    source.ip|cidr: 10.0.0.0/8\n  condition: a"), present);
        assert_eq!(witnesses("  a:\n    source.ip|re: '.*1$'\n  condition: a"), present);
    }

    #[test]
    fn keywords_are_looked_for_anywhere() {
        assert_eq!(witnesses("  a: [Segfault]\n  condition: a"), Some(vec![Witness::Anywhere("segfault".into())]));
    }
}
