//! `instance_stop` and `instance_terminate`.

use sakimori_respond::actions::{
    instance, instance_detach, instance_isolate, instance_replace, instance_stop, instance_terminate,
};
use sakimori_respond::ports::{Look, PortError};
use serde_json::json;

use super::world::{Scene, assert_same, text};

/// Stopped and started; protected; gone meanwhile.
pub fn stop() {
    let scene = Scene::new("sa-east-1");
    let id = scene.instance(&[]);
    let make = || scene.order(instance_stop::ID, "instance", &id, &[]);
    let before = scene.see();
    let order = make();
    let (former, would) = scene.ready(&order);
    assert!(would[0].contains("in its memory is lost"), "{would:?}");
    assert!(scene.verify(&order, &former).unwrap().is_some());
    scene.done(&order, &former);
    let seen = scene.see();
    assert_eq!(seen["instances"][&id]["state"], "stopped");
    scene.done(&order, &former);
    assert_same(&seen, &scene.see(), "done again");
    assert!(matches!(scene.look(&make()), Ok(Look::NoEffect(_))), "stopped already");
    scene.undone(&order, &former);
    assert_same(&before, &scene.see(), "after the undo");
    scene.undone(&order, &former);
    assert_same(&before, &scene.see(), "undone twice");
    scene.sweep(make);

    let protect = |on: bool| {
        let asked = json!({ "InstanceId": id, "Attribute": "disableApiStop", "Value": on.to_string() });
        scene.call("ec2", "modify_instance_attribute", asked);
    };
    protect(true);
    match scene.look(&make()) {
        Ok(Look::Refused(reason)) => assert!(reason.contains("protected"), "{reason}"),
        found => panic!("{found:?}"),
    }
    protect(false);
    let order = make();
    let (former, _) = scene.ready(&order);
    scene.call("ec2", "terminate_instances", json!({ "InstanceIds": [id] }));
    assert!(matches!(scene.apply(&order, &former), Err(PortError::Permanent { .. })));
    assert!(scene.undone(&order, &former).unwrap().contains("terminated meanwhile"));
    assert!(matches!(scene.look(&make()), Ok(Look::NoEffect(_))));
    assert!(matches!(
        scene.look(&scene.order(instance_stop::ID, "instance", "i-0a1b2c3d", &[])),
        Ok(Look::NoEffect(_))
    ));
}

/// Terminated for good; a protected one stays.
pub fn terminate() {
    let scene = Scene::new("ca-central-1");
    let (id, other) = (scene.instance(&[]), scene.instance(&[]));
    let make = || scene.order(instance_terminate::ID, "instance", &id, &[]);
    let protect = |on: bool| {
        let asked = json!({ "InstanceId": id, "DisableApiTermination": { "Value": on } });
        scene.call("ec2", "modify_instance_attribute", asked);
    };
    protect(true);
    let before = scene.see();
    match scene.look(&make()) {
        Ok(Look::Refused(reason)) => assert!(reason.contains("protected from termination"), "{reason}"),
        found => panic!("{found:?}"),
    }
    // It is protected between look and effect: it stays, and trying again would not help.
    protect(false);
    let order = make();
    let (former, would) = scene.ready(&order);
    assert!(would[0].contains("cannot be taken back") && would[1].contains("vol-"), "{would:?}");
    protect(true);
    assert!(matches!(scene.apply(&order, &former), Err(PortError::Permanent { .. })));
    assert_same(&before, &scene.see(), "a protected one stays");
    protect(false);
    scene.done(&order, &former);
    let seen = scene.see();
    assert_eq!(
        (&seen["instances"][&id]["state"], &seen["instances"][&other]["state"]),
        (&json!("terminated"), &json!("running"))
    );
    scene.done(&order, &former);
    assert!(scene.undo(&order, &former).unwrap_err().to_string().contains("cannot be taken back"));
    assert!(matches!(scene.look(&make()), Ok(Look::NoEffect(_))));
    assert!(matches!(
        scene.look(&scene.order(instance_terminate::ID, "instance", "i-0a1b2c3d", &[])),
        Ok(Look::NoEffect(_))
    ));
}

/// What its owner marked is not interrupted, whoever asks.
pub fn protected() {
    let scene = Scene::new("il-central-1");
    let image = scene.call("ec2", "describe_images", json!({ "Owners": ["amazon"] }))["Images"][0]["ImageId"].clone();
    let asked = json!({ "LaunchConfigurationName": "web", "ImageId": image, "InstanceType": "t3.micro" });
    scene.call("autoscaling", "create_launch_configuration", asked);
    let asked = json!({
        "AutoScalingGroupName": "web", "LaunchConfigurationName": "web", "MinSize": 1, "MaxSize": 2, "DesiredCapacity": 1,
        "VPCZoneIdentifier": scene.subnet(),
    });
    scene.call("autoscaling", "create_auto_scaling_group", asked);
    let id = text(&scene.see()["scaling"]["web"]["instances"][0][0]);
    let asked = json!({ "Resources": [id], "Tags": [{ "Key": instance::PROTECTED, "Value": "the manager" }] });
    scene.call("ec2", "create_tags", asked);
    for action in
        [instance_isolate::ID, instance_detach::ID, instance_replace::ID, instance_stop::ID, instance_terminate::ID]
    {
        match scene.look(&scene.order(action, "instance", &id, &[])) {
            Ok(Look::Refused(reason)) => assert!(reason.contains("never interrupted"), "{action}: {reason}"),
            found => panic!("{action}: {found:?}"),
        }
    }
}
