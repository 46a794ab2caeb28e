//! What playbooks of the attack story did is taken back before its time, by a person: an address comes out of the host's
//! nftables and of the WAF, as `nft` and the simulator say.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sakimori_model::Action;
use serde_json::Value;

use super::table::{Line, Played, Told};
use super::{action, field};
use crate::api::wait;
use crate::platform::{PATIENCE, Platform};
use crate::story::{HOST, SECOND, World};

/// Takes back what a playbook of the host and one of the manager did about an address that came directly.
///
/// # Errors
/// It is not as before.
pub fn back(
    world: &World,
    platform: &Platform,
    (from, to): (&str, &str),
    step: &'static str,
    [on_host, in_front]: [&'static str; 2],
    told: &mut Told,
) -> Result<()> {
    let kernel = || world.in_kernel(&platform.table, from);
    let front = || world.in_waf(from);
    for (playbook, kind, place, held) in [
        (on_host, "block_address", "nftables", &kernel as &dyn Fn() -> bool),
        (in_front, "waf_block", "AWS WAF set", &front),
    ] {
        wait(&format!("{from} is blocked: {place}"), PATIENCE, held)?;
        wait("the block is known", PATIENCE, || action(&platform.api, kind, from, "done").is_some())?;
        let block = action(&platform.api, kind, from, "done").context("the block")?;
        let cause = field(&block, "/order/cause/by");
        if !cause.ends_with(playbook) {
            bail!("{from} was blocked by {cause}, not by {playbook}");
        }
        let done = took(&block)?;
        let began = Instant::now();
        platform.api.call("POST", &format!("/api/v1/actions/{}/undo", field(&block, "/order/id")), None)?;
        wait(&format!("{from} is out of: {place}"), PATIENCE, || !held())?;
        let undone = began.elapsed();
        let (changed, equal) = (format!("{place} + {from}"), "out again".to_owned());
        told.played.push(Played { playbook, step, changed, done, undone, equal });
    }
    if !world.reaches(from, to) {
        bail!("{from} is still refused after the undo");
    }
    Ok(())
}

/// How long an action took, from its order on.
///
/// # Errors
/// It is not done.
pub fn took(action: &Value) -> Result<Duration> {
    let action: Action = serde_json::from_value(action.clone()).context("read an action")?;
    let done = action.done_at.context("an action that is done has no time")?;
    Ok(Duration::from_micros(u64::try_from(done.since(action.planned_at)).unwrap_or_default()))
}

/// Takes one block back before its time; the attacker comes again and is not blocked in the grace time.
pub fn by_hand(world: &World, platform: &Platform, told: &mut Told) -> Result<String> {
    let step = "6 taken back by hand";
    // A fresh attacker, so that his block has its full time before it.
    world.guess(SECOND, HOST, 8, &["root"])?;
    wait("the second attacker is blocked", PATIENCE, || world.in_kernel(&platform.table, SECOND))?;
    wait("his block is known", PATIENCE, || action(&platform.api, "block_address", SECOND, "done").is_some())?;
    let block = action(&platform.api, "block_address", SECOND, "done").context("the block")?;
    let id = field(&block, "/order/id").to_owned();
    let began = Instant::now();
    back(world, platform, (SECOND, HOST), step, ["block-brute-force-on-host", "block-in-waf"], told)?;
    let lines = &mut told.lines;
    lines.push(Line { step, seen: "a person".into(), answered: "nftables: gone".into(), took: began.elapsed() });
    world.guess(SECOND, HOST, 8, &["admin", "oracle", "test", "git", "backup", "ubuntu", "deploy", "www"])?;
    wait("a refusal in the grace time", PATIENCE, || {
        action(&platform.api, "block_address", SECOND, "refused").is_some()
    })?;
    if world.in_kernel(&platform.table, SECOND) {
        bail!("{SECOND} was blocked again in the grace time");
    }
    lines.push(Line {
        step,
        seen: "he tries other names".into(),
        answered: "not repeated in the grace time".into(),
        took: began.elapsed(),
    });
    Ok(id)
}
