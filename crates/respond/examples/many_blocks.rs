//! What 150,000 blocks cost the ledger, against a kernel that is a set in memory: how long submitting, one more,
//! undoing all and opening again take. `cargo run --release -p sakimori-respond --example many_blocks -- 150000`
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Instant;

use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::Policy;
use sakimori_model::{Network, Order, Timestamp};
use sakimori_respond::guard::Surroundings;
use sakimori_respond::host::{HostActions, Which};
use sakimori_respond::ports::{AddressBlocker, BlockEntry, PortError};
use sakimori_respond::wide::Undo;

#[derive(Default)]
struct Set(BTreeSet<Network>);

impl AddressBlocker for Set {
    fn block(&mut self, entries: &[BlockEntry]) -> Result<(), PortError> {
        self.0.extend(entries.iter().map(|entry| entry.network));
        Ok(())
    }

    fn unblock(&mut self, networks: &[Network]) -> Result<(), PortError> {
        for network in networks {
            self.0.remove(network);
        }
        Ok(())
    }

    fn blocked(&mut self) -> Result<Vec<BlockEntry>, PortError> {
        Ok(self.0.iter().map(|network| BlockEntry { network: *network, timeout_ms: 3_600_000 }).collect())
    }
}

fn order(n: u32) -> Order {
    Order {
        id: format!("{n:032x}"),
        action: "block_address".to_owned(),
        target: Target::Network(Network::host(Ipv4Addr::from(0x0b00_0000 + n).into())),
        expiry: None,
        cause: Cause {
            alert: format!("{n:064x}"),
            rule: "ssh-brute-force".to_owned(),
            title: "SSH brute force".to_owned(),
            events: (0..5).map(|at| format!("018f4c5e-0000-7000-8000-000000000001:logs:{n}.{at}")).collect(),
            by: "playbook:block-on-host".to_owned(),
        },
        via: None,
        probe: false,
        inputs: BTreeMap::new(),
        signatures: Vec::new(),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(150_000), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let policy: Policy = serde_json::from_value(serde_json::json!({
        "modules": {
            "log_inspection": {"state": "on", "sources": []},
            "block_address": {
                "state": "on", "mode": "prevent", "expiry_seconds": 3600, "expiry_most_seconds": 86400,
                "grace_seconds": 600, "most_per_minute": 10_000_000, "most": 10_000_000
            }
        },
        "response": {"allow": [], "trusted_proxies": []}
    }))?;
    let now = Timestamp::from_secs(1_800_000_000);
    let open = || HostActions::open(dir.path(), "agent-1", &policy, Surroundings::default(), Set::default(), now);
    let mut host = open()?.0;

    let begun = Instant::now();
    for first in (0..count).step_by(1000) {
        host.submit((first..count.min(first + 1000)).map(order).collect(), now)?;
    }
    println!("{count} submitted in groups of 1000: {:?}", begun.elapsed());

    let begun = Instant::now();
    host.submit(vec![order(count)], now)?;
    println!("one more: {:?}", begun.elapsed());

    drop(host);
    let begun = Instant::now();
    let mut host = open()?.0;
    println!("opened with {} live actions: {:?}", host.live(), begun.elapsed());
    let begun = Instant::now();
    host.start(now)?;
    println!("started (all blocked again): {:?}", begun.elapsed());

    let begun = Instant::now();
    let changes = host.undo(&Which::All, Undo::Person("bench"), now)?;
    println!("{} undone: {:?}, {} left", changes.len(), begun.elapsed(), host.blocker().0.len());
    let begun = Instant::now();
    println!("{} events made: {:?}", changes.into_iter().count(), begun.elapsed());

    drop(host);
    let begun = Instant::now();
    let host = open()?.0;
    println!("opened with {} ended actions: {:?}", host.actions().count(), begun.elapsed());
    Ok(())
}
