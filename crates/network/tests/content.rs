//! Our own rules against the conversations beside them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sakimori_network::testcases::{self, Case, Cut, Outcome};
use sakimori_network::{Action, LoadOptions, RuleSet};

fn files(ending: &str) -> BTreeMap<String, String> {
    let folder = "../../content/network";
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let wanted = paths.filter(|path| path.extension().is_some_and(|end| end == ending));
    wanted
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

fn rules() -> RuleSet {
    let files = files("rules");
    let named: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    RuleSet::load(&named, &LoadOptions::default(), &|_| None)
}

fn cases() -> BTreeMap<String, Vec<Case>> {
    let read = |(name, text): (String, String)| {
        let cases = testcases::read(&text).unwrap_or_else(|(line, why)| panic!("{name}.tests:{line}: {why}"));
        (name, cases)
    };
    files("tests").into_iter().map(read).collect()
}

fn named(outcome: &Outcome) -> &[u32] {
    match outcome {
        Outcome::Pass => &[],
        Outcome::Alert(sids) | Outcome::Drop(sids) => sids,
    }
}

#[test]
fn every_rule_loads_and_says_what_it_is() {
    let rules = rules();
    assert!(rules.refused.is_empty(), "{:#?}", rules.refused);
    assert!(rules.len() >= 80, "{}", rules.len());
    for rule in rules.rules() {
        for name in ["severity", "technique", "title_ja"] {
            assert!(rule.metadata.iter().any(|(key, value)| key == name && !value.is_empty()), "{}: {name}", rule.sid);
        }
        assert!(!rule.msg.is_empty() && rule.rev > 0 && rule.class.is_some(), "{}", rule.sid);
        // From high on playbooks block the sender; a name that a host itself asks for has none outside.
        let calm = rule.metadata.iter().any(|(key, value)| key == "severity" && ["low", "medium"].contains(&&**value));
        assert!(calm || rule.action != Action::Alert || rule.sid == 9_100_306, "{}: records only", rule.sid);
        assert!(
            !rule.references.is_empty(),
            "{}: a hole by its number, or a class of weaknesses or techniques",
            rule.sid
        );
    }
}

#[test]
fn every_conversation_ends_as_it_says_however_it_is_cut() {
    let rules = Arc::new(rules());
    let mut failures = Vec::new();
    let mut count = 0;
    for (file, cases) in cases() {
        count += cases.len();
        failures
            .extend(cases.iter().flat_map(|case| case.failures(&rules)).map(|failure| format!("{file}: {failure}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{} rules, {count} conversations", rules.len());
}

#[test]
fn every_rule_has_an_attack_of_its_own_and_every_file_benign_neighbours() {
    let mut found = BTreeSet::new();
    for (file, cases) in cases() {
        let attacks = cases.iter().filter(|case| !named(&case.outcome).is_empty()).count();
        assert!(cases.len() - attacks >= attacks / 3, "{file}: {attacks} attacks of {} cases", cases.len());
        found.extend(cases.iter().flat_map(|case| named(&case.outcome).to_vec()));
    }
    let missing: Vec<u32> = rules().rules().map(|rule| rule.sid).filter(|sid| !found.contains(sid)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A rule without one of its conditions that still passes all cases has a condition that nothing asks for.
#[test]
fn every_content_of_a_rule_is_asked_for_by_a_case() {
    let sources = files("rules");
    let cases = cases();
    let mut unasked = Vec::new();
    for (file, text) in &sources {
        for line in text.lines().filter(|line| line.contains("sid:")) {
            for mutant in mutants(line) {
                let set = Arc::new(RuleSet::load(&[("m", &mutant)], &LoadOptions::default(), &|_| None));
                // What does not load without its condition needs it.
                let Some(sid) = set.rules().next().map(|rule| rule.sid) else { continue };
                let same = cases.values().flatten().all(|case| {
                    let fires = named(&case.play(&set, Cut::Whole)).contains(&sid);
                    fires == named(&case.outcome).contains(&sid)
                });
                if same {
                    unasked.push(format!("{file}: {mutant}"));
                }
            }
        }
    }
    assert!(unasked.is_empty(), "{} conditions that no case asks for:\n{}", unasked.len(), unasked.join("\n"));
}

/// The rule with one of its regular expressions taken away, or one of its contents.
///
/// A content that says `fast_pattern` and is followed by a regular expression of the same buffer only says where that
/// one is worth trying: without it the same is found, more slowly.
fn mutants(line: &str) -> Vec<String> {
    let Some((head, options)) = line.split_once('(') else { return Vec::new() };
    let parts: Vec<&str> = options.split("; ").collect();
    let is_condition = |part: &&str| part.starts_with("pcre:") || part.starts_with("content:");
    let narrows = |at: usize| {
        let behind = parts.get(at + 1..).unwrap_or_default();
        let own = behind.iter().take_while(|part| !is_condition(part) && !part.contains('.'));
        let next = behind.iter().find(|part| is_condition(part) || part.starts_with("http."));
        own.into_iter().any(|part| *part == "fast_pattern") && next.is_some_and(|part| part.starts_with("pcre:"))
    };
    let wanted = |at: &usize| !parts[*at].starts_with("content:") || !narrows(*at);
    let places = parts.iter().enumerate().filter(|(_, part)| is_condition(part)).map(|(at, _)| at).filter(wanted);
    places
        .map(|out| {
            let kept: Vec<&str> =
                parts.iter().enumerate().filter(|(at, _)| *at != out).map(|(_, part)| *part).collect();
            format!("{head}({}", kept.join("; "))
        })
        .collect()
}
