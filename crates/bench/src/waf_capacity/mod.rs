//! Fifty thousand attackers in an hour against sets of ten thousand: the newest and those who come back stay.
//!
//! The manager, its reconciler, its planner and its client of AWS WAF are the real ones, and the playbook is the shipped one.
//! Simulated are the clock, by which an hour passes in what the work takes, and AWS WAF ([`fake`]), whose latency, lock tokens,
//! capacity and rates are played. What the reconciler's own work takes on this machine passes by the clock, too. An attack
//! begins as the alert of a rule: what comes before it (reading the line, the agent's channel) is measured by `log-to-block`.

mod clock;
mod crowd;
mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sakimori_manager::Manager;
use sakimori_manager::config::Config;
use sakimori_model::{Network, Timestamp};
use sakimori_store::control::sql;

use self::clock::Simulated;
use self::crowd::{Attack, Plan, entry};
use self::fake::{Fake, Manners, Seen};
use crate::platform::profile;

/// When the simulated hour begins, in seconds since the epoch.
const BEGIN: i64 = 1_800_000_000;
/// What is let pass after the last attack, so that all is settled.
const SETTLE: i64 = 90;
/// Whose time is up so shortly before the end may be there still, and may be gone.
const GOING: i64 = 15;

/// Options.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Attackers, each from an address of its own, who come once
    #[arg(long, default_value_t = 50_000)]
    attackers: u32,
    /// Simulated minutes in which they come
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Attackers who come back again and again
    #[arg(long, default_value_t = 10)]
    returning: u32,
    /// Seconds between two attacks of one who comes back
    #[arg(long, default_value_t = 300)]
    every: u32,
    /// Most addresses of each set
    #[arg(long, default_value_t = 10_000)]
    capacity: usize,
    /// Of a hundred attackers so many have IPv6 addresses
    #[arg(long, default_value_t = 20)]
    ipv6: u32,
    /// Least latency of a call of AWS WAF, in milliseconds
    #[arg(long, default_value_t = 40)]
    latency_least: u64,
    /// Most latency of a call of AWS WAF, in milliseconds
    #[arg(long, default_value_t = 160)]
    latency_most: u64,
    /// Of a hundred changes so many find that somebody else changed the set meanwhile
    #[arg(long, default_value_t = 2)]
    races: u32,
    /// The web ACL stands in front of nothing: shows what is then said
    #[arg(long)]
    unassociated: bool,
    /// Leave out what the reconciler's own work takes on this machine
    #[arg(long)]
    without_own_time: bool,
    /// From which all chance follows
    #[arg(long, default_value_t = 6)]
    seed: u64,
}

/// Runs it.
///
/// # Errors
/// The sets do not hold what they should, or a quota was not kept.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        options.minutes > 0 && options.every > 0 && options.ipv6 <= 100,
        "minutes and every are at least 1, ipv6 at most 100"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(simulate(options))
}

/// What became of it.
struct Outcome {
    seen: Seen,
    attacks: Vec<Attack>,
    /// Actions of the WAF, by state.
    states: BTreeMap<String, i64>,
    /// Targets of what was never written, for floods.
    shed: i64,
    /// How long a block lasts, in microseconds.
    lasts: i64,
    /// What was said, where blocks have no effect.
    told: Option<String>,
}

async fn simulate(options: &Options) -> Result<()> {
    let plan = Plan {
        once: options.attackers,
        returning: options.returning,
        every: i64::from(options.every),
        v6: options.ipv6,
        seed: options.seed,
    };
    let seconds = i64::from(options.minutes) * 60;
    let attacks = crowd::attacks(&plan, BEGIN * 1_000_000, seconds);
    let (begin, end) = (Timestamp::from_secs(BEGIN), Timestamp::from_secs(BEGIN + seconds + SETTLE));
    let clock = Arc::new(Simulated::new(begin, end, attacks.clone(), !options.without_own_time)?);
    let manners = Manners {
        latency: (options.latency_least, options.latency_most),
        races: options.races,
        associated: !options.unassociated,
        seed: options.seed,
    };
    let (fake, url) = Fake::start(&clock, manners).await?;
    let folder = tempfile::tempdir()?;
    let secrets = folder.path().join("credentials");
    std::fs::write(&secrets, "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = test\n")?;
    let config: Config = toml::from_str(&format!(
        "state_dir = {:?}\napi = {{ listen = \"127.0.0.1:0\" }}\nlink = {{ listen = \"127.0.0.1:0\" }}\n\
         lake = {{ least_free_percent = 0 }}\n[cloud.waf]\nregion = \"us-east-1\"\nendpoint_url = {url:?}\n\
         credentials_file = {secrets:?}\ncapacity = {}\n",
        folder.path().join("state"),
        options.capacity
    ))
    .context("the measurement's own configuration")?;
    let began = Instant::now();
    let manager = Manager::start_with(config, Arc::clone(&clock) as _).await?;
    clock.start(&manager.shared);
    clock.over().await;
    let read = manager.shared.control.read();
    let states: Vec<(String, i64)> =
        sql::query_as("SELECT state, COUNT(*) FROM actions WHERE kind = 'waf_block' GROUP BY state")
            .fetch_all(read)
            .await?;
    let shed = sql::query_scalar("SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT) FROM shed WHERE kind = 'waf_block'");
    let shed: i64 = shed.fetch_one(read).await?;
    let lasts = "SELECT COALESCE(MIN(expires - planned), 0) FROM actions WHERE kind = 'waf_block'";
    let lasts: i64 = sql::query_scalar(lasts).fetch_one(read).await?;
    let told = "SELECT reason FROM (SELECT record AS reason FROM actions WHERE kind = 'waf_block' AND state = 'no_effect' \
                ORDER BY planned DESC LIMIT 1) AS newest";
    let told: Option<String> = sql::query_scalar(told).fetch_optional(read).await?;
    let seen = fake.seen();
    manager.stop().await;
    let told = told.and_then(|record| {
        serde_json::from_str::<serde_json::Value>(&record).ok()?["reason"].as_str().map(str::to_owned)
    });
    let outcome = Outcome { seen, attacks, states: states.into_iter().collect(), shed, lasts, told };
    println!(
        "{} attacks in {} simulated minutes, played in {:.0} s ({} build); the reconciler's own work: {:.1} s",
        outcome.attacks.len(),
        options.minutes,
        began.elapsed().as_secs_f64(),
        profile(),
        clock.worked().as_secs_f64()
    );
    match options.unassociated {
        true => without_effect(&outcome),
        false => judge(options, &outcome),
    }
}

/// The web ACL stands in front of nothing: no block may claim to be one, and each says what to do.
fn without_effect(outcome: &Outcome) -> Result<()> {
    let told = outcome.told.as_deref().unwrap_or_default();
    println!("states of the actions: {:?}; the newest says: {told}", outcome.states);
    ensure!(!outcome.states.contains_key("done"), "a block claims to be one");
    ensure!(told.contains("associate it with the load balancer"), "it is not said what to do");
    Ok(())
}

fn judge(options: &Options, outcome: &Outcome) -> Result<()> {
    let seen = &outcome.seen;
    let mut waits: Vec<i64> = Vec::new();
    let mut first: BTreeMap<Network, i64> = BTreeMap::new();
    for attack in &outcome.attacks {
        first.entry(entry(*attack)).or_insert(attack.at);
    }
    for (network, at) in &first {
        if let Some(entered) = seen.entered.get(network) {
            waits.push(entered - at);
        }
    }
    waits.sort_unstable();
    let part = |percent: usize| waits.get((waits.len() * percent / 100).min(waits.len().saturating_sub(1)));
    let ms = |percent: usize| part(percent).map_or(0, |wait| wait / 1_000);
    println!(
        "from event to entry: p50 {} ms, p99 {} ms, max {} ms over {} addresses; never entered: {} (shed by the bound on \
         floods: {})",
        ms(50),
        ms(99),
        ms(100),
        waits.len(),
        first.len() - waits.len(),
        outcome.shed
    );
    let total: usize = seen.calls.values().sum();
    println!(
        "calls: {total} ({}); most within a second: {} changes (AWS allows 1), {} of one other operation (5); refused as too \
         many: {}; lost races: {}",
        seen.calls.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", "),
        seen.most.0,
        seen.most.1,
        seen.refused.0,
        seen.refused.1
    );
    println!("states of the actions: {:?}", outcome.states);
    let returning: BTreeSet<Network> = outcome
        .attacks
        .iter()
        .filter(|attack| attack.attacker < options.returning)
        .map(|attack| entry(*attack))
        .collect();
    let stayed = returning.iter().filter(|network| !seen.left.contains_key(network)).count();
    let (wanted, over, going) = wanted(options, outcome);
    let missing = wanted.difference(&seen.held).count();
    let more = seen.held.difference(&wanted).filter(|network| !going.contains(network)).count();
    println!(
        "at the end: {} entries; of those who came back {stayed} of {} never left; of the newest {missing} are missing, \
         {more} others are there; the time of {over} was up before, that of {} just then",
        seen.held.len(),
        returning.len(),
        going.len()
    );
    ensure!(seen.refused.0 == 0 && seen.most.0 <= 1, "AWS's rates were not kept");
    ensure!(stayed == returning.len(), "who came back did not stay");
    ensure!(missing == 0 && more == 0, "the sets do not hold exactly the newest");
    ensure!(
        first.len() - waits.len() == usize::try_from(outcome.shed).unwrap_or(0),
        "some entered never, and it is not said"
    );
    Ok(())
}

/// What the sets must hold: of each family those with the newest attack, of all that were not shed and whose time is not up. Who
/// comes back counts as among the newest: their way back is shorter than the time in which the set turns over. Further, of how
/// many of them the time was up, and of which that is so just then.
fn wanted(options: &Options, outcome: &Outcome) -> (BTreeSet<Network>, usize, BTreeSet<Network>) {
    let Outcome { seen, attacks, lasts, .. } = outcome;
    let end = (BEGIN + i64::from(options.minutes) * 60 + SETTLE) * 1_000_000;
    let (mut wanted, mut over, mut going) = (BTreeSet::new(), 0, BTreeSet::new());
    for v6 in [false, true] {
        let mut newest: BTreeMap<Network, i64> = BTreeMap::new();
        for attack in attacks.iter().filter(|attack| attack.v6 == v6 && seen.entered.contains_key(&entry(**attack))) {
            newest.insert(entry(*attack), attack.at);
        }
        let back: BTreeSet<Network> = attacks
            .iter()
            .filter(|one| one.v6 == v6 && one.attacker < options.returning)
            .map(|one| entry(*one))
            .collect();
        let mut order: Vec<(bool, i64, Network)> =
            newest.into_iter().map(|(network, at)| (back.contains(&network), at, network)).collect();
        order.sort_unstable_by(|a, b| b.cmp(a));
        for (_, at, network) in order.into_iter().take(options.capacity) {
            let past = end - (at + lasts);
            if past > GOING * 1_000_000 {
                over += 1;
            } else if past > -GOING * 1_000_000 {
                going.insert(network);
            } else {
                wanted.insert(network);
            }
        }
    }
    (wanted, over, going)
}
