//! `disks_snapshot`.

use sakimori_respond::actions::disks_snapshot::ID;
use sakimori_respond::ports::{Look, PortError, Progress};
use serde_json::{Value as Json, json};

use super::front::Fate;
use super::world::{Scene, assert_same, text, world};

/// An instance with three disks.
fn three_disks(scene: &Scene) -> String {
    let id = scene.instance(&[]);
    for device in ["/dev/sdf", "/dev/sdg"] {
        let zone = scene.call("ec2", "describe_instances", json!({ "InstanceIds": [id] }));
        let zone = &zone["Reservations"][0]["Instances"][0]["Placement"]["AvailabilityZone"];
        let disk =
            text(&scene.call("ec2", "create_volume", json!({ "Size": 8, "AvailabilityZone": zone }))["VolumeId"]);
        scene.call("ec2", "attach_volume", json!({ "VolumeId": disk, "InstanceId": id, "Device": device }));
    }
    id
}

/// The disks that this action has snapshots of, one entry a snapshot.
fn made(seen: &Json, action: &str) -> Vec<String> {
    let all = seen["snapshots"].as_object().unwrap().values();
    let mut disks: Vec<String> =
        all.filter(|one| one["tags"]["sakimori:action"] == action).map(|one| text(&one["disk"])).collect();
    disks.sort();
    disks
}

fn disks(seen: &Json, id: &str) -> Vec<String> {
    seen["instances"][id]["disks"].as_array().unwrap().iter().map(text).collect()
}

/// Each disk once, also where it is done again, and where an answer is lost.
pub fn once() {
    let scene = Scene::new("us-east-2");
    let id = three_disks(&scene);
    let before = scene.see();
    assert_eq!(disks(&before, &id).len(), 3);
    for lost in ["", "CreateSnapshots", "CreateSnapshot"] {
        let order = scene.order(ID, "instance", &id, &[]);
        let (former, would) = scene.ready(&order);
        assert!(
            would.iter().any(|line| disks(&before, &id).iter().all(|disk| line.contains(disk.as_str()))),
            "{would:?}"
        );
        let mut met = false;
        world().front.play(move |call| match call.operation == lost && !std::mem::replace(&mut met, true) {
            true => Fate::Lost,
            false => Fate::Answered,
        });
        let first = scene.apply(&order, &former);
        world().front.heal();
        assert_eq!(first.is_err(), lost == "CreateSnapshots", "{first:?}");
        assert!(first.is_ok() || first.unwrap_err().is_transient());
        let remark = scene.done(&order, &former).unwrap();
        let seen = scene.see();
        assert_eq!(made(&seen, &order.id), disks(&before, &id), "one of each disk, although lost: {lost:?}");
        assert!(disks(&before, &id).iter().all(|disk| remark.contains(disk.as_str())), "{remark}");
        scene.done(&order, &former);
        assert_same(&seen, &scene.see(), "done again");
        for one in seen["snapshots"].as_object().unwrap().values() {
            assert_eq!(one["tags"]["sakimori:instance"], json!(id));
        }
        let error = scene.undo(&order, &former).unwrap_err();
        assert!(error.to_string().contains("cannot be taken back"), "{error}");
        assert_same(&seen, &scene.see(), "evidence stays");
    }
    let mut after = scene.see();
    after["snapshots"] = before["snapshots"].clone();
    assert_same(&before, &after, "nothing but snapshots was made");
}

fn pending(text: String) -> String {
    text.replace("<status>completed</status>", "<status>pending</status>")
}

fn failed(text: String) -> String {
    text.replace("<status>completed</status>", "<status>error</status>")
}

/// It waits for AWS, and says where AWS failed.
pub fn waits_and_fails() {
    let scene = Scene::new("us-west-1");
    let id = three_disks(&scene);
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    world().front.play(|call| match call.operation == "DescribeSnapshots" {
        true => Fate::Changed(pending),
        false => Fate::Answered,
    });
    for _ in 0..3 {
        match scene.apply(&order, &former) {
            Ok(Progress::Pending { what, .. }) => assert!(what.contains("snap-"), "{what}"),
            other => panic!("{other:?}"),
        }
        assert!(scene.verify(&order, &former).unwrap().unwrap().contains("not complete"));
    }
    assert_eq!(made(&scene.see(), &order.id).len(), 3, "asking again makes no more");
    world().front.play(|call| match call.operation == "DescribeSnapshots" {
        true => Fate::Changed(failed),
        false => Fate::Answered,
    });
    match scene.apply(&order, &former) {
        Err(PortError::Permanent { reason }) => assert!(reason.contains("failed at AWS"), "{reason}"),
        other => panic!("{other:?}"),
    }
    world().front.heal();
    scene.done(&order, &former);
    assert_eq!(made(&scene.see(), &order.id).len(), 3);
}

/// The instance or its disks go before it is done.
pub fn what_goes() {
    let scene = Scene::new("us-west-2");
    let missing = scene.order(ID, "instance", "i-0a1b2c3d4e5f60718", &[]);
    assert!(matches!(scene.look(&missing), Ok(Look::NoEffect(_))));
    let id = three_disks(&scene);
    let before = disks(&scene.see(), &id);
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    scene.call("ec2", "terminate_instances", json!({ "InstanceIds": [id] }));
    let left: Vec<String> = {
        let seen = scene.see();
        before.iter().filter(|disk| !seen["volumes"][disk.as_str()].is_null()).cloned().collect()
    };
    assert!(!left.is_empty() && left.len() < before.len(), "some disks outlive the instance: {left:?} of {before:?}");
    // One of those that are left is deleted, too.
    scene.call("ec2", "delete_volume", json!({ "VolumeId": left[0] }));
    let remark = scene.done(&order, &former).unwrap();
    assert_eq!(made(&scene.see(), &order.id), left[1..], "what is left is kept");
    assert!(remark.contains(&format!("{} did not exist any more", left[0])), "{remark}");
    let order = scene.order(ID, "instance", &id, &[]);
    let former = json!({ "volumes": [left[0]] }).to_string();
    match scene.apply(&order, &former) {
        Err(PortError::Permanent { reason }) => assert!(reason.contains("do not exist any more"), "{reason}"),
        other => panic!("{other:?}"),
    }
}
