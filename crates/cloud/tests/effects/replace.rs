//! `instance_replace`.

use sakimori_respond::actions::instance_replace::ID;
use sakimori_respond::ports::{Look, PortError};
use serde_json::{Value as Json, json};

use super::front::Fate;
use super::world::{Scene, assert_same, text, world};

/// A group that wants two instances, of at most four; one of them.
fn group(scene: &Scene) -> String {
    let image = scene.call("ec2", "describe_images", json!({ "Owners": ["amazon"] }))["Images"][0]["ImageId"].clone();
    let asked = json!({ "LaunchConfigurationName": "web", "ImageId": image, "InstanceType": "t3.micro" });
    scene.call("autoscaling", "create_launch_configuration", asked);
    let asked = json!({
        "AutoScalingGroupName": "web", "LaunchConfigurationName": "web", "MinSize": 1, "MaxSize": 4, "DesiredCapacity": 2,
        "VPCZoneIdentifier": scene.subnet(),
    });
    scene.call("autoscaling", "create_auto_scaling_group", asked);
    text(&scene.see()["scaling"]["web"]["instances"][0][0])
}

fn states(seen: &Json) -> Vec<String> {
    let all = seen["scaling"]["web"]["instances"].as_array().unwrap();
    let mut states: Vec<String> = all.iter().map(|one| text(&one[1])).collect();
    states.sort();
    states
}

fn has(seen: &Json, id: &str) -> bool {
    seen["scaling"]["web"]["instances"].as_array().unwrap().iter().any(|one| one[0] == id)
}

/// It leaves the group, another one comes; attached again, it is protected as before.
pub fn detach() {
    let scene = Scene::new("ap-south-1");
    let id = group(&scene);
    let asked = json!({ "AutoScalingGroupName": "web", "InstanceIds": [id], "ProtectedFromScaleIn": true });
    scene.call("autoscaling", "set_instance_protection", asked);
    let before = scene.see();
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, would) = scene.ready(&order);
    assert!(would.iter().any(|line| line.contains("after the undo the group wants one more")), "{would:?}");
    assert!(scene.verify(&order, &former).unwrap().is_some());
    let remark = scene.done(&order, &former).unwrap();
    assert!(remark.contains("launches another"), "{remark}");
    let seen = scene.see();
    assert!(!has(&seen, &id));
    assert_eq!(seen["scaling"]["web"]["desired"], 2);
    assert_eq!(states(&seen), ["InService", "InService"], "another is in its place");
    assert_eq!(seen["instances"][&id]["state"], "running", "it stays for the investigation");
    scene.done(&order, &former);
    assert_same(&seen, &scene.see(), "done again");
    assert!(matches!(scene.look(&scene.order(ID, "instance", &id, &[])), Ok(Look::NoEffect(_))));
    let remark = scene.undone(&order, &former).unwrap();
    assert!(remark.contains("wants 3 instances now, 2 before"), "{remark}");
    let after = scene.see();
    let mine = |seen: &Json| {
        let all = seen["scaling"]["web"]["instances"].as_array().unwrap();
        all.iter().find(|one| one[0] == id.as_str()).cloned()
    };
    assert_eq!(mine(&after), mine(&before), "in service and protected as before");
    assert_eq!(after["instances"][&id], before["instances"][&id]);
    scene.undone(&order, &former);
    assert_same(&after, &scene.see(), "undone twice");
}

/// On standby with one less all is as before after the undo; with another in its place there is one more.
pub fn standby() {
    let scene = Scene::new("ap-southeast-1");
    let id = group(&scene);
    let before = scene.see();
    let less = || scene.order(ID, "instance", &id, &[("how", "standby"), ("decrement", "yes")]);
    let order = less();
    let (former, _) = scene.ready(&order);
    scene.done(&order, &former);
    let seen = scene.see();
    assert_eq!(
        (states(&seen), &seen["scaling"]["web"]["desired"]),
        (vec!["InService".into(), "Standby".into()], &json!(1))
    );
    assert!(matches!(scene.look(&less()), Ok(Look::NoEffect(_))), "on standby already");
    scene.done(&order, &former);
    assert_same(&seen, &scene.see(), "done again");
    assert_eq!(scene.undone(&order, &former), None);
    assert_same(&before, &scene.see(), "after the undo");
    scene.undone(&order, &former);
    assert_same(&before, &scene.see(), "undone twice");
    scene.sweep(less);
    // Answers are lost and nothing else breaks: what changes the desired capacity is not repeated by the SDK.
    let lose = |operation: &'static str| {
        let mut met = false;
        world().front.play(move |call| match call.operation == operation && !std::mem::replace(&mut met, true) {
            true => Fate::Lost,
            false => Fate::Answered,
        });
    };
    let order = less();
    let (former, _) = scene.ready(&order);
    lose("EnterStandby");
    scene.done(&order, &former);
    assert_same(&seen, &scene.see(), "one less, although the answer was lost");
    lose("ExitStandby");
    match scene.undo(&order, &former) {
        Err(error) => assert!(error.is_transient(), "{error}"),
        other => panic!("{other:?}"),
    }
    scene.undone(&order, &former);
    world().front.heal();
    assert_same(&before, &scene.see(), "after the undo, although its answer was lost");

    let asked = json!({ "AutoScalingGroupName": "web", "MinSize": 2 });
    scene.call("autoscaling", "update_auto_scaling_group", asked);
    match scene.look(&less()) {
        Ok(Look::Refused(reason)) => assert!(reason.contains("minimum of 2"), "{reason}"),
        found => panic!("{found:?}"),
    }
    let order = scene.order(ID, "instance", &id, &[("how", "standby")]);
    let (former, _) = scene.ready(&order);
    assert!(scene.done(&order, &former).unwrap().contains("launches another"));
    let seen = scene.see();
    assert_eq!(seen["scaling"]["web"]["desired"], 2);
    assert!(states(&seen).contains(&"Standby".to_owned()));
    // A full group takes none back, until a person makes room.
    let asked = json!({ "AutoScalingGroupName": "web", "MaxSize": 2 });
    scene.call("autoscaling", "update_auto_scaling_group", asked);
    match scene.undo(&order, &former) {
        Err(PortError::Permanent { reason }) => assert!(reason.contains("at its maximum of 2"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let asked = json!({ "AutoScalingGroupName": "web", "MaxSize": 4 });
    scene.call("autoscaling", "update_auto_scaling_group", asked);
    assert!(scene.undone(&order, &former).unwrap().contains("wants 3 instances now, 2 before"));
}

/// It waits in a hook of its launch, out of which it cannot leave.
pub fn hooked() {
    let scene = Scene::new("ap-northeast-3");
    let id = group(&scene);
    for (name, transition) in [("warm-up", "LAUNCHING"), ("scan", "LAUNCHING"), ("drain", "TERMINATING")] {
        let asked = json!({
            "AutoScalingGroupName": "web", "LifecycleHookName": name,
            "LifecycleTransition": format!("autoscaling:EC2_INSTANCE_{transition}"),
        });
        scene.call("autoscaling", "put_lifecycle_hook", asked);
    }
    let wait = || {
        world().front.fake(|fake| fake.hooked.insert(id.clone(), ("web".to_owned(), "scan".to_owned())));
    };
    wait();
    match scene.look(&scene.order(ID, "instance", &id, &[])) {
        Err(error) => assert!(error.is_transient() && error.to_string().contains("Pending:Wait"), "{error}"),
        other => panic!("{other:?}"),
    }
    let order = scene.order(ID, "instance", &id, &[("hook", "complete")]);
    let (former, would) = scene.ready(&order);
    assert!(would[0].contains("warm-up") && would[0].contains("scan") && !would[0].contains("drain"), "{would:?}");
    // The answer is lost once: what was completed is not there to be completed again, and it goes on.
    let mut met = false;
    world().front.play(move |call| match call.operation == "CompleteLifecycleAction" && call.body.contains("scan") {
        true if !std::mem::replace(&mut met, true) => Fate::Lost,
        _ => Fate::Answered,
    });
    let remark = scene.done(&order, &former).unwrap();
    world().front.heal();
    assert!(remark.contains("launches another"), "{remark}");
    assert!(world().front.fake(|fake| fake.hooked.is_empty()));
    assert!(!has(&scene.see(), &id), "it left its group");
    assert!(scene.undone(&order, &former).unwrap().contains("wants 3 instances now, 2 before"));
    // It came into service by itself between look and effect.
    let order = scene.order(ID, "instance", &id, &[("hook", "complete"), ("how", "standby")]);
    wait();
    let (former, _) = scene.ready(&order);
    world().front.fake(|fake| fake.hooked.clear());
    scene.done(&order, &former);
    assert!(states(&scene.see()).contains(&"Standby".to_owned()));
    scene.undone(&order, &former);
    let wrong = scene.order(ID, "instance", &id, &[("hook", "abandon")]);
    assert!(matches!(scene.look(&wrong), Err(PortError::Permanent { .. })));
}

/// It is in no group; it goes; its group goes.
pub fn others_act_meanwhile() {
    let scene = Scene::new("ap-southeast-2");
    let alone = scene.instance(&[]);
    match scene.look(&scene.order(ID, "instance", &alone, &[])) {
        Ok(Look::NoEffect(reason)) => assert!(reason.contains("in no Auto Scaling group"), "{reason}"),
        found => panic!("{found:?}"),
    }
    let id = group(&scene);
    let order = scene.order(ID, "instance", &id, &[("how", "standby")]);
    let (former, _) = scene.ready(&order);
    let asked = json!({ "AutoScalingGroupName": "web", "InstanceIds": [id], "ShouldDecrementDesiredCapacity": true });
    scene.call("autoscaling", "detach_instances", asked);
    match scene.apply(&order, &former) {
        Err(PortError::Permanent { reason }) => assert!(reason.contains("left the group web meanwhile"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(scene.undone(&order, &former).unwrap().contains("left the group web meanwhile"));
    let asked = json!({ "AutoScalingGroupName": "web", "InstanceIds": [id] });
    scene.call("autoscaling", "attach_instances", asked);
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    scene.done(&order, &former);
    scene.call(
        "autoscaling",
        "delete_auto_scaling_group",
        json!({ "AutoScalingGroupName": "web", "ForceDelete": true }),
    );
    assert!(scene.undone(&order, &former).unwrap().contains("web was deleted meanwhile"));
    scene.call("ec2", "terminate_instances", json!({ "InstanceIds": [id] }));
    assert!(scene.undone(&order, &former).unwrap().contains("terminated meanwhile"));
}
