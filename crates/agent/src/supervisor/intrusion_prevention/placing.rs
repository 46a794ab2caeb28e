//! What a policy asks for, put into place: rules tried in a worker that is thrown away, pumps, the kernel's rules.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use sakimori_host::keeper::message::Silence;
use sakimori_host::keeper::pump_message::ToPump;
use sakimori_host::queue_packets;
use sakimori_model::policy::{Fail, IntrusionPrevention as Settings, Mode};
use sakimori_sys::cgroup::Group;
use sakimori_sys::channel::Channel;
use sakimori_sys::nft::queue::{MAX_QUEUES, Marks, Plan};
use sakimori_wire::ipc_network::{FromNetwork, NetworkRules, NetworkStart, RuleOrGroup, ToNetwork};

use super::super::bundles::Files;
use super::super::pump;
use super::super::worker::{self, Kind};
use crate::config::Config;

/// How long the trial of rules may take.
const TRIAL: Duration = Duration::from_secs(300);

/// Acknowledgements a second of answers that are far from their end: at 10 Gbit/s one for 5 MB, and next to no work.
const ACKNOWLEDGEMENTS: u32 = 250;

/// What a policy asks of the kernel.
fn plan(settings: &Settings, probe: Option<u16>) -> Result<Plan> {
    let marks = Marks::at(settings.mark_bit).context("intrusion_prevention.mark_bit is above 29")?;
    if settings.queues == 0 || settings.queues > MAX_QUEUES {
        bail!("intrusion_prevention.queues must be 1 to {MAX_QUEUES}");
    }
    if settings.first_queue.checked_add(settings.queues).is_none() {
        bail!("intrusion_prevention.first_queue leaves no room for {} queues", settings.queues);
    }
    Ok(Plan {
        first: settings.first_queue,
        queues: settings.queues,
        open: settings.fail == Fail::Open,
        marks,
        interfaces: settings.interfaces.clone(),
        ports: settings.ports.clone(),
        acknowledgements: ACKNOWLEDGEMENTS,
        except_ports: settings.except_ports.clone(),
        probe,
    })
}

fn silence(settings: &Settings) -> Silence {
    Silence { allow: settings.fail == Fail::Open, absent_ms: settings.wait_ms, slow_ms: settings.slow_ms.max(100) }
}

/// What a policy makes of a bundle's rules.
pub fn rules_of(settings: &Settings, (bundle, files): (u64, Files), probe: Option<u16>) -> NetworkRules {
    let overrides = settings.overrides.iter().filter_map(|one| {
        let whose = match (&one.rule, &one.group) {
            (Some(rule), _) => RuleOrGroup::Rule(*rule),
            (None, Some(group)) => RuleOrGroup::Group(group.clone()),
            (None, None) => return None,
        };
        Some((whose, one.mode))
    });
    let wanted = |path: &str| path.starts_with("network/") || path.starts_with("playbooks/");
    NetworkRules {
        bundle,
        files: files.into_iter().filter(|(path, _)| wanted(path)).collect(),
        prevent: settings.mode == Mode::Prevent,
        overrides: overrides.collect(),
        trial: settings.trial.clone(),
        probe,
        keep: settings.keep_packets.bounded(),
    }
}

/// Settings that the kernel's rules and the pumps know.
pub fn frame_of(settings: &Settings) -> Settings {
    let usual = Settings::default();
    let keep_packets = usual.keep_packets;
    Settings { mode: usual.mode, overrides: Vec::new(), trial: Vec::new(), keep_packets, ..settings.clone() }
}

/// Loads rules in a worker that is ended afterwards.
pub fn try_rules(start: &NetworkStart, group: Option<Group>) -> Result<()> {
    let trial = worker::spawn(Kind::Network, group)?;
    let outcome = trial.ask(&ToNetwork::Start(Box::new(start.clone())), TRIAL);
    trial.end();
    match outcome.context("the engine did not load the rules")? {
        FromNetwork::Ready { rules: 0, errors, .. } => {
            bail!("no network rule loads: {}", errors.first().map_or("the bundle has none", String::as_str))
        }
        FromNetwork::Ready { .. } => Ok(()),
        _ => bail!("the trial of the rules answered something else"),
    }
}

/// Pumps, then the kernel's rules.
pub fn put_in_place(config: &Config, settings: &Settings, group: Option<&Group>) -> Result<Vec<Channel>> {
    let plan = plan(settings, config.proof.probed_port())?;
    let mut pumps = Vec::new();
    for at in 0..settings.queues {
        let queue = settings.first_queue + at;
        let pump = pump::connect(config, queue, settings.mark_bit, group)?;
        pump.send(&ToPump::Silence(silence(settings)).encode(), &[]).context("cannot speak to a pump")?;
        pumps.push(pump);
    }
    let form = queue_packets::install(&config.intrusion_prevention.table, &plan)?;
    tracing::info!(?form, queues = settings.queues, "packets are queued");
    Ok(pumps)
}
