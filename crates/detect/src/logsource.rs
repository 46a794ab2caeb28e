//! Which events a rule's log source speaks of.
//!
//! A log source of ours says in `source.yaml` what its events are in Sigma's words, so `event.dataset` leads to a
//! list of (product, service, category). A rule looks at an event when one entry of the list has all that the rule
//! names. A dataset that nobody described, `aws.cloudtrail`, stands for product `aws`, service `cloudtrail`. An
//! event without a dataset (a stranger's ECS record in a hunt) is looked at by every rule.

use rsigma_parser::LogSource;

use crate::source::SigmaSource;

/// Does a rule with this log source look at such events?
pub(crate) fn applies(rule: &LogSource, events: Option<&[SigmaSource]>) -> bool {
    let Some(events) = events else { return true };
    let met = |asked: &Option<String>, has: &Option<String>| {
        asked.as_ref().is_none_or(|asked| has.as_ref().is_some_and(|has| has.eq_ignore_ascii_case(asked)))
    };
    let nothing = rule.product.is_none() && rule.service.is_none() && rule.category.is_none();
    nothing
        || events.iter().any(|event| {
            met(&rule.product, &event.product)
                && met(&rule.service, &event.service)
                && met(&rule.category, &event.category)
        })
}

/// What a dataset stands for that no source describes.
pub(crate) fn undescribed(dataset: &str) -> Vec<SigmaSource> {
    let (product, service) = dataset.split_once('.').map_or((dataset, None), |(one, other)| (one, Some(other)));
    vec![SigmaSource { product: Some(product.to_owned()), service: service.map(str::to_owned), category: None }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(product: &str, service: &str, category: &str) -> LogSource {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        LogSource { product: some(product), service: some(service), category: some(category), ..LogSource::default() }
    }

    #[test]
    fn one_entry_must_have_all_that_is_named() {
        let entry = |product: &str, service: &str| SigmaSource {
            product: Some(product.into()),
            service: Some(service.into()),
            category: None,
        };
        let auth = [entry("linux", "auth"), entry("linux", "sshd")];
        assert!(applies(&rule("linux", "", ""), Some(&auth)));
        assert!(applies(&rule("linux", "sshd", ""), Some(&auth)));
        assert!(applies(&rule("", "", ""), Some(&auth)));
        assert!(!applies(&rule("linux", "cron", ""), Some(&auth)));
        assert!(!applies(&rule("windows", "", ""), Some(&auth)));
        assert!(!applies(&rule("", "", "webserver"), Some(&auth)));
        assert!(applies(&rule("windows", "", ""), None), "an event of unknown origin is looked at by all");
    }

    #[test]
    fn a_dataset_that_is_not_described_speaks_for_itself() {
        let events = undescribed("aws.cloudtrail");
        assert!(applies(&rule("aws", "cloudtrail", ""), Some(&events)));
        assert!(!applies(&rule("aws", "waf", ""), Some(&events)));
    }
}
