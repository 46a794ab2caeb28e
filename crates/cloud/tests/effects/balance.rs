//! `instance_detach`.

use sakimori_respond::actions::instance_detach::ID;
use sakimori_respond::ports::Look;
use serde_json::json;

use super::world::{Scene, assert_same, text};

/// Two target groups by instance, one by address, one that has only another instance, and two classic load balancers.
fn balanced(scene: &Scene) -> (String, Vec<String>) {
    let (id, other) = (scene.instance(&[]), scene.instance(&[]));
    let found = scene.call("ec2", "describe_instances", json!({ "InstanceIds": [id] }));
    let address = text(&found["Reservations"][0]["Instances"][0]["PrivateIpAddress"]);
    let mut groups = Vec::new();
    for (name, kind, targets) in [
        ("web", "instance", vec![json!({ "Id": id, "Port": 8080 }), json!({ "Id": other, "Port": 8080 })]),
        ("api", "instance", vec![json!({ "Id": id, "Port": 9000 })]),
        ("by-address", "ip", vec![json!({ "Id": address, "Port": 7000 })]),
        ("elsewhere", "instance", vec![json!({ "Id": other })]),
    ] {
        let asked = json!({ "Name": name, "Protocol": "HTTP", "Port": 80, "VpcId": scene.vpc(), "TargetType": kind });
        let group = text(&scene.call("elbv2", "create_target_group", asked)["TargetGroups"][0]["TargetGroupArn"]);
        scene.call("elbv2", "register_targets", json!({ "TargetGroupArn": group, "Targets": targets }));
        groups.push(group);
    }
    for (name, instances) in [("old", vec![&id, &other]), ("older", vec![&other])] {
        let listener = json!([{ "Protocol": "HTTP", "LoadBalancerPort": 80, "InstancePort": 80 }]);
        let zones = json!([format!("{}a", scene.region)]);
        let asked = json!({ "LoadBalancerName": name, "Listeners": listener, "AvailabilityZones": zones });
        scene.call("elb", "create_load_balancer", asked);
        let instances: Vec<_> = instances.iter().map(|id| json!({ "InstanceId": id })).collect();
        let asked = json!({ "LoadBalancerName": name, "Instances": instances });
        scene.call("elb", "register_instances_with_load_balancer", asked);
    }
    (id, groups)
}

/// Out of all that has it, with its ports, and in again.
pub fn there_and_back() {
    let scene = Scene::new("ap-northeast-1");
    let (id, _) = balanced(&scene);
    let before = scene.see();
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, would) = scene.ready(&order);
    assert_eq!(would.len(), 4, "{would:?}");
    assert!(would.iter().any(|line| line.contains("port 8080") && line.contains("web")), "{would:?}");
    assert!(scene.verify(&order, &former).unwrap().is_some());
    assert!(scene.done(&order, &former).unwrap().contains("deregistration delay"));
    let seen = scene.see();
    for (name, left) in [("web", 1), ("api", 0), ("by-address", 0), ("elsewhere", 1)] {
        assert_eq!(seen["targets"][name].as_array().unwrap().len(), left, "{name}");
    }
    assert_eq!(
        (seen["balancers"]["old"].as_array().unwrap().len(), &seen["balancers"]["older"]),
        (1, &before["balancers"]["older"])
    );
    scene.done(&order, &former);
    assert_same(&seen, &scene.see(), "done again");
    assert!(matches!(scene.look(&scene.order(ID, "instance", &id, &[])), Ok(Look::NoEffect(_))));
    assert_eq!(scene.undone(&order, &former), None);
    assert_same(&before, &scene.see(), "after the undo");
    scene.undone(&order, &former);
    assert_same(&before, &scene.see(), "undone twice");
    scene.sweep(|| scene.order(ID, "instance", &id, &[]));
}

/// Groups and the instance go meanwhile.
pub fn others_act_meanwhile() {
    let scene = Scene::new("ap-northeast-2");
    assert!(matches!(scene.look(&scene.order(ID, "instance", "i-0a1b2c3d4e5f60718", &[])), Ok(Look::NoEffect(_))));
    let (id, groups) = balanced(&scene);
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    scene.call("elbv2", "delete_target_group", json!({ "TargetGroupArn": groups[1] }));
    assert!(scene.done(&order, &former).unwrap().contains("api was deleted meanwhile"));
    scene.call("elb", "delete_load_balancer", json!({ "LoadBalancerName": "old" }));
    let remark = scene.undone(&order, &former).unwrap();
    assert!(remark.contains("api was deleted") && remark.contains("old was deleted"), "{remark}");
    assert_eq!(scene.see()["targets"]["web"].as_array().unwrap().len(), 2);
    let order = scene.order(ID, "instance", &id, &[]);
    let (former, _) = scene.ready(&order);
    scene.done(&order, &former);
    scene.call("ec2", "terminate_instances", json!({ "InstanceIds": [id] }));
    assert!(scene.undone(&order, &former).unwrap().contains("terminated meanwhile"));
}
