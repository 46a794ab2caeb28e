//! The web console: files that `build.rs` put into the program, and nothing from the disk. A path without a file is an
//! address of the page, which then decides itself what it shows.
//!
//! The page may run its own scripts and nothing else: no inline script, no other host, no frame around it. The few
//! styles that its parts make while they run carry a nonce, which is new with every answer.

use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::problem::{self, Problem};

/// Every file of the console: its path below the root, and its bytes. `x.br` is the brotli form of `x`.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/console.rs"));
/// Where the page's file wants its nonce.
const NONCE: &str = "__NONCE__";
/// Names of these files hold a hash of what is in them.
const HASHED: &str = "assets/";
/// Paths that programs ask; a wrong one is told as a problem, not as a page.
const PROGRAMS: [&str; 5] = ["api", "v1", "answer", "healthz", "metrics"];
/// What is said where the console is not part of the program.
const ABSENT: &str = "<!doctype html><meta charset=utf-8><title>Sakimori</title><h1>Sakimori</h1>\
    <p>This manager was built without its web console. Install Node.js 20.19 or newer and run <code>make up</code> again; \
    everything else works by <code>sakimori</code> and the API.</p>\
    <p lang=ja>このマネージャーにはウェブコンソールが含まれていません。Node.js 20.19 以降を導入して <code>make up</code> を再実行してください。\
    その他の機能は <code>sakimori</code> コマンドと API で利用できます。</p>";

/// Answers what is no route of the API.
pub(super) async fn answer(request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    if PROGRAMS.contains(&first) {
        return Problem::new(problem::REQUEST_PATH).into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::new(problem::REQUEST_METHOD).into_response();
    }
    if path != "index.html"
        && let Some(bytes) = file(path)
    {
        let brotli = takes_brotli(&request).then(|| file(&format!("{path}.br"))).flatten();
        return asset(path, bytes, brotli);
    }
    // A missing script answered with a page would be an error that nobody understands.
    if first == "assets" {
        return Problem::new(problem::REQUEST_PATH).into_response();
    }
    match file("index.html").and_then(|bytes| std::str::from_utf8(bytes).ok()) {
        Some(text) => {
            let nonce = nonce();
            page(text.replace(NONCE, &nonce), &nonce)
        }
        None => page(ABSENT.to_owned(), &nonce()),
    }
}

/// What the page may do.
pub(super) fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; font-src 'self'; \
         connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
}

fn nonce() -> String {
    let bytes: [u8; 18] = rand::random();
    STANDARD.encode(bytes)
}

fn page(text: String, nonce: &str) -> Response {
    let mut response = (StatusCode::OK, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response();
    if let Ok(value) = HeaderValue::from_str(&policy(nonce)) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, value);
    }
    response
}

fn asset(path: &str, bytes: &'static [u8], brotli: Option<&'static [u8]>) -> Response {
    let kept = if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = (
        StatusCode::OK,
        [(header::CONTENT_TYPE, kind(path)), (header::CACHE_CONTROL, kept), (header::VARY, "accept-encoding")],
        brotli.unwrap_or(bytes),
    )
        .into_response();
    if brotli.is_some() {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    response
}

fn file(path: &str) -> Option<&'static [u8]> {
    FILES.binary_search_by(|(name, _)| (*name).cmp(path)).ok().and_then(|at| FILES.get(at)).map(|(_, bytes)| *bytes)
}

fn takes_brotli(request: &Request) -> bool {
    let accepted = request.headers().get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|text| text.split(',').any(|one| one.trim() == "br"))
}

fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        "json" => "application/json",
        "png" => "image/png",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    async fn ask(path: &str) -> Response {
        answer(Request::builder().uri(path).body(Body::empty()).unwrap()).await
    }

    #[tokio::test]
    async fn any_address_of_the_page_is_the_page_and_may_run_nothing_but_itself() {
        for path in ["/", "/search?in=alerts", "/servers/a/b"] {
            let response = ask(path).await;
            assert_eq!(response.status(), StatusCode::OK);
            let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
            assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
            let again = ask(path).await;
            assert_ne!(policy, again.headers()[header::CONTENT_SECURITY_POLICY], "a nonce is used once");
        }
    }

    #[tokio::test]
    async fn what_programs_ask_and_what_is_no_file_is_told_as_missing() {
        for path in ["/api/v1/nothing", "/v1/nothing", "/assets/nothing.js"] {
            let response = ask(path).await;
            assert!(response.extensions().get::<Problem>().is_some(), "{path}");
        }
    }

    #[test]
    fn the_table_can_be_searched() {
        assert!(FILES.is_sorted_by_key(|(name, _)| *name));
    }
}
