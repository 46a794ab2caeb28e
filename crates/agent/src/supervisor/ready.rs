//! Whether this host is protected as its manager wants it now: enrolled, told by the manager which policy and which rules are
//! the newest, both in effect, and every module on that the policy switches on.
//!
//! What the newest is, the manager says at each connection. While it is away, what it said last counts: a host that was ready
//! stays so.

use sakimori_wire::status::AgentStatus;

use super::{Link, Supervisor};

impl Supervisor {
    /// What is missing, in words; empty where nothing is.
    pub(super) fn waits_for(&self, status: &AgentStatus) -> Vec<String> {
        let Some(link) = &self.link else { return vec!["this host is not enrolled".to_owned()] };
        let rules = Rules { on_trial: self.bundles.on_trial(), settled: self.logs.is_settled() };
        missing(Link::newest(link), status, rules)
    }
}

/// How far a bundle is.
#[derive(Clone, Copy)]
struct Rules {
    /// Is one being tried?
    on_trial: bool,
    /// Does the worker that reads logs use the rules that it was sent last?
    settled: bool,
}

fn missing(newest: Option<(u64, u64)>, status: &AgentStatus, rules: Rules) -> Vec<String> {
    let Some((policy, bundle)) = newest else {
        return vec!["the manager has not said yet which policy and rules are the newest".to_owned()];
    };
    let mut missing = Vec::new();
    if status.policy < policy {
        missing.push(format!("policy {} is in effect, and {policy} is the newest", status.policy));
    }
    if status.bundle < bundle {
        missing.push(format!("rule bundle {} is in use, and {bundle} is the newest", status.bundle));
    }
    if rules.on_trial {
        missing.push("a rule bundle is on trial".to_owned());
    }
    for module in &status.modules {
        let reads = module.id != crate::modules::log_inspection::DESCRIPTOR.id || rules.settled;
        match module.state.as_str() {
            "off" => {}
            "on" if reads => {}
            "on" => missing.push(format!("{} is loading its rules", module.id)),
            _ => missing.push(format!("{} is {}: {}", module.id, module.state, module.detail)),
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use sakimori_wire::status::ModuleStatus;

    use super::*;

    fn module(id: &str, state: &str) -> ModuleStatus {
        ModuleStatus { id: id.into(), state: state.into(), detail: "why".into(), ..Default::default() }
    }

    #[test]
    fn it_is_ready_once_the_newest_of_both_is_in_effect_and_every_module_is_on() {
        let modules = vec![module("log_inspection", "on"), module("antimalware", "off")];
        let status = AgentStatus { policy: 4, bundle: 7, modules, ..AgentStatus::default() };
        let good = Rules { on_trial: false, settled: true };
        assert_eq!(missing(Some((4, 7)), &status, good), Vec::<String>::new());
        // A manager that was set back does not make it unready.
        assert_eq!(missing(Some((3, 6)), &status, good), Vec::<String>::new());
        let one = |newest, status: &AgentStatus, rules| match missing(newest, status, rules).as_slice() {
            [one] => one.clone(),
            other => panic!("{other:?}"),
        };
        assert!(one(None, &status, good).contains("has not said yet"));
        assert!(one(Some((5, 7)), &status, good).contains("policy 4 is in effect, and 5"));
        assert!(one(Some((4, 8)), &status, good).contains("rule bundle 7 is in use, and 8"));
        assert!(one(Some((4, 7)), &status, Rules { on_trial: true, ..good }).contains("on trial"));
        assert!(one(Some((4, 7)), &status, Rules { settled: false, ..good }).contains("loading its rules"));
        let failing = AgentStatus { modules: vec![module("antimalware", "failing")], ..status.clone() };
        assert_eq!(one(Some((4, 7)), &failing, good), "antimalware is failing: why");
        // A host whose policy reads no logs has no worker that loads rules.
        let none = AgentStatus { modules: vec![module("log_inspection", "off")], ..status };
        assert_eq!(missing(Some((4, 7)), &none, Rules { settled: false, ..good }), Vec::<String>::new());
    }
}
