//! Intrusion prevention on a router with two queues: what it forwards is judged, many connections at a time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

mod host;
mod web;

use host::{Host, is_root};
use sakimori_sys::lab::{End, Lab};
use web::{ATTACK, Net, ask, get};

/// Pairs of addresses go to queues by a hash that each kernel draws anew: of so many not all go to one.
const ADDRESSES: u8 = 24;
const AT_A_TIME: usize = 8;
const REQUESTS: usize = 40;

/// A client, a router, and a server with many addresses.
fn routed() -> Option<Net> {
    if !is_root() {
        return None;
    }
    let mut lab = Lab::new("skmroute").unwrap();
    for name in ["client", "router", "server"] {
        lab.add(name).unwrap();
    }
    let served: Vec<String> = addresses().map(|address| format!("{address}/24")).collect();
    let served: Vec<&str> = served.iter().map(String::as_str).collect();
    lab.join(
        End { namespace: "router", device: "r0", addresses: &["198.51.100.1/24"] },
        End { namespace: "client", device: "c0", addresses: &["198.51.100.2/24"] },
    )
    .unwrap();
    lab.join(
        End { namespace: "router", device: "r1", addresses: &["203.0.113.1/24"] },
        End { namespace: "server", device: "s0", addresses: &served },
    )
    .unwrap();
    lab.forward("router").unwrap();
    lab.route("client", "203.0.113.0/24", "198.51.100.1").unwrap();
    lab.route("server", "198.51.100.0/24", "203.0.113.1").unwrap();
    Some(Net { lab })
}

fn addresses() -> impl Iterator<Item = String> {
    (0..ADDRESSES).map(|number| format!("203.0.113.{}", 10 + number))
}

/// Packets that the kernel has put into each queue (`/proc/net/netfilter/nfnetlink_queue`, the number of the last).
fn queued(net: &Net) -> Vec<u64> {
    let text = net.lab.inside("router", || std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue"));
    let number = |line: &str| line.split_whitespace().nth(7)?.parse().ok();
    text.unwrap().unwrap().lines().filter_map(number).collect()
}

#[test]
fn a_router_with_two_queues_serves_all_requests_and_forwards_no_attack() {
    let Some(net) = routed() else { return };
    let mut host = Host::new(
        "[policy.modules.block_address]\nmode = \"detect\"\n[policy.modules.log_inspection]\nstate = \"off\"\n\
         [policy.modules.intrusion_prevention]\nstate = \"on\"\nmode = \"prevent\"\nqueues = 2\n",
    );
    host.namespace = Some(net.lab.full_name("router"));
    host.start();
    host.wait("the module is on", |host| {
        let modules = host.status().map(|status| status.modules).unwrap_or_default();
        modules.iter().any(|module| module.id == "intrusion_prevention" && module.state == "on")
    });
    let server = net.serve("0.0.0.0:80");
    let all: Vec<String> = addresses().map(|address| format!("{address}:80")).collect();
    std::thread::scope(|scope| {
        for some in all.chunks(all.len().div_ceil(AT_A_TIME)) {
            let net = &net;
            scope.spawn(move || {
                for address in some {
                    let mut kept = net.connect(address).unwrap();
                    for number in 0..REQUESTS {
                        assert!(ask(&mut kept, "/page", "").unwrap().contains("200 OK"), "{address} {number}");
                    }
                    assert!(get(net, address, "/attack", ATTACK).is_err(), "{address}");
                    assert!(ask(&mut kept, "/page", "").unwrap().contains("200 OK"), "beside it others go on");
                }
            });
        }
    });
    let log = server.log();
    assert_eq!(log.len(), usize::from(ADDRESSES) * (REQUESTS + 1));
    assert!(log.iter().all(|line| line == "GET /page HTTP/1.1"));
    let queued = queued(&net);
    assert!(queued.len() == 2 && queued.iter().all(|packets| *packets > 0), "{queued:?}");
    for lane in ["network.0", "network.1"] {
        host.wait("alerts of each lane", |host| !host.events(lane).is_empty());
    }
    let told = ["network.0", "network.1"].map(|lane| host.events(lane).len()).iter().sum::<usize>();
    assert!(told >= usize::from(ADDRESSES), "{told}");
    host.stop();
}
