//! Field names of public Sigma rules to ECS, as data (`data/field-aliases.tsv`).
//!
//! Our own rules use ECS names and are not touched. A name is looked up under the rule's category, then its
//! product, then `*`.

use std::collections::HashMap;
use std::sync::LazyLock;

use rsigma_parser::{Detection, LogSource, SigmaRule};

static TABLE: LazyLock<HashMap<(&'static str, &'static str), &'static str>> = LazyLock::new(|| {
    include_str!("../data/field-aliases.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut parts = line.split('\t');
            Some(((parts.next()?, parts.next()?), parts.next()?))
        })
        .collect()
});

/// The ECS name of a rule's field.
pub(crate) fn ecs<'a>(source: &LogSource, name: &'a str) -> &'a str {
    [source.category.as_deref(), source.product.as_deref(), Some("*")]
        .into_iter()
        .flatten()
        .find_map(|scope| TABLE.get(&(scope, name)).copied())
        .unwrap_or(name)
}

/// Renames the fields of a rule.
pub(crate) fn rename(rule: &mut SigmaRule) {
    let source = rule.logsource.clone();
    for detection in rule.detection.named.values_mut() {
        rename_in(detection, &source);
    }
}

fn rename_in(detection: &mut Detection, source: &LogSource) {
    match detection {
        Detection::AllOf(items) => {
            for item in items {
                if let Some(name) = &mut item.field.name {
                    *name = ecs(source, name).to_owned();
                }
            }
        }
        Detection::AnyOf(parts) | Detection::And(parts) => {
            parts.iter_mut().for_each(|part| rename_in(part, source));
        }
        Detection::ArrayMatch { field, .. } => *field = ecs(source, field).to_owned(),
        Detection::Conditional { named, .. } => named.values_mut().for_each(|part| rename_in(part, source)),
        Detection::Keywords(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_model::catalog;

    #[test]
    fn every_alias_leads_to_a_field_of_the_catalog() {
        for ((scope, name), ecs) in TABLE.iter() {
            assert!(catalog::lookup(ecs).is_some(), "{scope} {name}: {ecs} is not in the catalog");
            assert!(catalog::lookup(name).is_none(), "{name} is itself a field");
        }
        assert!(TABLE.len() > 40);
    }

    #[test]
    fn a_name_means_what_its_category_says() {
        let web = LogSource { category: Some("webserver".into()), ..LogSource::default() };
        assert_eq!(ecs(&web, "sc-status"), "http.response.status_code");
        assert_eq!(ecs(&LogSource::default(), "sc-status"), "sc-status");
        assert_eq!(ecs(&web, "source.ip"), "source.ip");
    }
}
