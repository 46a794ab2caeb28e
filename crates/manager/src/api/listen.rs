//! Where the API listens: loopback in the clear, every other address by TLS only; connections and their
//! beginnings bounded.

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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::{App, routes};
use crate::config::Config;
use crate::shared::Shared;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 1_024;
/// How long a client may take for its handshake, and for the head of a request.
const BEGIN: Duration = Duration::from_secs(10);
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
        "the API would listen on {} without TLS: passwords and tokens would cross the network in the clear; \
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
    let stop = shared.stop.clone();
    let router = routes::router(&App::new(shared));
    let (free, graceful, mut connections) =
        (Arc::new(Semaphore::new(CONNECTIONS)), GracefulShutdown::new(), JoinSet::new());
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let permit = Arc::clone(&free).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.wait() => break,
        };
        let (Ok(permit), Ok((stream, address))) = (permit, accepted) else {
            // Out of descriptors: it passes, and a loop without a pause would only make it worse.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (router, acceptor, watcher) = (router.clone(), acceptor.clone(), graceful.watcher());
        connections.spawn(async move {
            let _permit = permit;
            match acceptor {
                None => connection(stream, router, Peer(address, false), watcher).await,
                Some(acceptor) => match tokio::time::timeout(BEGIN, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, router, Peer(address, true), watcher).await,
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

async fn connection<S>(stream: S, router: Router, peer: Peer, watcher: hyper_util::server::graceful::Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().call(request.map(Body::new))
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(BEGIN).max_buf_size(64 << 10);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(64).max_header_list_size(64 << 10);
    let served = watcher.watch(builder.serve_connection(TokioIo::new(stream), service));
    if let Err(error) = served.await {
        tracing::debug!(address = %peer.0, %error, "a connection to the API ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Api;

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
