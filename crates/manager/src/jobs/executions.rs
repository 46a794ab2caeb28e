//! Drives executions of playbooks, and begins those whose time has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sakimori_content::files::Files;
use sakimori_model::rule::Scope;
use sakimori_model::{Event, Timestamp, field};
use sakimori_respond::execution::id_for;
use sakimori_respond::playbook::{self, Playbook, Trigger};
use sakimori_store::control::{ControlError, executions, tenants};
use tracing::warn;

use super::wake;
use crate::executions::{Beginning, Known, begin, drive};
use crate::shared::Shared;

/// So many are read at a time; those that began first come first.
const PAGE: i64 = 500;
/// Longest time between two looks while one is at work: actions of hosts and answers come without a signal.
const BUSY: Duration = Duration::from_millis(300);
/// And while none is.
const IDLE: Duration = Duration::from_secs(5);

/// Runs until the stop is told.
pub async fn run(shared: Arc<Shared>) -> Result<(), String> {
    let mut known = Known::default();
    let mut clocks = Clocks::default();
    loop {
        clocks.look(&shared).await?;
        let (mut again, mut idle, mut after) = (false, true, (i64::MIN, String::new()));
        loop {
            let page = executions::work(shared.control.read(), (after.0, &after.1), PAGE).await;
            let rows = page.map_err(|error| error.to_string())?;
            for row in &rows {
                idle = false;
                if known.rests(row, shared.clock.now()) {
                    continue;
                }
                match drive(&shared, &mut known, row).await {
                    Ok(changed) => again |= changed,
                    Err(error) => warn!(%error, execution = row.id, "an execution could not go on; it is tried again"),
                }
            }
            match rows.last() {
                Some(last) if i64::try_from(rows.len()).unwrap_or(0) == PAGE => after = (last.started, last.id.clone()),
                _ => break,
            }
        }
        let longest = match (again, idle) {
            (true, _) => Duration::from_millis(20),
            (false, false) => BUSY,
            (false, true) => IDLE,
        };
        if !wake(&shared, &shared.executions_changed, longest).await {
            return Ok(());
        }
    }
}

/// The playbooks that the clock begins.
#[derive(Default)]
struct Clocks {
    bundle: Option<u64>,
    playbooks: Vec<Playbook>,
    /// When each is due next, by tenant and playbook.
    due: BTreeMap<(String, String), Option<Timestamp>>,
}

impl Clocks {
    async fn look(&mut self, shared: &Shared) -> Result<(), String> {
        let now = shared.clock.now();
        let release = shared.bundle.load();
        if self.bundle != Some(release.number) {
            let opened = sakimori_content::bundle::verify(&release.bytes, &shared.bundle_key, 0);
            let files: Files = opened.map_err(|error| error.to_string())?.files;
            let contents = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
            let (all, _) = playbook::load(contents, Scope::Wide);
            self.playbooks = all.into_iter().filter(|one| matches!(one.trigger, Trigger::Schedule { .. })).collect();
            self.due.clear();
            self.bundle = Some(release.number);
        }
        if self.playbooks.is_empty() {
            return Ok(());
        }
        for tenant in tenants::list(shared.control.read(), "", i64::MAX).await.map_err(|error| error.to_string())? {
            let (_, effective) = crate::policy::of_tenant(shared, &tenant.id).await?;
            for one in &self.playbooks {
                if effective.policy.response.runs(&one.id, one.enabled) {
                    let key = (tenant.id.clone(), one.id.clone());
                    let due = self.due.entry(key).or_insert(None);
                    begin_if_due(shared, &tenant.id, one, due, now).await.map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }
}

/// Begins a playbook whose time has come since it last was; of times that were missed while nothing ran only the last counts.
async fn begin_if_due(
    shared: &Shared,
    tenant: &str,
    playbook: &Playbook,
    due: &mut Option<Timestamp>,
    now: Timestamp,
) -> Result<(), ControlError> {
    let Trigger::Schedule { schedule, zone } = &playbook.trigger else { return Ok(()) };
    let next = match *due {
        Some(next) => next,
        None => {
            let last = executions::last_run(shared.control.read(), tenant, &playbook.id).await?;
            if last.is_none() {
                // Known from now on: what lies before is not caught up.
                let mut change = shared.control.begin().await?;
                executions::note_run(change.connection(), tenant, &playbook.id, now).await?;
                change.commit().await?;
            }
            let Some(next) = schedule.next_after(last.unwrap_or(now), zone) else { return Ok(()) };
            *due = Some(next);
            next
        }
    };
    if next > now {
        return Ok(());
    }
    let mut event = Event::new();
    event.set(field::TIMESTAMP, next);
    event.set(field::EVENT_KIND, "event");
    event.set(field::EVENT_ACTION, "schedule");
    let id = id_for(&playbook.id, &format!("{tenant} {next}"));
    let by = format!("playbook:{}", playbook.id);
    let mut change = shared.control.begin().await?;
    let beginning = Beginning { tenant, playbook, event: &event, alert: "", id, by: &by };
    begin(&mut change, beginning, now).await?;
    executions::note_run(change.connection(), tenant, &playbook.id, now).await?;
    change.commit().await?;
    *due = schedule.next_after(now, zone);
    Ok(())
}
