//! Whoever is slow on purpose holds a connection for little: limits on how long each part of one may take.
//!
//! - [`Activity`]: until the first request is there, and between two, whatever version of HTTP it is (hyper's own limit
//!   on a head begins with its first byte, and knows nothing of HTTP/2);
//! - [`Upload`]: a request's body, by a deadline that moves with what arrives;
//! - [`Taken`]: what is sent has to be taken.
//!
//! An answer that goes on for long, a live feed or a backup, is no idleness while its other end takes what it is sent.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Bytes of a body that are worth a second more.
const RATE: u64 = 16 << 10;

/// Whether a connection has requests under way. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    rests: Notify,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    /// Has it ever asked?
    asked: bool,
    rests_since: Instant,
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub struct Busy(Arc<Shared>);

impl Activity {
    /// Of a connection that begins now.
    pub fn new() -> Self {
        let state = State { under_way: 0, asked: false, rests_since: Instant::now() };
        Self(Arc::new(Shared { state: Mutex::new(state), rests: Notify::new() }))
    }

    /// A request begins.
    pub fn begin(&self) -> Busy {
        let mut state = self.0.lock();
        state.under_way += 1;
        state.asked = true;
        Busy(Arc::clone(&self.0))
    }

    /// Ends once nothing was asked for `first` since the beginning, or for `between` since the last answer.
    pub async fn idle(&self, first: Duration, between: Duration) {
        loop {
            let end = {
                let state = self.0.lock();
                let limit = if state.asked { between } else { first };
                (state.under_way == 0).then(|| state.rests_since + limit)
            };
            match end {
                None => self.0.rests.notified().await,
                Some(end) if end <= Instant::now() => return,
                Some(end) => sleep_until(end).await,
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.under_way = state.under_way.saturating_sub(1);
        if state.under_way == 0 {
            state.rests_since = Instant::now();
            self.0.rests.notify_one();
        }
    }
}

/// A request's body.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    began: Instant,
    received: u64,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// A body that begins now, and may take so long and a second more for each 16 KiB.
    pub fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, began: Instant::now(), received: 0, patience, timer: None }
    }

    fn deadline(&self) -> Instant {
        self.began + self.patience + Duration::from_secs(self.received / RATE)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame {
                self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = self.deadline();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        timer.as_mut().reset(deadline);
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err("the body of the request came too slowly".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, with which its request ends.
#[derive(Debug)]
pub struct Answer {
    body: axum::body::Body,
    _busy: Busy,
}

impl Answer {
    /// The request is under way until all of this is sent, or given up.
    pub fn new(body: axum::body::Body, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose other end has to take what it is sent.
#[derive(Debug)]
pub struct Taken<S> {
    stream: S,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Taken<S> {
    /// Given up where nothing at all is taken for so long.
    pub fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, timer: None }
    }

    fn within<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.timer = None;
            return outcome;
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Taken<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Taken<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.within(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.within(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.within(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_connection_rests_only_between_its_requests() {
        let (activity, began) = (Activity::new(), Instant::now());
        activity.idle(SHORT, LONG).await;
        assert!(began.elapsed() >= SHORT, "nothing was asked");
        let (activity, began) = (Activity::new(), Instant::now());
        let (one, two) = (activity.begin(), activity.begin());
        let ends = async {
            sleep(2 * SHORT).await;
            drop(one);
            sleep(2 * SHORT).await;
            drop(two);
        };
        tokio::join!(ends, activity.idle(LONG, SHORT));
        assert!(began.elapsed() >= 5 * SHORT, "a long answer is no rest");
    }

    #[tokio::test]
    async fn whoever_takes_nothing_is_given_up_and_whoever_is_slow_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut ours = Taken::new(ours, 20 * SHORT);
        let slow = async {
            let mut taken = [0; 16];
            for _ in 0..4 {
                sleep(SHORT).await;
                theirs.read_exact(&mut taken).await.unwrap();
            }
            theirs
        };
        let (written, theirs) = tokio::join!(ours.write_all(&[7; 64]), slow);
        written.unwrap();
        let began = Instant::now();
        let error = ours.write_all(&[7; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= 20 * SHORT);
        drop(theirs);
    }
}
