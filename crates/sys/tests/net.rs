//! What surrounds a host, read from the kernel in namespaces, and ssh sessions of a real sshd.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sakimori_sys::lab::{End, Lab};
use sakimori_sys::{harness, net};

fn lab() -> Option<Lab> {
    if !harness::root() {
        return None;
    }
    let mut lab = Lab::new("sknet").unwrap();
    lab.add("host").unwrap();
    lab.add("peer").unwrap();
    lab.join(
        End { namespace: "host", device: "eth0", addresses: &["198.51.100.10/24", "2001:db8:1::10/64"] },
        End { namespace: "peer", device: "eth0", addresses: &["198.51.100.1/24", "2001:db8:1::1/64"] },
    )
    .unwrap();
    Some(lab)
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn own_addresses_and_gateways() {
    let Some(lab) = lab() else { return };
    lab.route("host", "default", "198.51.100.1").unwrap();
    lab.route("host", "default", "2001:db8:1::1").unwrap();
    lab.route("host", "203.0.113.0/24", "198.51.100.2").unwrap();
    let hops = "route add 192.0.2.0/24 nexthop via 198.51.100.3 nexthop via 198.51.100.4";
    assert!(lab.command("host", "ip").unwrap().args(hops.split(' ')).status().unwrap().success());
    lab.inside("host", || {
        let own = net::own_addresses().unwrap();
        assert!(own.is_superset(&addresses(&["127.0.0.1", "::1", "198.51.100.10", "2001:db8:1::10"])), "{own:?}");
        let expected = addresses(&["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4", "2001:db8:1::1"]);
        assert_eq!(net::gateways().unwrap(), expected);
    })
    .unwrap();
}

/// Ends the process when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn key(path: &Path) {
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(status.unwrap().success());
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn only_a_session_that_has_logged_in_counts() {
    let Some(lab) = lab() else { return };
    if !harness::needs(Path::new("/usr/sbin/sshd").exists(), "the package openssh-server") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all("/run/sshd").unwrap();
    let at = |name: &str| folder.path().join(name);
    key(&at("host_key"));
    key(&at("user_key"));
    std::fs::copy(at("user_key.pub"), at("authorized")).unwrap();
    let config = format!(
        "Port 2222\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nPermitRootLogin yes\nStrictModes no\nUsePAM no\n",
        at("host_key").display(),
        at("authorized").display()
    );
    std::fs::write(at("config"), config).unwrap();
    let quiet =
        |command: &mut Command| command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut server = lab.command("host", "/usr/sbin/sshd").unwrap();
    let _server = Running(quiet(server.args(["-D", "-e", "-f"]).arg(at("config"))).unwrap());
    // Somebody who has not said who he is.
    let guess = lab.inside("peer", || {
        let mut stream = None;
        wait_for("sshd listens", || {
            stream = std::net::TcpStream::connect("198.51.100.10:2222").ok();
            stream.is_some()
        });
        stream.unwrap()
    });
    let guess = guess.unwrap();
    let mut banner = [0_u8; 4];
    std::io::Read::read_exact(&mut &guess, &mut banner).unwrap();
    lab.inside("host", || assert_eq!(net::ssh_peers(&[]).unwrap(), BTreeSet::new())).unwrap();
    // And somebody with a key, from another address.
    let mut client = lab.command("peer", "ssh").unwrap();
    client.args(["-p", "2222", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i"]);
    client.arg(at("user_key")).args(["root@2001:db8:1::10", "sleep 60"]);
    let client = Running(quiet(&mut client).unwrap());
    lab.inside("host", || {
        let expected = addresses(&["2001:db8:1::1"]);
        wait_for("the session is seen", || net::ssh_peers(&[]).unwrap() == expected);
    })
    .unwrap();
    drop(client);
    lab.inside("host", || wait_for("the session is gone", || net::ssh_peers(&[]).unwrap().is_empty())).unwrap();
}
