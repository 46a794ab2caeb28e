//! The rights that descriptors ask for are those that the code uses: no more, no less.

use std::collections::BTreeSet;

use sakimori_respond::actions::{
    self, Runs, desktop_isolate, desktop_stop, disks_snapshot, instance_collect, instance_detach, instance_isolate,
    instance_replace, instance_stop, instance_terminate, port_close,
};

use super::world::world;

/// Actions whose calls these tests cause.
const TRIED: &[&str] = &[
    desktop_isolate::ID,
    desktop_stop::ID,
    disks_snapshot::ID,
    instance_collect::ID,
    instance_detach::ID,
    instance_isolate::ID,
    instance_replace::ID,
    instance_stop::ID,
    instance_terminate::ID,
    port_close::ID,
];

/// Compares the descriptors with all that was called.
pub fn are_what_is_called() {
    let used = world().used.lock().unwrap();
    for id in TRIED {
        let known = actions::find(id).unwrap();
        assert_eq!(known.runs, Runs::Account);
        let wanted: BTreeSet<String> = known.permissions.iter().map(|right| (*right).to_owned()).collect();
        let called = used.get(*id).cloned().unwrap_or_default();
        let more: Vec<_> = called.difference(&wanted).collect();
        assert!(more.is_empty(), "{id} uses rights that it does not ask for: {more:?}");
        let idle: Vec<_> = wanted.difference(&called).collect();
        assert!(idle.is_empty() || !world().whole, "{id} asks for rights that it does not use: {idle:?}");
    }
}
