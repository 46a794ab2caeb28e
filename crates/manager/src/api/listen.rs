//! Where the API listens: loopback in the clear, every other address by TLS only. How many connections there may be is
//! [`super::seats`]'s, how long each part of one may take [`super::pace`]'s.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use sakimori_store::control::DEFAULT_TENANT;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::pace::{Activity, Answer, Taken, Upload};
use super::seats::{Refusals, Seats};
use super::{App, routes};
use crate::config::{Api, Config};
use crate::descriptors;
use crate::metrics::Metrics;
use crate::notices::{self, Notice};
use crate::shared::Shared;

/// How long requests under way have at the end.
const END: Duration = Duration::from_secs(10);

/// The other end of a connection, and whether it is TLS.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr, pub bool);

/// May the API listen as it is configured?
///
/// # Errors
/// An address that is not loopback, without TLS; the next step is said.
pub fn check_listen(config: &Config) -> Result<(), String> {
    let api = &config.api;
    if api.certificate.is_some() != api.key.is_some() {
        return Err("api.certificate and api.key belong together; give both or none".into());
    }
    if api.listen.ip().to_canonical().is_loopback() || tls(config) {
        return Ok(());
    }
    Err(format!(
        "the API and the console would be served on {} without TLS (api.listen): passwords and tokens would cross the network in the clear; \
         set api.tls = true for a certificate of the manager's own CA, or api.certificate and api.key for one of \
         yours, or listen on 127.0.0.1",
        api.listen
    ))
}

fn tls(config: &Config) -> bool {
    config.api.tls || config.api.certificate.is_some()
}

/// Serves the API until the stop is told; requests under way are finished.
///
/// # Errors
/// A listen address that is not allowed, or TLS that cannot be set up.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener) -> Result<(), String> {
    check_listen(&shared.config)?;
    let acceptor = match tls(&shared.config) {
        false => None,
        true => {
            Some(TlsAcceptor::from(shared.authority.api_tls(&shared.config.api).map_err(|error| format!("{error:#}"))?))
        }
    };
    let paces = Paces::from(&shared.config.api);
    let seats = seats(&shared.config.api);
    let stop = shared.stop.clone();
    let router = routes::router(&App::new(Arc::clone(&shared)));
    let (graceful, mut connections) = (GracefulShutdown::new(), JoinSet::new());
    let mut refusals = Refusals::default();
    loop {
        while connections.try_join_next().is_some() {}
        let news = refusals.due(Instant::now());
        let tell = async {
            match news {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let accepted = tokio::select! {
            biased;
            () = stop.wait() => break,
            () = tell => {
                let (count, last) = refusals.tell(Instant::now());
                let shared = Arc::clone(&shared);
                connections.spawn(async move { tell_refused(&shared, count, &last).await });
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            // Out of descriptors: it passes, and a loop without a pause would only make it worse.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(seat) = seats.take(address.ip()) else {
            Metrics::add(&shared.metrics.api_refused, 1);
            refusals.note(address.ip());
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (router, acceptor, watcher) = (router.clone(), acceptor.clone(), graceful.watcher());
        connections.spawn(async move {
            let _seat = seat;
            match acceptor {
                None => connection(stream, router, Peer(address, false), watcher, paces).await,
                Some(acceptor) => match tokio::time::timeout(paces.head, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, router, Peer(address, true), watcher, paces).await,
                    _ => tracing::debug!(%address, "a TLS handshake with the API failed"),
                },
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(END, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests that were still under way are given up");
    }
    Ok(())
}

/// How long parts of a connection may take.
#[derive(Clone, Copy, Debug)]
struct Paces {
    head: Duration,
    body: Duration,
    idle: Duration,
}

impl From<&Api> for Paces {
    fn from(api: &Api) -> Self {
        let seconds = |seconds: u64| Duration::from_secs(seconds.clamp(1, 86_400));
        Self { head: seconds(api.head_seconds), body: seconds(api.body_seconds), idle: seconds(api.idle_seconds) }
    }
}

fn seats(api: &Api) -> Seats {
    let limit = descriptors::raise();
    let most = descriptors::for_api(api.connections, limit);
    if most < api.connections {
        let wanted = api.connections;
        tracing::warn!(
            wanted,
            most,
            limit,
            "the API may hold fewer connections, since this process may have few descriptors (ulimit -n)"
        );
    }
    Seats::new(most, api.connections_of_address)
}

/// One event for all of a minute.
async fn tell_refused(shared: &Shared, count: u64, last: &str) {
    let notice = Notice {
        what: "api-connections-refused".into(),
        title: "Connections to the API were refused".into(),
        about: last.into(),
        message: format!("{count} connections to the API were refused for want of room, the last from {last}"),
        remedy: "see who connects; raise api.connections, or api.connections_of_address where a proxy stands in front"
            .into(),
        severity: None,
    };
    tracing::warn!(count, last, "connections to the API were refused for want of room");
    let write = async {
        let mut change = shared.control.begin().await?;
        notices::put(&mut change, DEFAULT_TENANT, &notice, shared.clock.now()).await?;
        change.commit().await
    };
    match write.await {
        Ok(()) => shared.outbox_changed.notify_one(),
        Err(error) => tracing::warn!(%error, "that is not told"),
    }
}

async fn connection<S>(
    stream: S,
    router: Router,
    peer: Peer,
    watcher: hyper_util::server::graceful::Watcher,
    paces: Paces,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let asked = activity.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let busy = asked.begin();
        request.extensions_mut().insert(peer);
        let answer = router.clone().call(request.map(|body| Body::new(Upload::new(body, paces.body))));
        async move { answer.await.map(|answer| answer.map(|body| Answer::new(body, busy))) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(paces.head).max_buf_size(64 << 10);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(64).max_header_list_size(64 << 10);
    let stream = Taken::new(stream, paces.body);
    let served = watcher.watch(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        served = served => {
            if let Err(error) = served {
                tracing::debug!(address = %peer.0, %error, "a connection to the API ended early");
            }
        }
        () = activity.idle(paces.head, paces.idle) => {
            tracing::debug!(address = %peer.0, "a connection to the API rested for too long and is closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, tls: bool) -> Config {
        let api = Api { listen: listen.parse().unwrap(), tls, ..Api::default() };
        Config { api, ..Config::default() }
    }

    #[test]
    fn only_loopback_is_served_in_the_clear() {
        for fine in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            check_listen(&config(fine, false)).unwrap();
        }
        for open in ["0.0.0.0:1", "192.0.2.1:1", "[::]:1", "[2001:db8::1]:1"] {
            let error = check_listen(&config(open, false)).unwrap_err();
            assert!(error.contains("api.tls = true") && error.contains(open), "{error}");
            check_listen(&config(open, true)).unwrap();
        }
        let mut half = config("127.0.0.1:1", false);
        half.api.key = Some("k.pem".into());
        assert!(check_listen(&half).unwrap_err().contains("belong together"));
    }
}
