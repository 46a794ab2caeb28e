//! `instance_collect`.

use sakimori_respond::actions::instance_collect::ID;
use sakimori_respond::actions::instance_collect::MAX_OUTPUT;
use sakimori_respond::ports::{Look, PortError, Progress};
use serde_json::json;

use super::front::Fate;
use super::world::{Scene, assert_same, world};

fn managed(scene: &Scene, ping: &str, platform: &str) -> String {
    let id = scene.instance(&[]);
    world().front.fake(|fake| fake.managed.insert(id.clone(), (ping.to_owned(), platform.to_owned())));
    id
}

fn ends(state: &str, output: &str, busy: usize) {
    world().front.fake(|fake| (fake.ends, fake.busy) = ((state.to_owned(), output.to_owned()), busy));
}

/// Sent once, waited for, and what it printed kept within bounds.
pub fn once() {
    let scene = Scene::new("eu-north-1");
    let id = managed(&scene, "Online", "Linux");
    for lost in [false, true] {
        let order = scene.order(ID, "instance", &id, &[("bucket", "triage.example")]);
        let before = scene.see();
        let (former, would) = scene.ready(&order);
        assert!(would[0].contains("the bucket triage.example"), "{would:?}");
        assert!(scene.verify(&order, &former).unwrap().unwrap().contains("no command"));
        ends("Success", "== processes\n1 0 root init\u{1b}[2J\n", 3);
        world().front.play(move |call| match lost && call.operation == "SendCommand" {
            true => Fate::Lost,
            false => Fate::Answered,
        });
        let first = scene.apply(&order, &former);
        world().front.heal();
        match first {
            Ok(Progress::Pending { .. }) if !lost => {}
            Err(PortError::Transient { .. }) if lost => {}
            other => panic!("{other:?}"),
        }
        let remark = scene.done(&order, &former).unwrap();
        assert!(remark.contains("1 0 root init") && !remark.contains('\u{1b}'), "{remark:?}");
        let mut seen = scene.see();
        let sent = seen["commands"].as_object().unwrap().values();
        let sent: Vec<_> = sent.filter(|one| one["comment"] == format!("sakimori {}", order.id)).cloned().collect();
        assert_eq!(sent.len(), 1, "sent once, although lost: {lost}");
        assert_eq!((&sent[0]["at"], &sent[0]["bucket"]), (&json!([id]), &json!("triage.example")));
        scene.done(&order, &former);
        assert_same(&seen, &scene.see(), "done again");
        assert!(scene.undo(&order, &former).unwrap_err().to_string().contains("cannot be taken back"));
        seen["commands"] = before["commands"].clone();
        assert_same(&before, &seen, "nothing but a command was sent");
    }
    ends("Success", &"x".repeat(24_000), 0);
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    let remark = scene.done(&order, &former).unwrap();
    assert!(remark.len() < MAX_OUTPUT + 200 && remark.contains("cut off"), "{}", remark.len());
}

/// Nobody answers, it is no Linux, it fails.
pub fn badly() {
    let scene = Scene::new("eu-south-1");
    for (ping, platform, refused, why) in
        [("ConnectionLost", "Linux", false, "does not answer"), ("Online", "Windows", true, "runs Windows")]
    {
        let id = managed(&scene, ping, platform);
        match scene.look(&scene.order(ID, "instance", &id, &[])) {
            Ok(Look::NoEffect(reason)) if !refused => assert!(reason.contains(why), "{reason}"),
            Ok(Look::Refused(reason)) if refused => assert!(reason.contains(why), "{reason}"),
            found => panic!("{found:?}"),
        }
    }
    match scene.look(&scene.order(ID, "instance", "i-0a1b2c3d4e5f60718", &[])) {
        Ok(Look::NoEffect(reason)) => assert!(reason.contains("AmazonSSMManagedInstanceCore"), "{reason}"),
        found => panic!("{found:?}"),
    }
    let id = managed(&scene, "Online", "Linux");
    assert!(matches!(
        scene.look(&scene.order(ID, "instance", &id, &[("bucket", "NO")])),
        Err(PortError::Permanent { .. })
    ));
    for state in ["Failed", "TimedOut", "Cancelled"] {
        let order = scene.order(ID, "instance", &id, &[]);
        let (former, _) = scene.ready(&order);
        ends(state, "sh: not found", 1);
        assert!(matches!(scene.apply(&order, &former), Ok(Progress::Pending { .. })));
        match scene.apply(&order, &former) {
            Err(PortError::Permanent { reason }) => {
                assert!(reason.contains(state) && reason.contains("sh: not found"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}
