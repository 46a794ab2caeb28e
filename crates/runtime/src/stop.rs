//! Stopping in good order: one token that everything long-running watches.

use tokio_util::sync::CancellationToken;

/// Told once, seen by all its clones.
#[derive(Clone, Debug, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// A token that is not told yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells everybody to stop.
    pub fn tell(&self) {
        self.0.cancel();
    }

    /// Was it told?
    pub fn told(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is told.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// A token that is told with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Waits for SIGINT or SIGTERM, then tells.
    ///
    /// # Errors
    /// Where the signals cannot be listened to.
    pub async fn on_signal(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = self.wait() => {}
        }
        self.tell();
        Ok(())
    }
}
