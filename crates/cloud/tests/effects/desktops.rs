//! `desktop_isolate` and `desktop_stop`.

use sakimori_respond::actions::{desktop_isolate, desktop_stop};
use sakimori_respond::ports::{Look, PortError};
use serde_json::{Value as Json, json};

use super::world::{Scene, assert_same, text};

/// A desktop as the API tells it.
fn desktop(id: &str, name: &str, user: &str, address: &str, subnet: &str, mode: &str) -> Json {
    json!({
        "WorkspaceId": id, "ComputerName": name, "UserName": user, "IpAddress": address, "SubnetId": subnet,
        "DirectoryId": "d-0a1b2c3d4e", "BundleId": "wsb-0a1b2c3d4", "State": "AVAILABLE",
        "WorkspaceProperties": { "RunningMode": mode },
    })
}

/// Desktops with an interface each, and an instance that has nothing to do with them: `ws-aaaaaaaa1` and so on.
fn desktops(scene: &Scene, known: &[(&str, &str, &str)]) -> Vec<String> {
    let group = scene.group("desktops");
    let mut interfaces = Vec::new();
    for (at, (name, user, mode)) in known.iter().enumerate() {
        let asked = json!({ "SubnetId": scene.subnet(), "Groups": [group] });
        let made = scene.call("ec2", "create_network_interface", asked)["NetworkInterface"].clone();
        interfaces.push(text(&made["NetworkInterfaceId"]));
        let (address, id) = (text(&made["PrivateIpAddress"]), format!("ws-aaaaaaaa{at}"));
        let one = desktop(&id, name, user, &address, &scene.subnet(), mode);
        scene.desktops(|known| drop(known.insert(id, one)));
    }
    interfaces
}

/// Its interface and no other, there and back.
pub fn isolate() {
    let scene = Scene::new("me-south-1");
    let interfaces = desktops(&scene, &[("PC-1", "alice", "ALWAYS_ON"), ("PC-2", "bob", "AUTO_STOP")]);
    let make = || scene.order(desktop_isolate::ID, "desktop", "name:pc-1.corp.example", &[]);
    let mut before = scene.see();
    let order = make();
    let (former, would) = scene.ready(&order);
    assert!(would[0].contains("ws-aaaaaaaa0") && would[0].contains("alice"), "{would:?}");
    scene.done(&order, &former);
    let seen = scene.see();
    let groups = seen["groups"].as_object().unwrap();
    let (isolation, group) = groups.iter().find(|(_, one)| one["name"] == "sakimori-isolation").unwrap();
    assert_eq!(group["rules"], json!([]));
    assert_eq!(seen["interfaces"][&interfaces[0]]["groups"], json!([isolation]));
    assert_eq!(seen["interfaces"][&interfaces[1]], before["interfaces"][&interfaces[1]], "no other");
    scene.done(&order, &former);
    assert_same(&seen, &scene.see(), "done again");
    assert!(matches!(scene.look(&make()), Ok(Look::NoEffect(_))), "isolated already");
    // The desktop that was meant stays the one that is meant, whatever it is called by now.
    scene.desktops(|known| {
        for (id, name) in [("ws-aaaaaaaa0", "PC-2"), ("ws-aaaaaaaa1", "PC-1")] {
            known.get_mut(id).unwrap()["ComputerName"] = json!(name);
        }
    });
    assert_eq!(scene.undone(&order, &former), None);
    before["groups"][isolation] = group.clone();
    let after = scene.see();
    for part in ["interfaces", "groups", "instances"] {
        assert_same(&before[part], &after[part], "after the undo");
    }
    scene.undone(&order, &former);
    assert_same(&after, &scene.see(), "undone twice");
    scene.sweep(|| scene.order(desktop_isolate::ID, "desktop", "ws-aaaaaaaa0", &[("connections", "keep")]));

    // Its interface goes: before it is isolated, and before the undo.
    let (early, late) = (make(), make());
    let (former, _) = scene.ready(&early);
    let (_, _) = scene.ready(&late);
    scene.call("ec2", "delete_network_interface", json!({ "NetworkInterfaceId": interfaces[1] }));
    assert!(matches!(scene.apply(&early, &former), Err(PortError::Permanent { .. })));
    assert!(scene.undone(&early, &former).unwrap().contains("does not exist any more"));
    match scene.look(&late) {
        Ok(Look::NoEffect(reason)) => assert!(reason.contains("0 network interfaces"), "{reason}"),
        found => panic!("{found:?}"),
    }
}

/// Which desktop an event means, over several pages of them.
pub fn meant() {
    let scene = Scene::new("af-south-1");
    let known: Vec<(String, String)> = (0..60).map(|n| (format!("PC-{n}"), format!("user{}", n / 2))).collect();
    let known: Vec<(&str, &str, &str)> =
        known.iter().map(|(name, user)| (name.as_str(), user.as_str(), "AUTO_STOP")).collect();
    scene.desktops(|there| {
        for (at, (name, user, mode)) in known.iter().enumerate() {
            let id = format!("ws-aaaaaaa{at:02}");
            let one = desktop(&id, name, user, &format!("10.0.0.{at}"), "subnet-0a1b2c3d", mode);
            there.insert(id, one);
        }
    });
    let ask = |target: &str| scene.look(&scene.order(desktop_stop::ID, "desktop", target, &[]));
    for (target, id) in [
        ("name:pc-59", "ws-aaaaaaa59"),
        ("address:10.0.0.40", "ws-aaaaaaa40"),
        ("user:user7,name:PC-15", "ws-aaaaaaa15"),
        ("ws-aaaaaaa33", "ws-aaaaaaa33"),
    ] {
        match ask(target) {
            Ok(Look::Ready { would, .. }) => assert!(would[0].contains(id), "{target}: {would:?}"),
            found => panic!("{target}: {found:?}"),
        }
    }
    match ask("user:user7") {
        Ok(Look::Refused(reason)) => {
            let named = ["2 desktops fit", "a person has to say", "ws-aaaaaaa14", "PC-15"];
            assert!(named.iter().all(|part| reason.contains(part)), "{reason}");
        }
        found => panic!("{found:?}"),
    }
    for target in ["name:PC-60", "user:user7,name:PC-1", "ws-aaaaaaa99"] {
        assert!(matches!(ask(target), Ok(Look::NoEffect(_))), "{target}");
    }
    assert!(matches!(ask("PC-1"), Err(PortError::Permanent { .. })), "it has to say what it is");
}

fn state(seen: &Json, id: &str) -> String {
    text(&seen["desktops"][id]["State"])
}

/// Stopped and started; always on; terminated.
pub fn stop() {
    let scene = Scene::new("ap-east-1");
    desktops(&scene, &[("PC-1", "alice", "AUTO_STOP"), ("PC-2", "bob", "ALWAYS_ON"), ("PC-3", "carol", "MANUAL")]);
    let make = |target: &str| scene.order(desktop_stop::ID, "desktop", target, &[]);
    let before = scene.see();
    let order = make("user:alice");
    let (former, would) = scene.ready(&order);
    assert!(would.iter().any(|line| line.contains("starts again when its user signs in")), "{would:?}");
    assert!(scene.verify(&order, &former).unwrap().is_some());
    scene.done(&order, &former);
    let seen = scene.see();
    assert_eq!(
        ["ws-aaaaaaaa0", "ws-aaaaaaaa1", "ws-aaaaaaaa2"].map(|id| state(&seen, id)),
        ["STOPPED", "AVAILABLE", "AVAILABLE"]
    );
    scene.done(&order, &former);
    assert_same(&seen, &scene.see(), "done again");
    assert!(matches!(scene.look(&make("user:alice")), Ok(Look::NoEffect(_))));
    scene.undone(&order, &former);
    assert_same(&before, &scene.see(), "after the undo");
    scene.undone(&order, &former);
    assert_same(&before, &scene.see(), "undone twice");
    scene.sweep(|| make("user:carol"));
    match scene.look(&make("user:bob")) {
        Ok(Look::Refused(reason)) => assert!(reason.contains("always on"), "{reason}"),
        found => panic!("{found:?}"),
    }
    // Its mode changes between look and effect: the refusal inside the answer is seen.
    let change = |id: &str, change: &dyn Fn(&mut Json)| {
        scene.desktops(|known| change(known.get_mut(id).unwrap()));
    };
    let order = make("user:alice");
    let (former, _) = scene.ready(&order);
    change("ws-aaaaaaaa0", &|one| one["WorkspaceProperties"]["RunningMode"] = json!("ALWAYS_ON"));
    match scene.apply(&order, &former) {
        Err(PortError::Permanent { reason }) => assert!(reason.contains("InvalidRunningMode"), "{reason}"),
        other => panic!("{other:?}"),
    }
    change("ws-aaaaaaaa0", &|one| one["State"] = json!("TERMINATED"));
    assert!(matches!(scene.apply(&order, &former), Err(PortError::Permanent { .. })));
    assert!(scene.undone(&order, &former).unwrap().contains("does not exist any more"));
}
