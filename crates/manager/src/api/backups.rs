//! A backup of the whole installation, as a stream. What it holds and how it is one moment is in [`crate::backup`].

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use sakimori_runtime::Stop;
use sakimori_store::control::ALL_TENANTS;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::access::Caller;
use super::problem::{self, Problem};
use super::{App, Done};
use crate::backup;

/// Bytes that are sent on together.
const PIECE: usize = 256 << 10;
/// Pieces that wait for a slow reader.
const WAITING: usize = 8;

/// `POST /backups`: the archive. A stream that ends without the archive's manifest is no backup.
pub async fn create(State(app): State<App>, caller: Caller) -> Result<Response, Problem> {
    let shared = Arc::clone(&app.shared);
    let permit = Arc::clone(&shared.backups)
        .try_acquire_owned()
        .map_err(|_| Problem::new(problem::BACKUP_BUSY).retry_after(60))?;
    // First, so that the backup holds it too.
    let change = shared.control.begin().await?;
    let target = shared.clock.now().to_string();
    let done = Done::<()> { tenant: ALL_TENANTS, action: "backups:create", target: &target, before: None, after: None };
    app.done(change, &caller, done).await?;
    let failed = |error: backup::BackupError| Problem::new(problem::BACKUP_FAILED).detail(error);
    let source = backup::of_running(&shared).await.map_err(failed)?;
    let (sender, pieces) = mpsc::channel(WAITING);
    let (runtime, stop) = (Handle::current(), shared.stop.clone());
    tokio::task::spawn_blocking(move || {
        let out = Outgoing { sender: sender.clone(), stop, waiting: BytesMut::new() };
        match backup::write(source, out, &runtime) {
            Ok(manifest) => tracing::info!(files = manifest.files.len(), "a backup was made"),
            Err(error) => {
                tracing::error!(%error, "a backup was broken off");
                let _ = sender.blocking_send(Err(io::Error::other(error.to_string())));
            }
        }
        drop(permit);
    });
    let kind = [(header::CONTENT_TYPE, "application/x-tar")];
    Ok((kind, Body::from_stream(ReceiverStream::new(pieces))).into_response())
}

/// Sends what is written to whoever reads the answer, and waits for him; until the stop.
struct Outgoing {
    sender: mpsc::Sender<io::Result<Bytes>>,
    stop: Stop,
    waiting: BytesMut,
}

impl io::Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.stop.told() {
            return Err(io::Error::other("the manager is stopping"));
        }
        let piece = self.waiting.split().freeze();
        if piece.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::Error::other("nobody reads it any more"))
    }
}
