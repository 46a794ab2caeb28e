//! `prevent_mode`: a module begins to act where it only looked before, provisionally.
//!
//! It is no order of anybody's: a policy that switches a module to prevent begins it, and the host takes it back by
//! itself unless it is confirmed. Pure part: [`switched`] finds what a new policy switches, [`order`] names it.

use sakimori_model::Order;
use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::{Fail, Mode, Policy, RuleMode, Switch};

use super::{Descriptor, Runs, Safety, TargetKind};
use crate::wide;

/// Slug.
pub const ID: &str = "prevent_mode";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Let a module act",
    title_ja: "モジュールを防御モードへ",
    config: &[("modules.<name>.mode", "detect or prevent")],
    inputs: &[],
    target: TargetKind::Setting,
    permissions: &["root on the host"],
    safety: Safety::Converge,
    undo: Some("the module only looks again"),
    expires: true,
    blast_radius: "what the module refuses, on one host, until it is confirmed or taken back",
    verification: "the manager answers and the host's services still accept connections",
    runs: Runs::Host,
};

/// Modules that could lock people out once they act, and whether a policy lets them act. One line a module.
pub const MODULES: &[(&str, fn(&Policy) -> bool)] = &[
    ("antimalware", |policy| {
        policy.modules.antimalware.state == Switch::On && policy.modules.antimalware.mode == Mode::Prevent
    }),
    ("intrusion_prevention", |policy| {
        let module = &policy.modules.intrusion_prevention;
        // One rule that is set to prevent drops, whatever the module's mode.
        let drops = module.mode == Mode::Prevent || module.overrides.iter().any(|one| one.mode == RuleMode::Prevent);
        module.state == Switch::On && drops
    }),
];

/// The setting of a module.
pub fn setting(module: &str) -> Target {
    Target::Setting(format!("modules.{module}.mode"))
}

/// Modules that act under a policy, by name.
pub fn acting(policy: &Policy) -> impl Iterator<Item = &'static str> + '_ {
    MODULES.iter().filter(|(_, acts)| acts(policy)).map(|(name, _)| *name)
}

/// Modules that act under the new policy and did not under the former one.
pub fn switched(before: &Policy, after: &Policy) -> Vec<&'static str> {
    let before: Vec<&str> = acting(before).collect();
    acting(after).filter(|name| !before.contains(name)).collect()
}

/// The order that stands for the switch of a module by the policy of this number.
pub fn order(module: &str, number: u64, host: &str) -> Order {
    let target = setting(module);
    let cause = Cause {
        by: format!("policy {number}"),
        title: format!("policy {number} lets {module} act"),
        ..Cause::default()
    };
    Order {
        id: wide::order_id(&format!("policy {number}"), ID, &target, host),
        action: ID.to_owned(),
        target,
        expiry: None,
        cause,
        via: None,
        probe: false,
        inputs: Default::default(),
        signatures: Vec::new(),
    }
}

/// The policy with a module that only looks: what applies where the switch was taken back.
pub fn only_looking(policy: &Policy, module: &str) -> Policy {
    let mut policy = policy.clone();
    match module {
        "antimalware" => policy.modules.antimalware.mode = Mode::Detect,
        "intrusion_prevention" => {
            let module = &mut policy.modules.intrusion_prevention;
            module.mode = Mode::Detect;
            // What only looks keeps nothing out, also while nobody can look.
            module.fail = Fail::Open;
            for one in module.overrides.iter_mut().filter(|one| one.mode == RuleMode::Prevent) {
                one.mode = RuleMode::Detect;
            }
        }
        _ => {}
    }
    policy
}

#[cfg(test)]
mod tests {
    use super::*;
    use sakimori_model::policy::{RuleOverride, default_layer, merge};

    #[test]
    fn a_switch_is_from_looking_or_off_to_acting() {
        let off = merge(&[default_layer()]).unwrap().policy;
        let mut acts = off.clone();
        acts.modules.antimalware.state = Switch::On;
        acts.modules.antimalware.mode = Mode::Prevent;
        acts.modules.intrusion_prevention.state = Switch::On;
        acts.modules.intrusion_prevention.mode = Mode::Prevent;
        assert_eq!(switched(&off, &acts), ["antimalware", "intrusion_prevention"]);
        assert!(switched(&acts, &acts).is_empty() && switched(&acts, &off).is_empty());
        for (module, acting_now) in MODULES {
            let looks = only_looking(&acts, module);
            assert!(!acting_now(&looks), "{module}: taken back it does not act");
            assert_eq!(switched(&looks, &acts), [*module]);
        }
    }

    #[test]
    fn one_rule_that_prevents_is_prevention_and_taken_back_nothing_is_kept_out() {
        let mut policy = merge(&[default_layer()]).unwrap().policy;
        let module = &mut policy.modules.intrusion_prevention;
        (module.state, module.fail) = (Switch::On, Fail::Closed);
        let rule = |rule, mode| RuleOverride { rule: Some(rule), group: None, mode };
        module.overrides = vec![rule(7, RuleMode::Off)];
        assert_eq!(acting(&policy).count(), 0);
        policy.modules.intrusion_prevention.overrides.push(rule(8, RuleMode::Prevent));
        assert_eq!(acting(&policy).collect::<Vec<_>>(), ["intrusion_prevention"]);
        let looks = only_looking(&policy, "intrusion_prevention").modules.intrusion_prevention;
        assert_eq!((looks.mode, looks.fail), (Mode::Detect, Fail::Open));
        assert_eq!(looks.overrides, [rule(7, RuleMode::Off), rule(8, RuleMode::Detect)]);
    }
}
