//! 150,000 addresses blocked, each with its own ledger record, expiry and undo: one more, and all undone.
//!
//! The ledger and the kernel are the real ones, in a network namespace of their own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sakimori_host::block_address::Blocker;
use sakimori_model::action::{Cause, Target};
use sakimori_model::policy::{default_layer, merge};
use sakimori_model::{ActionState, Network, Order};
use sakimori_respond::guard::Surroundings;
use sakimori_respond::host::{HostActions, Which};
use sakimori_respond::ports::{AddressBlocker, BlockEntry, PortError};
use sakimori_respond::wide::Undo;
use sakimori_runtime::{Clock, SystemClock};
use sakimori_sys::lab::Lab;

use crate::platform::profile;

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How many addresses.
    #[arg(long, default_value_t = 150_000)]
    addresses: u32,
    /// Records written with one sync.
    #[arg(long, default_value_t = 1_000)]
    group: u32,
}

/// Runs it.
///
/// # Errors
/// A kernel or ledger that does not do it.
pub fn run(options: &Options) -> Result<()> {
    let mut lab = Lab::new("skmmany")?;
    lab.add("host")?;
    lab.inside("host", || blocks(options))?
}

fn order(number: u32) -> Order {
    Order {
        id: format!("{number:032x}"),
        action: "block_address".to_owned(),
        target: Target::Network(Network::host(Ipv4Addr::from(0x0b00_0000 + number).into())),
        expiry: None,
        cause: Cause {
            alert: format!("{number:032x}"),
            rule: "ssh-brute-force".to_owned(),
            title: "SSH brute force".to_owned(),
            events: Vec::new(),
            by: "block-brute-force-on-host".to_owned(),
        },
        via: None,
        probe: false,
        inputs: BTreeMap::new(),
        signatures: Vec::new(),
    }
}

/// Notes when the kernel last confirmed a block; what is written after it is not in the way of a packet.
struct Watched {
    blocker: Blocker,
    blocked_at: Arc<Mutex<Instant>>,
}

impl AddressBlocker for Watched {
    fn block(&mut self, entries: &[BlockEntry]) -> Result<(), PortError> {
        let done = self.blocker.block(entries);
        *self.blocked_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        done
    }

    fn unblock(&mut self, networks: &[Network]) -> Result<(), PortError> {
        self.blocker.unblock(networks)
    }

    fn blocked(&mut self) -> Result<Vec<BlockEntry>, PortError> {
        self.blocker.blocked()
    }
}

fn blocks(options: &Options) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut policy = merge(&[default_layer()])?.policy;
    policy.modules.block_address.most = options.addresses + 10;
    policy.modules.block_address.most_per_minute = options.addresses + 10;
    let clock = SystemClock;
    let blocked_at = Arc::new(Mutex::new(Instant::now()));
    let blocker = Watched { blocker: Blocker::open("skm_many")?, blocked_at: Arc::clone(&blocked_at) };
    let (mut host, _) = HostActions::open(dir.path(), "bench", &policy, Surroundings::default(), blocker, clock.now())?;
    println!("{} addresses in groups of {}, {} build", options.addresses, options.group, profile());
    let began = Instant::now();
    for first in (0..options.addresses).step_by(usize::try_from(options.group)?) {
        let last = options.addresses.min(first + options.group);
        host.submit((first..last).map(order).collect(), clock.now())?;
    }
    println!("  blocked: {:.2} s", began.elapsed().as_secs_f64());
    let mut times = Vec::new();
    for number in 0..5 {
        let began = Instant::now();
        host.submit(vec![order(options.addresses + number)], clock.now())?;
        let blocked_at = *blocked_at.lock().unwrap_or_else(PoisonError::into_inner);
        times.push(blocked_at.duration_since(began).as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "  one more in the kernel after its order: median {:.2} ms, worst {:.2} ms",
        times.get(2).context("five times")?,
        times.last().context("five times")?
    );
    let began = Instant::now();
    host.undo(&Which::All, Undo::Person("bench"), clock.now())?;
    let undone = began.elapsed();
    let left = Blocker::open("skm_many")?.blocked()?.len();
    println!("  undone as {} actions: {:.2} s, {left} elements left", options.addresses + 5, undone.as_secs_f64());
    let states = host.actions().filter(|action| action.state == ActionState::Undone).count();
    if left != 0 || states != usize::try_from(options.addresses + 5)? {
        bail!("{left} elements are left, the ledger shows {states} as undone");
    }
    Blocker::remove("skm_many")?;
    Ok(())
}
