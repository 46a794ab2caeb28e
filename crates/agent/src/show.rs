//! What the commands print: a table for people, JSON for programs; colour only on a terminal.

use std::io::Write;
use std::process::ExitCode;

use anstyle::{AnsiColor, Reset, Style};
use anyhow::{Result, bail};
use sakimori_host::processes::table;
use sakimori_respond::actions::{self, TargetKind, process};
use sakimori_runtime::doctor::{Finding, Health};
use sakimori_wire::ipc::{ActAsk, Answer, Ask};
use sakimori_wire::status::BudgetStatus;

use crate::enroll::Enrolled;

/// For what is wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// For what does less than it could.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// For what is well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// After any of them.
pub const PLAIN: Reset = Reset;

/// After enrolment.
///
/// # Errors
/// Where nothing can be written.
pub fn enrolled(enrolled: &Enrolled, json: bool) -> Result<()> {
    let mut out = anstream::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(enrolled)?)?;
    } else {
        writeln!(out, "{GOOD}enrolled{PLAIN} as {} at {}", enrolled.agent_id, enrolled.link_address)?;
        writeln!(out, "next: sakimori-agent run, or systemctl enable --now sakimori-agent")?;
    }
    Ok(())
}

/// State of the running agent.
///
/// # Errors
/// Where nothing can be written.
pub fn status(answer: Answer, json: bool) -> Result<()> {
    let Answer::Status(status) = answer else { bail!("the agent answered something else") };
    let mut out = anstream::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
        return Ok(());
    }
    let link = if status.connected { format!("{GOOD}connected{PLAIN}") } else { format!("{WARN}no manager{PLAIN}") };
    writeln!(out, "agent   {}  version {}  {link}", status.agent, status.version)?;
    writeln!(out, "policy  {}   bundle {}   blocks {}", status.policy, status.bundle, status.blocks)?;
    if let Some(halted) = &status.halted {
        writeln!(out, "halted  {BAD}{halted}{PLAIN}; sakimori-agent resume lets them go on")?;
    }
    writeln!(out, "mandate {}", status.mandate)?;
    if !status.held.is_empty() {
        writeln!(out, "held    {} (sent by the manager, not in effect here)", status.held.join(", "))?;
    }
    for id in &status.provisional {
        writeln!(out, "waits   {id}: taken back by itself; sakimori-agent actions confirm {id} lets it stay")?;
    }
    let spool = &status.spool;
    writeln!(
        out,
        "spool   {} of {} KiB, {} batches to send",
        spool.bytes / 1024,
        spool.most_bytes / 1024,
        spool.waiting
    )?;
    for budget in &status.budgets {
        writeln!(out, "{}", self::budget(budget))?;
    }
    if let Some(scan) = &status.scans.now {
        writeln!(out, "scan    {}", crate::scan::progress(scan))?;
    }
    for module in &status.modules {
        let style = match module.state.as_str() {
            "on" => GOOD,
            "off" => Style::new(),
            _ => BAD,
        };
        let restarts = if module.restarts > 0 { format!(" ({} restarts)", module.restarts) } else { String::new() };
        writeln!(out, "module  {:<16} {style}{:<8}{PLAIN} {}{restarts}", module.id, module.state, module.detail)?;
    }
    for input in &status.inputs {
        let style = if input.state == "reading" { GOOD } else { WARN };
        writeln!(
            out,
            "input   {:<16} {style}{:<8}{PLAIN} {} lines, {} alerts, {} events spooled, {} lost",
            input.name, input.state, input.lines, input.alerts, input.spooled, input.lost
        )?;
    }
    Ok(())
}

/// What a kind of worker used of its budget, and what was put off or cut off.
fn budget(budget: &BudgetStatus) -> String {
    let most = |value: u64, unit: &str| if value > 0 { format!(" of {value}{unit}") } else { String::new() };
    let mut text = format!(
        "budget  {:<16} {} MiB{}, {}.{} s of processor time{}",
        budget.name,
        budget.memory_bytes >> 20,
        most(budget.memory_most_bytes >> 20, " MiB"),
        budget.cpu_us / 1_000_000,
        budget.cpu_us / 100_000 % 10,
        most(u64::from(budget.cpu_most_percent), " %"),
    );
    if budget.throttled > 0 {
        text += &format!(", {WARN}put off {} ms{PLAIN}", budget.throttled_us / 1_000);
    }
    if budget.memory_kills > 0 {
        text += &format!(", {BAD}{} ended at the memory limit{PLAIN}", budget.memory_kills);
    }
    text
}

/// Actions of this host.
///
/// # Errors
/// Where nothing can be written.
pub fn actions(answer: Answer, json: bool) -> Result<()> {
    let Answer::Actions { actions } = answer else { bail!("the agent answered something else") };
    let mut out = anstream::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&actions)?)?;
        return Ok(());
    }
    if actions.is_empty() {
        writeln!(out, "nothing is in effect on this host")?;
    }
    for action in &actions {
        let end = action.end().map_or_else(String::new, |end| format!("until {end}"));
        let cause = if action.order.cause.rule.is_empty() { &action.order.cause.by } else { &action.order.cause.rule };
        let reason = action.reason.as_deref().unwrap_or_default();
        let (id, target) = (&action.order.id, action.order.target.to_string());
        writeln!(out, "{id}  {target:<40} {:<10} {end} {cause} {reason}", action.state.name())?;
    }
    Ok(())
}

/// The question for an action by hand. A process may be named by its number alone: its start is added here.
///
/// # Errors
/// An input that is none, or no such process.
pub fn act(
    action: String,
    mut target: String,
    seconds: Option<u32>,
    inputs: Vec<String>,
    dry_run: bool,
    by: String,
) -> Result<Ask> {
    let known = actions::find(&action).is_some_and(|known| known.target == TargetKind::Resource(process::KIND));
    if known && let Ok(pid) = target.parse::<u32>() {
        let Some(row) = table::one(pid) else { bail!("there is no process {pid}") };
        target = process::name(row.pid, row.start);
    }
    let mut named = std::collections::BTreeMap::new();
    for input in inputs {
        let Some((name, value)) = input.split_once('=') else { bail!("{input} is no NAME=VALUE") };
        named.insert(name.to_owned(), value.to_owned());
    }
    if dry_run {
        named.insert(process::DRY_RUN.to_owned(), "true".to_owned());
    }
    Ok(Ask::Act(ActAsk { action, target, seconds, inputs: named, by }))
}

/// What became of an action by hand. Exit code 2 where it was refused or failed.
///
/// # Errors
/// Where nothing can be written.
pub fn acted(answer: Answer, json: bool) -> Result<ExitCode> {
    use sakimori_model::ActionState as S;
    let Answer::Actions { actions } = &answer else { bail!("the agent answered something else") };
    let well = |action: &sakimori_model::Action| !matches!(action.state, S::Refused | S::Failed);
    let code = if actions.iter().all(well) { ExitCode::SUCCESS } else { ExitCode::from(2) };
    self::actions(answer, json)?;
    Ok(code)
}

/// After a change: how many, and why not the others.
///
/// # Errors
/// Where nothing can be written.
pub fn done(answer: Answer, verb: &str, json: bool) -> Result<ExitCode> {
    let Answer::Done { count, refused } = answer else { bail!("the agent answered something else") };
    let mut out = anstream::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::json!({ "count": count, "refused": refused }))?;
    } else {
        writeln!(out, "{count} {verb}")?;
        for reason in &refused {
            writeln!(out, "{WARN}not:{PLAIN} {reason}")?;
        }
    }
    Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// What the probes said. Exit code 1 where a module is not proven.
///
/// # Errors
/// Where nothing can be written.
pub fn proofs(answer: Answer, json: bool) -> Result<ExitCode> {
    let Answer::Proof { proofs, running } = answer else { bail!("the agent answered something else") };
    let mut out = anstream::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::json!({ "proofs": proofs, "running": running }))?;
    } else {
        if proofs.is_empty() {
            writeln!(out, "nothing is proven yet; sakimori-agent proof --run probes the modules that are on")?;
        }
        for proof in &proofs {
            let (style, word) = if proof.ok { (GOOD, "proven") } else { (BAD, "failing") };
            let (at, module) = (proof.at, &proof.module);
            writeln!(out, "{style}{word:<8}{PLAIN} {module:<16} {at}  {:>6} ms  {}", proof.took_ms, proof.detail)?;
        }
    }
    let all = !proofs.is_empty() && proofs.iter().all(|proof| proof.ok);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What a doctor found.
///
/// # Errors
/// Where nothing can be written.
pub fn findings(findings: &[Finding], json: bool) -> Result<()> {
    let mut out = anstream::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(findings)?)?;
        return Ok(());
    }
    for finding in findings {
        let (style, word) = match finding.health {
            Health::Ok => (GOOD, "ok"),
            Health::Limited => (WARN, "limited"),
            Health::Failing => (BAD, "failing"),
        };
        writeln!(out, "{style}{word:<8}{PLAIN} {:<28} {}", finding.id, finding.found)?;
        if !finding.remedy.is_empty() {
            writeln!(out, "         {:<28} → {}", "", finding.remedy)?;
        }
    }
    Ok(())
}
