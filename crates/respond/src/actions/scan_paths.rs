//! `scan_paths`: a host looks for malware below some paths, by order of the manager or of a playbook.
//!
//! The pure part is [`scan`], which reads the order, and [`judge`]; the effect is [`crate::ports::PathScanner`]; its life
//! is [`crate::host`]. It only reads: what it finds goes the way of every find (alert, playbook, quarantine as the policy
//! says), and each of those is an action of its own with its own undo. So there is nothing to take back of a scan that is
//! over; one that is under way or waits is ended.

use sakimori_model::action::Target;
use sakimori_model::policy::{Antimalware, Scan, Switch};
use sakimori_model::{Order, Timestamp};
use serde_json::json;

use super::{Descriptor, Input, Runs, Safety, TargetKind};
use crate::guard::{Rate, Verdict};

/// Slug.
pub const ID: &str = "scan_paths";

/// Name of the input that lists more paths beside the target.
pub const PATHS: &str = "paths";
/// Name of the input that lists what is left out.
pub const EXCLUDE: &str = "exclude";
/// Name of the input that says how much processor time it may take.
pub const CPU: &str = "cpu_percent";
/// Name of the input that says that what is found stays where it is.
pub const REPORT_ONLY: &str = "report_only";

/// Most paths of an order, its target among them.
pub const MOST_PATHS: usize = 16;
/// Most scans of a host that are ordered and not over.
pub const MOST_LIVE: usize = 16;
/// Most scans that alerts may begin in a minute: a person is not held up by what a flood asked for.
pub const MOST_PER_MINUTE: u32 = 30;
/// Name of such a scan, as one by hand has it.
const NAME: &str = "manual";

/// What it is.
pub const DESCRIPTOR: Descriptor = Descriptor {
    id: ID,
    title_en: "Scan paths on the host for malware",
    title_ja: "ホストのパスをマルウェア検査",
    config: &[
        ("modules.antimalware.state", "on or off; off scans nothing by order"),
        ("modules.antimalware.mode", "prevent lets playbooks take away what is found, detect only says it"),
        ("modules.antimalware.max_size_mib", "files above it are counted and not judged"),
    ],
    inputs: &[
        Input { name: PATHS, about: "more paths beside the target: a JSON list, 16 paths in all", most: 16 << 10 },
        Input { name: EXCLUDE, about: "names and paths that are left out: a JSON list of patterns", most: 4 << 10 },
        Input { name: CPU, about: "share of a processor that it may take, 1 to 100", most: 3 },
        Input { name: REPORT_ONLY, about: "true: what is found stays where it is", most: 5 },
    ],
    target: TargetKind::File,
    permissions: &["root on the host"],
    safety: Safety::Keyed,
    undo: None,
    expires: false,
    blast_radius: "reads files below the paths, on one host, within the scan's share of a processor",
    verification: "the scan's own report: files that were judged, left out and not readable, and what was found",
    runs: Runs::Host,
};

/// The scan that an order asks for, checked as one of a policy is.
///
/// # Errors
/// What is wrong with it, and where.
pub fn scan(order: &Order) -> Result<Scan, String> {
    let Target::File(first) = &order.target else { return Err(format!("{ID} acts on a file or a folder")) };
    let known = |name: &str| DESCRIPTOR.inputs.iter().find(|input| input.name == name);
    for (name, value) in &order.inputs {
        match known(name) {
            None => return Err(format!("{ID} has no input {}", super::short(name))),
            Some(input) if value.len() > input.most => return Err(format!("{name} has at most {} bytes", input.most)),
            Some(_) => {}
        }
    }
    let list = |name: &str| match order.inputs.get(name) {
        None => Ok(Vec::new()),
        Some(text) => serde_json::from_str::<Vec<String>>(text).map_err(|_| format!("{name} is no JSON list of texts")),
    };
    let mut paths = vec![first.clone()];
    paths.extend(list(PATHS)?);
    if paths.len() > MOST_PATHS {
        return Err(format!("a scan has at most {MOST_PATHS} paths, found {}", paths.len()));
    }
    let report_only = match order.inputs.get(REPORT_ONLY).map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(format!("{REPORT_ONLY} is true or false")),
    };
    let mut raw = json!({
        "name": NAME, "paths": paths, "exclude": { "paths": list(EXCLUDE)? }, "network": false,
        "action": if report_only { "report" } else { "quarantine" },
    });
    if let (Some(text), Some(raw)) = (order.inputs.get(CPU), raw.as_object_mut()) {
        let percent: u32 = text.parse().map_err(|_| format!("{CPU} is 1 to 100"))?;
        raw.insert(CPU.to_owned(), percent.into());
    }
    serde_json::from_value(raw)
        .map_err(|error| error.to_string().replace(&format!("modules.antimalware.scans.{NAME}."), ""))
}

/// May this scan begin? `live` are scans that are ordered and not over, `rate` counts what alerts began lately.
pub fn judge(order: &Order, policy: &Antimalware, live: usize, rate: &mut Rate, now: Timestamp) -> Verdict {
    if let Err(reason) = scan(order) {
        return Verdict::Refused(reason);
    }
    if order.expiry.is_some_and(|end| end <= now) {
        return Verdict::Refused("its time was up before it could be carried out".to_owned());
    }
    if policy.state == Switch::Off {
        return Verdict::NoEffect("no effect: antimalware is off".to_owned());
    }
    if live >= MOST_LIVE {
        return Verdict::Refused(format!("{MOST_LIVE} scans are ordered and not over; take some back first"));
    }
    if !crate::wide::by_hand(&order.cause) && !rate.take(now, MOST_PER_MINUTE) {
        return Verdict::Refused(format!("the most scans a minute that alerts begin, {MOST_PER_MINUTE}, were begun"));
    }
    Verdict::Allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;
    use proptest::prelude::*;
    use sakimori_model::policy::{Found, default_layer, merge};

    fn order(target: &str, inputs: &[(&str, &str)]) -> Order {
        let mut order = crate::testing::order("a", "192.0.2.1");
        (order.action, order.target) = (ID.to_owned(), Target::File(target.to_owned()));
        order.inputs = inputs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        order
    }

    fn policy() -> Antimalware {
        let mut policy = merge(&[default_layer()]).unwrap().policy.modules.antimalware;
        policy.state = Switch::On;
        policy
    }

    #[test]
    fn an_order_is_a_scan_of_its_target_and_its_paths() {
        let inputs = [(PATHS, r#"["/srv","/opt"]"#), (EXCLUDE, r#"["*.iso"]"#), (CPU, "5"), (REPORT_ONLY, "true")];
        let scan = scan(&order("/tmp", &inputs)).unwrap();
        assert_eq!(
            (scan.paths, scan.exclude.paths),
            (vec!["/tmp".into(), "/srv".into(), "/opt".into()], vec!["*.iso".into()])
        );
        assert_eq!((scan.cpu_percent, scan.action, scan.network, scan.schedule), (5, Found::Report, false, None));
        assert_eq!(super::scan(&order("/tmp", &[])).unwrap().action, Found::Quarantine);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many = serde_json::to_string(&vec!["/x"; MOST_PATHS]).unwrap();
        let long = format!("/{}", "x".repeat(2_000));
        for (target, inputs, why) in [
            ("tmp", &[][..], "paths"),
            (long.as_str(), &[], "paths"),
            ("/a/../b", &[], "paths"),
            ("/tmp", &[(PATHS, "/srv")], "no JSON list"),
            ("/tmp", &[(PATHS, many.as_str())], "at most 16 paths"),
            ("/tmp", &[(CPU, "0")], "cpu_percent"),
            ("/tmp", &[(CPU, "1000")], "at most 3 bytes"),
            ("/tmp", &[(REPORT_ONLY, "yes")], "true or false"),
            ("/tmp", &[("shell", "id")], "no input shell"),
        ] {
            let Verdict::Refused(reason) = judge(&order(target, inputs), &policy(), 0, &mut Rate::default(), now(0))
            else {
                panic!("{target} {inputs:?}")
            };
            assert!(reason.contains(why), "{reason}");
        }
    }

    #[test]
    fn the_policy_its_time_and_the_bounds_have_their_say() {
        let (mut rate, fine) = (Rate::default(), order("/tmp", &[]));
        let mut late = fine.clone();
        late.expiry = Some(now(0));
        assert!(matches!(judge(&late, &policy(), 0, &mut rate, now(0)), Verdict::Refused(_)));
        let off = Antimalware { state: Switch::Off, ..policy() };
        assert!(matches!(judge(&fine, &off, 0, &mut rate, now(0)), Verdict::NoEffect(_)));
        assert!(matches!(judge(&fine, &policy(), MOST_LIVE, &mut rate, now(0)), Verdict::Refused(_)));
        let begun = (0..100).filter(|_| judge(&fine, &policy(), 0, &mut rate, now(0)) == Verdict::Allowed).count();
        assert_eq!(begun, 30);
        let mut by_hand = fine;
        by_hand.cause.alert.clear();
        assert_eq!(judge(&by_hand, &policy(), 0, &mut rate, now(0)), Verdict::Allowed, "a person is not held up");
    }

    proptest! {
        #[test]
        fn whatever_an_order_says_it_is_read_or_refused(target in ".{0,64}", name in "paths|exclude|cpu_percent|report_only|.{0,9}", value in ".{0,200}") {
            if let Ok(scan) = scan(&order(&target, &[(name.as_str(), value.as_str())])) {
                prop_assert!(scan.paths.len() <= MOST_PATHS && scan.paths.iter().all(|path| path.starts_with('/')));
            }
        }
    }
}
