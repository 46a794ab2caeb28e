//! `port_close`.

use sakimori_respond::actions::port_close::ID;
use sakimori_respond::ports::{Look, PortError};
use serde_json::{Value as Json, json};

use super::world::{Scene, assert_same};

/// A group with rules that open ssh, some of them to the world.
fn open(scene: &Scene) -> String {
    let group = scene.group("bastion");
    let rule = |ports: (u16, u16), source: Json| {
        let mut rule = json!({ "IpProtocol": "tcp", "FromPort": ports.0, "ToPort": ports.1 });
        rule.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        rule
    };
    let world = |about: &str| json!({ "IpRanges": [{ "CidrIp": "0.0.0.0/0", "Description": about }] });
    for (permission, tags) in [
        (rule((22, 22), world("for the night shift")), json!([{ "Key": "owner", "Value": "ops" }])),
        (rule((22, 22), json!({ "Ipv6Ranges": [{ "CidrIpv6": "::/0" }] })), json!([])),
        (rule((20, 25), world("old")), json!([])),
        (rule((443, 443), world("the site")), json!([])),
        (rule((22, 22), json!({ "IpRanges": [{ "CidrIp": "203.0.113.0/24", "Description": "office" }] })), json!([])),
    ] {
        let mut asked = json!({ "GroupId": group, "IpPermissions": [permission] });
        if tags != json!([]) {
            asked["TagSpecifications"] = json!([{ "ResourceType": "security-group-rule", "Tags": tags }]);
        }
        scene.call("ec2", "authorize_security_group_ingress", asked);
    }
    group
}

fn rules(scene: &Scene, group: &str) -> Vec<Json> {
    let seen = scene.see();
    let list = seen["groups"][group]["rules"].as_array().unwrap();
    list.iter()
        .map(|rule| serde_json::from_str(rule.as_str().unwrap()).unwrap())
        .filter(|rule: &Json| rule["out"] == false)
        .collect()
}

/// What opens ssh to the world goes, nothing else does, and all of it comes back.
pub fn there_and_back() {
    let scene = Scene::new("ap-southeast-3");
    let group = open(&scene);
    let before = scene.see();
    let make = || scene.order(ID, "security_group", &group, &[("port", "22")]);
    let order = make();
    let (former, would) = scene.ready(&order);
    assert_eq!(would.len(), 3, "{would:?}");
    assert!(would.iter().any(|line| line.contains("ports 20 to 25 of tcp from 0.0.0.0/0")), "{would:?}");
    assert!(scene.verify(&order, &former).unwrap().is_some());
    assert_eq!(scene.done(&order, &former), None);
    let left = rules(&scene, &group);
    let left: Vec<&Json> = left.iter().map(|rule| &rule["about"]).collect();
    assert_eq!((left.len(), left.contains(&&json!("the site")), left.contains(&&json!("office"))), (2, true, true));
    let seen = scene.see();
    scene.done(&order, &former);
    assert_same(&seen, &scene.see(), "done again");
    match scene.look(&make()) {
        Ok(Look::NoEffect(reason)) => assert!(reason.contains("does not open port 22"), "{reason}"),
        found => panic!("{found:?}"),
    }
    assert_eq!(scene.undone(&order, &former), None);
    assert_same(&before, &scene.see(), "after the undo, with descriptions and tags");
    scene.undone(&order, &former);
    assert_same(&before, &scene.see(), "undone twice");
    scene.sweep(make);

    let order = scene.order(ID, "security_group", &group, &[("port", "22"), ("cidr", "203.0.113.0/24")]);
    let (former, would) = scene.ready(&order);
    assert_eq!(would.len(), 1, "{would:?}");
    scene.done(&order, &former);
    assert_eq!(rules(&scene, &group).len(), 4);
    scene.undone(&order, &former);
    assert_same(&before, &scene.see(), "after the undo");
}

/// Others open it again, or take the group away.
pub fn others_act_meanwhile() {
    let scene = Scene::new("ap-south-2");
    let missing = scene.order(ID, "security_group", "sg-0a1b2c3d4e5f60718", &[("port", "22")]);
    match scene.look(&missing) {
        Ok(Look::NoEffect(reason)) => assert!(reason.contains("there is no security group"), "{reason}"),
        found => panic!("{found:?}"),
    }
    let group = open(&scene);
    assert!(matches!(scene.look(&scene.order(ID, "security_group", &group, &[])), Err(PortError::Permanent { .. })));
    let order = scene.order(ID, "security_group", &group, &[("port", "22")]);
    let (former, _) = scene.ready(&order);
    let wide = json!([{ "IpProtocol": "-1", "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }]);
    scene.call("ec2", "authorize_security_group_ingress", json!({ "GroupId": group, "IpPermissions": wide }));
    let remark = scene.done(&order, &former).unwrap();
    assert!(remark.contains("came meanwhile and opens all traffic from 0.0.0.0/0"), "{remark}");
    // A person put one of the rules back: the undo does not do so twice.
    let again = json!([{ "IpProtocol": "tcp", "FromPort": 20, "ToPort": 25, "IpRanges": [{ "CidrIp": "0.0.0.0/0" }] }]);
    scene.call("ec2", "authorize_security_group_ingress", json!({ "GroupId": group, "IpPermissions": again }));
    scene.undone(&order, &former);
    assert_eq!(rules(&scene, &group).len(), 6);
    let order = scene.order(ID, "security_group", &group, &[("port", "22")]);
    let (former, _) = scene.ready(&order);
    scene.done(&order, &former);
    scene.call("ec2", "delete_security_group", json!({ "GroupId": group }));
    scene.done(&order, &former);
    assert!(scene.undone(&order, &former).unwrap().contains("was deleted meanwhile"));
}
