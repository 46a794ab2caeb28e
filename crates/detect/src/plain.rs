//! Rules that only ask for texts to be equal, or fields to be there: most of what is counted.
//!
//! A condition that is one selection, whose every item asks that a field be one of some ASCII texts whatever their
//! case, or that it be there, is decided here: compared in place, where the general evaluator makes two copies of
//! every value. On anything but ASCII text the general evaluator decides. The test of equality with the reference covers both.

use rsigma_eval::{CompiledDetection, CompiledMatcher, CompiledRule};
use rsigma_parser::ConditionExpr;
use sakimori_model::catalog::FieldId;
use sakimori_model::{Event, Value};

use crate::names;

/// All of these fields are one of their texts, or just there where no texts are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plain(Vec<(FieldId, Vec<String>)>);

impl Plain {
    /// Of a rule that is no more than this.
    pub(crate) fn of(rule: &CompiledRule) -> Option<Self> {
        let [ConditionExpr::Identifier(name)] = rule.conditions.as_slice() else { return None };
        let CompiledDetection::AllOf(items) = rule.detections.get(name)? else { return None };
        let asked = items.iter().map(|item| {
            let field = names::lookup(item.field.as_deref()?)?;
            let mut texts = Vec::new();
            match item.exists {
                Some(true) => Some((field, texts)),
                Some(false) => None,
                None => collect(&item.matcher, &mut texts).then_some((field, texts)),
            }
        });
        asked.collect::<Option<Vec<_>>>().filter(|asked| !asked.is_empty()).map(Self)
    }

    /// Does it match? `None` where the general evaluator must say.
    pub(crate) fn matches(&self, event: &Event) -> Option<bool> {
        for (field, texts) in &self.0 {
            // Without a slot there may still be a value of another type in the rest.
            let value = event.get(*field)?;
            if texts.is_empty() {
                continue;
            }
            let mut found = false;
            for one in value.each() {
                match one {
                    Value::Str(text) if text.is_ascii() => {
                        found = found || texts.iter().any(|wanted| wanted.eq_ignore_ascii_case(text));
                    }
                    _ => return None,
                }
            }
            if !found {
                return Some(false);
            }
        }
        Some(true)
    }
}

fn collect(matcher: &CompiledMatcher, texts: &mut Vec<String>) -> bool {
    match matcher {
        CompiledMatcher::Exact { value, case_insensitive: true } if value.is_ascii() => {
            texts.push(value.clone());
            true
        }
        CompiledMatcher::AnyOf(parts) => !parts.is_empty() && parts.iter().all(|part| collect(part, texts)),
        CompiledMatcher::CaseInsensitiveGroup { children, mode: rsigma_eval::matcher::GroupMode::Any } => {
            !children.is_empty() && children.iter().all(|part| collect(part, texts))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_model::field;

    fn plain(detection: &str) -> Option<Plain> {
        let text = format!("title: t\nlogsource: {{ product: linux }}\ndetection:\n{detection}\nlevel: low\n");
        let collection = rsigma_parser::parse_sigma_yaml(&text).unwrap();
        Plain::of(&rsigma_eval::compile_rule(&collection.rules[0]).unwrap())
    }

    #[test]
    fn only_what_is_plain_is_taken() {
        let found =
            plain("  a:\n    event.action: [login, Logout]\n    event.outcome: failure\n  condition: a").unwrap();
        let mut event = Event::new();
        event.set(field::EVENT_ACTION, "LOGOUT");
        assert_eq!(found.matches(&event), None, "what is absent is for the evaluator");
        event.set(field::EVENT_OUTCOME, "failure");
        assert_eq!(found.matches(&event), Some(true));
        event.set(field::EVENT_OUTCOME, "success");
        assert_eq!(found.matches(&event), Some(false));
        event.set(field::EVENT_OUTCOME, "ｆailure");
        assert_eq!(found.matches(&event), None);
        let there = plain("  a:\n    event.action: x\n    source.ip|exists: true\n  condition: a").unwrap();
        event.set(field::EVENT_ACTION, "x");
        assert_eq!(there.matches(&event), None, "it may be in the rest");
        event.set(field::SOURCE_IP, "192.0.2.1".parse::<std::net::IpAddr>().unwrap());
        assert_eq!(there.matches(&event), Some(true));
        for other in [
            "  a:\n    event.action|exists: false\n  condition: a",
            "  a:\n    event.action|contains: x\n  condition: a",
            "  a:\n    event.action|cased: x\n  condition: a",
            "  a:\n    event.action: x\n  condition: not a",
            "  a:\n    acme.x: x\n  condition: a",
            "  a:\n    event.action: [x, null]\n  condition: a",
            "  a:\n    event.action: 'x*'\n  condition: a",
        ] {
            assert_eq!(plain(other), None, "{other}");
        }
    }
}
