//! Who counts whom: correlations are put in an order in which whoever counts stands after whom he counts, and each
//! is linked to the rules and correlations that it names.

use sakimori_model::rule::Scope;
use sha2::{Digest, Sha256};

use crate::correlation::Correlation;
use crate::error::ContentError;
use crate::options::Options;
use crate::rule::{Meta, Rule, Written};

/// Who is counted and makes no alert for that.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    pub rules: Vec<bool>,
    pub correlations: Vec<bool>,
}

/// Who counts whom.
pub(crate) struct Graph {
    /// Of rules: who counts each, as (correlation, slot).
    pub rule_links: Vec<Vec<(usize, usize)>>,
    /// Of correlations.
    pub correlation_links: Vec<Vec<(usize, usize)>>,
    pub quiet: Quiet,
}

#[derive(Clone, Copy)]
enum Node {
    Rule(usize),
    Correlation(usize),
}

impl Graph {
    pub(crate) fn new(rules: &[Rule], correlations: usize) -> Self {
        Self {
            rule_links: vec![Vec::new(); rules.len()],
            correlation_links: Vec::with_capacity(correlations),
            quiet: Quiet { rules: vec![false; rules.len()], correlations: Vec::new() },
        }
    }

    /// Orders correlations so that who counts stands after whom it counts, and links them.
    pub(crate) fn place(
        &mut self,
        rules: &[Rule],
        mut written: Vec<Written>,
        options: &Options,
        errors: &mut Vec<ContentError>,
    ) -> Vec<Correlation> {
        let mut placed: Vec<Correlation> = Vec::new();
        loop {
            let before = written.len();
            let mut left = Vec::new();
            for one in written {
                let found: Option<Vec<Node>> =
                    one.rule.rules.iter().map(|name| find(name, &one.meta.file, rules, &placed)).collect();
                match found {
                    Some(nodes) => self.link(one, &nodes, rules, &mut placed, options, errors),
                    None => left.push(one),
                }
            }
            written = left;
            if written.is_empty() || written.len() == before {
                break;
            }
        }
        for one in written {
            let missing = one.rule.rules.iter().filter(|name| find(name, &one.meta.file, rules, &placed).is_none());
            let reason = format!(
                "it counts {}, which is no rule that loads, or counts this one",
                missing.cloned().collect::<Vec<_>>().join(", ")
            );
            // What it would have counted must not become alerts.
            for name in &one.rule.rules {
                if let Some(node) = find(name, &one.meta.file, rules, &placed) {
                    self.mute(node);
                }
            }
            errors.push(ContentError::new(&one.meta.file, one.meta.line, reason));
        }
        placed
    }

    fn link(
        &mut self,
        one: Written,
        nodes: &[Node],
        rules: &[Rule],
        placed: &mut Vec<Correlation>,
        options: &Options,
        errors: &mut Vec<ContentError>,
    ) {
        if !one.rule.generate {
            nodes.iter().for_each(|node| self.mute(*node));
        }
        let (file, line) = (one.meta.file.clone(), one.meta.line);
        let lateness = i64::from(options.lateness_seconds) * 1_000_000;
        let mut correlation = match Correlation::new(one.meta, &one.rule, lateness) {
            Ok(correlation) => correlation,
            Err(reason) => return errors.push(ContentError::new(file, line, reason)),
        };
        if correlation.meta.info.scope == Scope::Host && !correlation.stays_on_host() {
            let reason = "scope host needs host.name, host.id or agent.id under `group-by`";
            return errors.push(ContentError::new(file, line, reason));
        }
        let mut hash = Sha256::new();
        hash.update(correlation.meta.digest);
        let at = placed.len();
        for (slot, node) in nodes.iter().enumerate() {
            match node {
                Node::Rule(rule) => {
                    hash.update(rules.get(*rule).map_or([0; 32], |rule| rule.meta.digest));
                    if let Some(links) = self.rule_links.get_mut(*rule) {
                        links.push((at, slot));
                    }
                }
                Node::Correlation(other) => {
                    hash.update(placed.get(*other).map_or([0; 32], |other| other.definition));
                    if let Some(links) = self.correlation_links.get_mut(*other) {
                        links.push((at, slot));
                    }
                }
            }
        }
        correlation.definition = hash.finalize().into();
        placed.push(correlation);
        self.correlation_links.push(Vec::new());
        self.quiet.correlations.push(false);
    }

    fn mute(&mut self, node: Node) {
        let place = match node {
            Node::Rule(at) => self.quiet.rules.get_mut(at),
            Node::Correlation(at) => self.quiet.correlations.get_mut(at),
        };
        if let Some(place) = place {
            *place = true;
        }
    }
}

/// Whom a correlation names, by name, Sigma id or slug; in its own file first.
fn find(name: &str, file: &str, rules: &[Rule], correlations: &[Correlation]) -> Option<Node> {
    let is =
        |meta: &Meta| meta.name.as_deref() == Some(name) || meta.uuid.as_deref() == Some(name) || meta.info.id == name;
    let rule =
        |near: bool| rules.iter().position(|rule| is(&rule.meta) && (!near || rule.meta.file == file)).map(Node::Rule);
    let correlation = |near: bool| {
        correlations.iter().position(|one| is(&one.meta) && (!near || one.meta.file == file)).map(Node::Correlation)
    };
    rule(true).or_else(|| correlation(true)).or_else(|| rule(false)).or_else(|| correlation(false))
}
