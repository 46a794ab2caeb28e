//! Around every request: an id, a time limit, headers that keep browsers careful, errors written out.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::{self, Problem};
use super::{App, RequestId};
use crate::metrics::Metrics;

/// A request that takes longer is given up; searches have their own, shorter limit in the lake.
const LONGEST: Duration = Duration::from_secs(75);
/// The header that carries the request's id.
const ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a browser may do on pages of ours: nothing of a device but use passkeys.
const ALLOWED: &str = "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), \
                       magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-create=(self), \
                       publickey-credentials-get=(self), serial=(), usb=()";

/// Headers of every answer.
const CAREFUL: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("permissions-policy"), ALLOWED),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Headers of every answer that does not say it more exactly, as a page does ([`super::console`]): a browser may do
/// nothing with it but read it as what it says it is, and keeps nothing.
const USUAL: [(HeaderName, &str); 2] = [
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Runs a request.
pub(super) async fn frame(State(app): State<App>, mut request: Request, next: Next) -> Response {
    Metrics::add(&app.shared.metrics.requests, 1);
    let id = sakimori_model::id::row_id();
    request.extensions_mut().insert(RequestId(id.clone()));
    let asked = request.headers().clone();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = match tokio::time::timeout(LONGEST, next.run(request)).await {
        Ok(mut response) => match response.extensions_mut().remove::<Problem>() {
            Some(problem) => problem.write(&asked, &id),
            None => response,
        },
        Err(_) => Problem::new(problem::REQUEST_TIMEOUT).retry_after(5).write(&asked, &id),
    };
    // Whoever has the link of a question may answer it.
    let path = if path.starts_with("/answer/") { "/answer/…" } else { path.as_ref() };
    tracing::debug!(%method, path, status = response.status().as_u16(), request = id, "answered");
    let headers = response.headers_mut();
    for (name, value) in CAREFUL {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in USUAL {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(ID, value);
    }
    response
}

/// A method that the path has not.
pub(super) async fn no_method() -> Problem {
    Problem::new(problem::REQUEST_METHOD)
}
