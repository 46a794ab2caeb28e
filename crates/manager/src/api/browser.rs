//! What tells a browser's own page from any other: the cookie of a session, where a request comes from, and the token that
//! a page gets with its session.
//!
//! A session of a browser is a cookie that no script reads (`HttpOnly`), that other sites' requests do not carry
//! (`SameSite=Strict`) and that, over TLS, no other host can set (`__Host-`). A change by cookie needs three things more: an
//! `Origin` that is ours, no `Sec-Fetch-Site` that says otherwise, and the token of the session in a header, which only a
//! page that could read our answers has. A bearer token needs none of it: no browser sends one by itself.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::listen::Peer;
use super::problem::{self, Problem};

/// The cookie of a session in the clear, which loopback alone is served in.
pub const COOKIE: &str = "sakimori_session";
/// The cookie over TLS.
pub const HOST_COOKIE: &str = "__Host-sakimori_session";
/// The header with the token of the session, for changes.
pub const CSRF_HEADER: &str = "sakimori-csrf";

/// The token of a browser's session: whoever has the cookie's value can work it out, and nobody else.
pub fn csrf(secret: &str) -> String {
    let hash = Sha256::new().chain_update(b"sakimori csrf 1\0").chain_update(secret).finalize();
    URL_SAFE_NO_PAD.encode(hash)
}

/// The cookie that a request brings.
pub fn cookie<'a>(parts: &'a Parts, public_url: Option<&str>) -> Option<&'a str> {
    let named = |wanted: &str| named_cookie(&parts.headers, wanted);
    // In the clear, any program of this machine's loopback could have set the plain one; over TLS nobody else could.
    let only = is_tls(parts) || public_url.is_some_and(is_https);
    named(HOST_COOKIE).or_else(|| if only { None } else { named(COOKIE) })
}

/// The cookie of this name.
pub fn named_cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == wanted).then_some(value)
    })
}

/// Does the browser speak TLS, to us or to a proxy before us? The address that people are given decides; without one, what
/// the request tells.
pub fn is_secure(parts: &Parts, public_url: Option<&str>) -> bool {
    is_tls(parts) || public_url.or_else(|| origin(&parts.headers)).is_some_and(is_https)
}

/// Does this address begin with `https://`?
pub fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

fn is_tls(parts: &Parts) -> bool {
    parts.extensions.get::<Peer>().is_some_and(|peer| peer.1)
}

fn origin(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ORIGIN)?.to_str().ok()
}

/// Sets the cookie of a session for so many seconds; 0 removes it.
///
/// # Errors
/// A value that cannot be in a cookie.
pub fn set_cookie(headers: &mut HeaderMap, value: &str, seconds: i64, secure: bool) -> Result<(), Problem> {
    let (name, secure) = if secure { (HOST_COOKIE, "; Secure") } else { (COOKIE, "") };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    headers.append(header::SET_COOKIE, HeaderValue::from_str(&text).map_err(|error| Problem::failed(&error))?);
    Ok(())
}

/// Does this request come from a page of ours? Browsers say so with every request that may change something.
pub fn from_own_page(parts: &Parts, public_url: Option<&str>) -> bool {
    let site = parts.headers.get("sec-fetch-site");
    site.is_none_or(|site| site == "same-origin")
        && origin(&parts.headers).is_some_and(|from| own(parts, from, public_url))
}

/// Is this origin (scheme, host and port) ours?
fn own(parts: &Parts, origin: &str, public_url: Option<&str>) -> bool {
    if public_url.and_then(origin_of).is_some_and(|ours| ours.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(axum::http::uri::Authority::as_str));
    let (Some((scheme, name)), Some(host)) = (origin.split_once("://"), host) else { return false };
    // In the clear it may be a proxy that speaks TLS for us.
    (scheme == "https" || (scheme == "http" && !is_tls(parts))) && name.eq_ignore_ascii_case(host)
}

/// `https://sakimori.example/x` → `https://sakimori.example`.
pub fn origin_of(url: &str) -> Option<&str> {
    let start = url.find("://")? + 3;
    let end = url.get(start..)?.find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    url.get(..end)
}

/// May this request use its cookie, whose value is `secret`?
///
/// # Errors
/// It comes from elsewhere, or changes something and lacks the token.
pub fn check(parts: &Parts, secret: &str, public_url: Option<&str>) -> Result<(), Problem> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        let site = parts.headers.get("sec-fetch-site");
        let fine = site.is_none_or(|site| site == "same-origin" || site == "none");
        return if fine { Ok(()) } else { Err(Problem::new(problem::AUTH_ORIGIN)) };
    }
    if !from_own_page(parts, public_url) {
        return Err(Problem::new(problem::AUTH_ORIGIN));
    }
    let shown = parts.headers.get(CSRF_HEADER).map(HeaderValue::as_bytes).unwrap_or_default();
    if bool::from(shown.ct_eq(csrf(secret).as_bytes())) { Ok(()) } else { Err(Problem::new(problem::AUTH_CSRF)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Request;

    const OURS: &str = "https://sakimori.example:7600";

    fn parts(method: &str, tls: bool, headers: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder().method(method).header("host", "sakimori.example:7600");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut parts = builder.body(()).unwrap().into_parts().0;
        parts.extensions.insert(Peer("192.0.2.1:1".parse().unwrap(), tls));
        parts
    }

    fn code(outcome: Result<(), Problem>) -> &'static str {
        outcome.err().map_or("", |problem| problem.code.code)
    }

    #[test]
    fn a_change_by_cookie_needs_our_origin_and_the_sessions_token() {
        let token = csrf("skc_x");
        let token = (CSRF_HEADER, token.as_str());
        let ask = |headers: &[(&str, &str)]| code(check(&parts("POST", true, headers), "skc_x", None));
        assert_eq!(ask(&[("origin", OURS), token]), "");
        assert_eq!(ask(&[("origin", OURS), ("sec-fetch-site", "same-origin"), token]), "");
        assert_eq!(ask(&[token]), "auth/origin", "browsers say where a change comes from");
        for origin in ["https://evil.example", "null", "http://sakimori.example:7600", "https://sakimori.example", ""] {
            assert_eq!(ask(&[("origin", origin), token]), "auth/origin", "{origin}");
        }
        for site in ["cross-site", "same-site", "none"] {
            assert_eq!(ask(&[("origin", OURS), ("sec-fetch-site", site), token]), "auth/origin", "{site}");
        }
        let other = csrf("skc_y");
        for wrong in ["", "x", other.as_str()] {
            assert_eq!(ask(&[("origin", OURS), (CSRF_HEADER, wrong)]), "auth/csrf");
        }
        assert_eq!(ask(&[("origin", OURS)]), "auth/csrf");
    }

    #[test]
    fn a_proxy_before_us_may_speak_tls_and_have_another_name() {
        let from =
            |tls: bool, origin: &str, url: Option<&str>| from_own_page(&parts("POST", tls, &[("origin", origin)]), url);
        assert!(from(false, OURS, None) && from(false, "http://sakimori.example:7600", None));
        assert!(!from(false, "https://console.example", None));
        assert!(from(false, "https://console.example", Some("https://console.example/x")));
        assert!(!from(true, "https://console.example.evil", Some("https://console.example")));
        assert_eq!(origin_of("https://a.example:1?x"), Some("https://a.example:1"));
        assert_eq!(origin_of("nonsense"), None);
    }

    #[test]
    fn the_address_that_people_are_given_says_whether_browsers_speak_tls() {
        let secure =
            |tls: bool, headers: &[(&str, &str)], url: Option<&str>| is_secure(&parts("POST", tls, headers), url);
        assert!(secure(false, &[], Some(OURS)), "also where the request does not say where it comes from");
        assert!(secure(false, &[("origin", "http://sakimori.example:7600")], Some("HTTPS://sakimori.example")));
        assert!(!secure(false, &[("origin", OURS)], Some("http://localhost:7600")));
        assert!(secure(true, &[], Some("http://localhost:7600")), "it speaks TLS to us");
        assert!(secure(false, &[("origin", OURS)], None) && !secure(false, &[], None));
    }

    #[test]
    fn reading_needs_no_token_and_another_sites_reading_gets_nothing() {
        let ask = |headers: &[(&str, &str)]| code(check(&parts("GET", true, headers), "skc_x", None));
        assert_eq!((ask(&[]), ask(&[("sec-fetch-site", "none")])), ("", ""));
        assert_eq!(ask(&[("sec-fetch-site", "cross-site")]), "auth/origin");
    }

    #[test]
    fn over_tls_only_the_name_counts_that_no_other_host_can_set() {
        let with =
            |tls: bool, cookies: &str| cookie(&parts("GET", tls, &[("cookie", cookies)]), None).map(str::to_owned);
        assert_eq!(with(true, "a=b; __Host-sakimori_session=x").as_deref(), Some("x"));
        assert_eq!(with(true, "sakimori_session=y"), None);
        assert_eq!(with(false, "sakimori_session=y").as_deref(), Some("y"));
        assert_eq!(with(false, "sakimori_session=y; __Host-sakimori_session=x").as_deref(), Some("x"));
        let behind = parts("GET", false, &[("cookie", "sakimori_session=y")]);
        assert_eq!(cookie(&behind, Some(OURS)), None, "a proxy speaks TLS for us");
        assert_eq!(cookie(&behind, Some("http://localhost:7600")), Some("y"));
        let mut headers = HeaderMap::new();
        set_cookie(&mut headers, "v", 60, true).unwrap();
        let set = headers["set-cookie"].to_str().unwrap();
        assert!(
            set.starts_with("__Host-sakimori_session=v; Path=/; HttpOnly; SameSite=Strict") && set.ends_with("Secure")
        );
        assert!(set_cookie(&mut headers, "a\nb", 60, true).is_err());
    }
}
