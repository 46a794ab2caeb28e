//! What a handler takes out of a request, with errors in our own form: body, query, page and cursor.

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::problem::{self, Problem};

/// Most rows of a page.
pub const MOST: i64 = 1_000;
/// Rows of a page where the request does not say.
pub const USUAL: i64 = 100;

/// Bytes of a body within the route's limit.
#[derive(Debug)]
pub struct Raw(pub axum::body::Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = axum::body::Bytes::from_request(request, state).await;
        bytes.map(Self).map_err(|rejection: BytesRejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(problem::REQUEST_TOO_LARGE),
            _ => Problem::new(problem::REQUEST_BODY).detail(rejection.body_text()),
        })
    }
}

/// A JSON body.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Raw(bytes) = Raw::from_request(request, state).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let place = format!("line {} column {}", error.line(), error.column());
            Problem::new(problem::REQUEST_BODY)
                .detail("expected JSON as the API's description says")
                .fault(place, error)
        })
    }
}

/// Query parameters.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|rejection| Problem::new(problem::REQUEST_QUERY).detail(rejection.body_text()))
    }
}

/// Which page of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Most rows, 1 to 1000; 100 where absent.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// Rows of a page, within bounds.
///
/// # Errors
/// Not between 1 and [`MOST`].
pub fn limit(asked: Option<i64>) -> Result<i64, Problem> {
    let limit = asked.unwrap_or(USUAL);
    if (1..=MOST).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::new(problem::REQUEST_QUERY).fault("limit", format!("expected 1 to {MOST}, found {limit}")))
}

/// A cursor as it goes out: opaque, and what it holds is no promise.
pub fn cursor(place: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).unwrap_or_default())
}

/// What a cursor holds; `None` on the first page.
///
/// # Errors
/// It is not one of this list.
pub fn place<T: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<T>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().filter(|bytes| bytes.len() <= 4_096);
    let place = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    place.map(Some).ok_or_else(|| Problem::new(problem::REQUEST_CURSOR))
}

/// A page of a list.
#[derive(Debug, Serialize)]
pub struct Page<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// Cursor of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page of rows that were asked for with one more than `limit`; `place` is where a row stands.
    pub fn of<R, P: Serialize>(mut rows: Vec<R>, limit: i64, place: impl Fn(&R) -> P, view: impl Fn(R) -> T) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| cursor(&place(row)));
        Self { items: rows.into_iter().map(view).collect(), next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_anything_else_is_refused() {
        let text = cursor(&(5_i64, "a~b"));
        assert_eq!(place::<(i64, String)>(Some(&text)).unwrap(), Some((5, "a~b".to_owned())));
        assert_eq!(place::<String>(None).unwrap(), None);
        for bad in ["", "x", "e30", &"A".repeat(10_000)] {
            assert_eq!(place::<(i64, String)>(Some(bad)).unwrap_err().code.code, "request/cursor", "{bad}");
        }
    }

    #[test]
    fn pages_are_bounded_and_the_last_has_no_cursor() {
        assert!(limit(Some(0)).is_err() && limit(Some(1_001)).is_err() && limit(Some(1_000)).is_ok());
        let page = Page::of(vec![1, 2, 3], 2, |row| *row, |row| row * 10);
        assert_eq!((page.items, place(page.next.as_deref()).unwrap()), (vec![10, 20], Some(2)));
        assert!(Page::of(vec![1, 2], 2, |row| *row, |row| row).next.is_none());
    }
}
