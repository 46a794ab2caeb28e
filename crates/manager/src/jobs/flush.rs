//! Writes claimed flushes to the lake's table, settles their claims, and lets the journal go of what the table
//! and detection's checkpoint cover (D2).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sakimori_journal::Journal;
use sakimori_store::control::flushes;

use crate::metrics::Metrics;
use crate::shared::Shared;

/// Runs until the stop is told and what is claimed is written.
pub async fn run(shared: Arc<Shared>, journal: Arc<Journal>) -> Result<(), String> {
    let mut claimed = shared.flush_claimed.subscribe();
    loop {
        let may = *claimed.borrow_and_update();
        for set in shared.lake.sealed() {
            if set.number <= may {
                write(&shared, &journal, set.number).await?;
            }
        }
        tokio::select! {
            changed = claimed.changed() => if changed.is_err() { return Ok(()) },
            () = shared.ingest_done.cancelled() => {
                // The ingest task has begun its last flush before it ended.
                let may = *claimed.borrow_and_update();
                for set in shared.lake.sealed() {
                    if set.number <= may {
                        write(&shared, &journal, set.number).await?;
                    }
                }
                return Ok(());
            }
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
    }
}

async fn write(shared: &Shared, journal: &Journal, number: u64) -> Result<(), String> {
    shared.lake.commit(number).await.map_err(|error| error.to_string())?;
    let settle = async {
        let mut change = shared.control.begin().await?;
        flushes::settle(change.connection(), crate::WRITER, number.cast_signed()).await?;
        change.commit().await
    };
    settle.await.map_err(|error| error.to_string())?;
    Metrics::add(&shared.metrics.flushes, 1);
    let covered =
        flushes::last_committed(shared.control.read(), crate::WRITER).await.map_err(|error| error.to_string())?;
    if let Some(flush) = covered {
        // What a backup still needs stays until the next flush.
        let kept = shared.journal_kept.load(Ordering::SeqCst);
        journal.trim((flush.position.cast_unsigned() + 1).min(kept)).map_err(|error| error.to_string())?;
    }
    Ok(())
}
