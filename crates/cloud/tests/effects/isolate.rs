//! `instance_isolate`.

use sakimori_respond::actions::instance_isolate::ID;
use sakimori_respond::ports::{Look, PortError};
use serde_json::{Value as Json, json};

use super::front::Fate;
use super::world::{Scene, assert_same, text, world};

/// An instance with two interfaces, each with groups of its own.
fn two_interfaces(scene: &Scene) -> (String, Vec<String>) {
    let groups: Vec<String> = ["web", "ssh", "database"].iter().map(|name| scene.group(name)).collect();
    let id = scene.instance(&groups[..2]);
    let asked = json!({ "SubnetId": scene.subnet(), "Groups": [groups[2]] });
    let second = text(&scene.call("ec2", "create_network_interface", asked)["NetworkInterface"]["NetworkInterfaceId"]);
    let asked = json!({ "NetworkInterfaceId": second, "InstanceId": id, "DeviceIndex": 1 });
    scene.call("ec2", "attach_network_interface", asked);
    (id, groups)
}

fn of(seen: &Json, id: &str) -> Vec<(String, Json)> {
    let all = seen["interfaces"].as_object().unwrap().iter();
    all.filter(|(_, one)| one["instance"] == id).map(|(name, one)| (name.clone(), one["groups"].clone())).collect()
}

fn named(seen: &Json, name: &str) -> Vec<(String, Json)> {
    let all = seen["groups"].as_object().unwrap().iter();
    all.filter(|(_, one)| text(&one["name"]).starts_with(name)).map(|(id, one)| (id.clone(), one.clone())).collect()
}

/// There, verified, done again, and back.
pub fn there_and_back() {
    let scene = Scene::new("eu-west-1");
    let (id, _) = two_interfaces(&scene);
    let mut before = scene.see();
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, would) = scene.ready(&order);
    assert!(would.iter().any(|line| line.contains("make the security group sakimori-isolation")), "{would:#?}");
    assert!(would.iter().any(|line| line.contains("web, ssh") || line.contains("ssh, web")), "{would:#?}");
    assert_same(&before, &scene.see(), "after looking");
    assert!(scene.verify(&order, &former).unwrap().is_some(), "it is not so yet");

    assert_eq!(scene.done(&order, &former), None);
    let seen = scene.see();
    let [(isolation, group)] = &named(&seen, "sakimori-isolation")[..] else { panic!("{}", seen["groups"]) };
    assert_eq!(group["rules"], json!([]), "the isolation group allows nothing");
    assert_eq!(group["tags"], json!({ "sakimori:made-for": "isolation" }));
    assert_eq!(named(&seen, "sakimori-cut"), [], "what allows everything is gone");
    let interfaces = of(&seen, &id);
    assert_eq!(interfaces.len(), 2);
    for (interface, groups) in &interfaces {
        assert_eq!(groups, &json!([isolation]), "{interface}");
        let kept = text(&seen["instances"][&id]["tags"][format!("sakimori:groups:{}:{interface}", order.id)]);
        let mut kept: Vec<&str> = kept.split(' ').collect();
        kept.sort_unstable();
        assert_eq!(json!(kept), before["interfaces"][interface]["groups"], "the tag keeps what it had");
    }

    scene.done(&order, &former);
    assert_same(&seen, &scene.see(), "done again");
    assert!(matches!(scene.look(&scene.order(ID, "instance", &id, &[])), Ok(Look::NoEffect(_))), "isolated already");

    assert_eq!(scene.undone(&order, &former), None);
    // The isolation group stays in the VPC for the next time, as the guide says.
    before["groups"][isolation] = group.clone();
    assert_same(&before, &scene.see(), "after the undo");
    scene.undone(&order, &former);
    assert_same(&before, &scene.see(), "undone twice");
}

/// The way there goes over the group that tracks nothing, and a process may die at any change.
pub fn crashes() {
    let scene = Scene::new("eu-west-2");
    let (id, _) = two_interfaces(&scene);
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    scene.apply(&order, &former).unwrap();
    let seen = scene.see();
    let isolation = &named(&seen, "sakimori-isolation")[0].0;
    let calls = scene.calls.borrow().clone();
    for (interface, _) in of(&seen, &id) {
        let moves = calls.iter().filter(|call| call.operation == "ModifyNetworkInterfaceAttribute");
        let moves: Vec<String> = moves
            .filter(|call| call.parameter("NetworkInterfaceId").as_deref() == Some(interface.as_str()))
            .map(|call| call.parameter("SecurityGroupId.1").unwrap())
            .collect();
        assert!(
            moves.len() == 2 && moves[0] != *isolation && moves[1] == *isolation,
            "first cut, then isolated: {moves:?}"
        );
    }
    let opened = calls.iter().filter(|call| call.operation.starts_with("Authorize")).count();
    assert_eq!(opened, 4, "both directions, IPv4 and IPv6: then nothing is tracked");
    scene.undone(&order, &former);
    scene.sweep(|| scene.order(ID, "instance", &id, &[]));
    let order = scene.order(ID, "instance", &id, &[("connections", "keep")]);
    let (former, would) = scene.ready(&order);
    assert!(!would.iter().any(|line| line.contains("open all its ports")), "{would:?}");
    scene.done(&order, &former);
    assert!(!scene.changes().contains(&"AuthorizeSecurityGroupIngress".to_owned()), "nothing is opened");
}

/// The isolation group: one that is named, one that is of another VPC, one that is none, one that has rules.
pub fn groups_that_fit_and_groups_that_do_not() {
    let scene = Scene::new("eu-west-3");
    let (id, groups) = two_interfaces(&scene);
    let before = scene.see();
    // One that a person made for it, with rules.
    let order = scene.order(ID, "instance", &id, &[("isolation_group", &groups[0])]);
    let (former, would) = scene.ready(&order);
    assert!(would.iter().any(|line| line.contains("what they allow stays open")), "{would:?}");
    scene.done(&order, &former);
    let rules = |seen: &Json| seen["groups"][&groups[0]]["rules"].clone();
    let seen = scene.see();
    assert!(of(&seen, &id).iter().all(|(_, now)| *now == json!([groups[0]])));
    assert_eq!(rules(&seen), rules(&before), "its rules stay");
    scene.undone(&order, &former);
    assert_same(&before, &scene.see(), "after the undo");

    let other = text(&scene.call("ec2", "create_vpc", json!({ "CidrBlock": "10.9.0.0/16" }))["Vpc"]["VpcId"]);
    let asked = json!({ "GroupName": "far", "Description": "far", "VpcId": other });
    let far = text(&scene.call("ec2", "create_security_group", asked)["GroupId"]);
    for (group, why) in [(far.as_str(), "is not in"), ("sg-0a1b2c3d4e5f60718", "there is no security group")] {
        match scene.look(&scene.order(ID, "instance", &id, &[("isolation_group", group)])) {
            Ok(Look::Refused(reason)) => assert!(reason.contains(why), "{reason}"),
            found => panic!("{found:?}"),
        }
    }
    // One of our name that does not isolate.
    let wrong = scene.group("sakimori-isolation");
    match scene.look(&scene.order(ID, "instance", &id, &[])) {
        Ok(Look::Refused(reason)) => assert!(reason.contains("has rules"), "{reason}"),
        found => panic!("{found:?}"),
    }
    let all = json!([{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }]);
    scene.call("ec2", "revoke_security_group_egress", json!({ "GroupId": wrong, "IpPermissions": all }));
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    scene.done(&order, &former);
    assert_eq!(named(&scene.see(), "sakimori-isolation").len(), 1, "it is used, and no second one made");
    // It gets a rule afterwards: then nothing is isolated any more, and that is seen.
    let open = json!([{ "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{ "CidrIp": "10.0.0.0/8" }] }]);
    scene.call("ec2", "authorize_security_group_ingress", json!({ "GroupId": wrong, "IpPermissions": open }));
    assert!(scene.verify(&order, &former).unwrap().unwrap().contains("has rules"));
}

/// Others act while it is looked at, isolated and taken back.
pub fn others_act_meanwhile() {
    let scene = Scene::new("eu-central-1");
    let missing = scene.order(ID, "instance", "i-0a1b2c3d4e5f60718", &[]);
    match scene.look(&missing) {
        Ok(Look::NoEffect(reason)) => assert!(reason.contains("there is no instance"), "{reason}"),
        found => panic!("{found:?}"),
    }
    assert!(matches!(scene.look(&scene.order(ID, "instance", "all", &[])), Err(PortError::Permanent { .. })));

    // An interface comes between look and effect: it is isolated, too, and gets back what it had.
    let (id, groups) = two_interfaces(&scene);
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    let asked = json!({ "SubnetId": scene.subnet(), "Groups": [groups[0], groups[2]] });
    let third = text(&scene.call("ec2", "create_network_interface", asked)["NetworkInterface"]["NetworkInterfaceId"]);
    let asked = json!({ "NetworkInterfaceId": third, "InstanceId": id, "DeviceIndex": 2 });
    let attachment = text(&scene.call("ec2", "attach_network_interface", asked)["AttachmentId"]);
    let before = scene.see();
    let remark = scene.done(&order, &former).unwrap();
    assert!(remark.contains(&third) && remark.contains("came meanwhile"), "{remark}");
    let mut seen = scene.see();
    assert_eq!(of(&seen, &id).len(), 3);
    let isolation = named(&seen, "sakimori-isolation")[0].0.clone();
    assert!(of(&seen, &id).iter().all(|(_, now)| *now == json!([isolation])));
    scene.undone(&order, &former);
    seen = scene.see();
    assert_eq!(seen["interfaces"], before["interfaces"]);
    assert_eq!(seen["instances"], before["instances"]);

    // One goes, one is given other groups by a person, and a group is deleted before it is taken back.
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    scene.done(&order, &former);
    scene.call("ec2", "detach_network_interface", json!({ "AttachmentId": attachment }));
    scene.call("ec2", "delete_network_interface", json!({ "NetworkInterfaceId": third }));
    let by_hand = scene.group("by-hand");
    let interfaces = of(&scene.see(), &id);
    let second =
        interfaces.iter().find(|(name, _)| before["interfaces"][name]["groups"] == json!([groups[2]])).unwrap();
    let asked = json!({ "NetworkInterfaceId": second.0, "Groups": [by_hand] });
    scene.call("ec2", "modify_network_interface_attribute", asked);
    scene.call("ec2", "delete_security_group", json!({ "GroupId": groups[1] }));
    let remark = scene.undone(&order, &former).unwrap();
    for part in [third.as_str(), "does not exist any more", "by-hand meanwhile, which stays", &groups[1]] {
        assert!(remark.contains(part), "{part}: {remark}");
    }
    let seen = scene.see();
    assert_eq!(seen["interfaces"][&second.0]["groups"], json!([by_hand]), "what a person did stays");
    let first = of(&seen, &id).into_iter().find(|(name, _)| *name != second.0).unwrap();
    assert_eq!(first.1, json!([groups[0]]), "the group that is left is put back");
    assert_eq!(seen["instances"][&id]["tags"], before["instances"][&id]["tags"]);

    // It is terminated between look and effect, and before the undo.
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    scene.call("ec2", "terminate_instances", json!({ "InstanceIds": [id] }));
    for (interface, _) in of(&scene.see(), &id) {
        scene.call("ec2", "delete_network_interface", json!({ "NetworkInterfaceId": interface }));
    }
    assert!(matches!(scene.apply(&order, &former), Err(PortError::Permanent { .. })));
    assert!(scene.undone(&order, &former).unwrap().contains("does not exist any more"));
    assert!(matches!(scene.look(&scene.order(ID, "instance", &id, &[])), Ok(Look::NoEffect(_))));
}

/// What AWS refuses: a right that is missing stays one, and a group that is not free yet is waited for, within bounds.
pub fn what_is_refused() {
    let scene = Scene::new("ca-west-1");
    let (id, _) = two_interfaces(&scene);
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    let refuse = |operation: &'static str, code: &'static str, times: usize| {
        let mut left = times;
        world().front.play(move |call| match call.operation == operation && left > 0 {
            true => {
                left -= 1;
                Fate::RefusedAs(code)
            }
            false => Fate::Answered,
        });
    };
    refuse("ModifyNetworkInterfaceAttribute", "UnauthorizedOperation", usize::MAX);
    match scene.apply(&order, &former) {
        Err(PortError::Permanent { reason }) => {
            assert!(reason.contains("ec2:ModifyNetworkInterfaceAttribute"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    // As the driver does where an action fails for good: what was made of it is taken back.
    world().front.heal();
    scene.undone(&order, &former);
    let before = scene.see();
    assert_eq!(named(&before, "sakimori-cut"), []);

    refuse("DeleteSecurityGroup", "DependencyViolation", 1);
    assert_eq!(scene.done(&order, &former), None, "waited for");
    assert_eq!(named(&scene.see(), "sakimori-cut"), []);
    scene.undone(&order, &former);
    refuse("DeleteSecurityGroup", "DependencyViolation", usize::MAX);
    let remark = scene.done(&order, &former).unwrap();
    assert!(remark.contains("allows everything") && remark.contains("could not be deleted"), "{remark}");
    assert_eq!(named(&scene.see(), "sakimori-cut").len(), 1);
    world().front.heal();
    scene.undone(&order, &former);
    assert_same(&before, &scene.see(), "the undo deletes it, too");
}
