//! Saved searches: of one person, or shared with all of the tenant. Whoever may change what others see may change and
//! delete shared ones; one that is not shared is its owner's alone, and for others not there.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sakimori_model::Timestamp;
use sakimori_store::control::searches::{self, Search};
use sakimori_store::query;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::{Body, Page, PageQuery, Query, limit, place};
use super::problem::{self, Problem};
use super::{App, Done, search};

/// Longest text of a statement, in bytes.
const LONGEST: usize = 64 * 1024;

/// A saved search.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SavedSearch)]
pub struct SearchView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Who made it: `user:name` or `token:name`; with `@*` behind it where that is over all tenants.
    pub owner: String,
    /// Is it mine?
    pub mine: bool,
    /// Do all of the tenant see it?
    pub shared: bool,
    /// `search`, or `sql`.
    pub language: String,
    /// The search text or statement.
    pub q: String,
    /// From when: a time, RFC 3339, or how long ago (`15m`, `24h`, `7d`); empty where it says nothing.
    pub from: String,
    /// Until when, in the same form.
    pub to: String,
    /// Fields that are shown.
    pub fields: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub changed: Timestamp,
}

/// A search to be saved.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSearch {
    /// Its name, 1 to 120 characters, one of its owner's.
    pub name: String,
    /// `search` (where absent) or `sql`.
    #[serde(default)]
    pub language: Option<String>,
    /// The search text or statement.
    #[serde(default)]
    pub q: String,
    /// From when: a time, RFC 3339, or how long ago (`15m`, `24h`, `7d`).
    #[serde(default)]
    pub from: String,
    /// Until when, in the same form.
    #[serde(default)]
    pub to: String,
    /// Fields that are shown, at most 64.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Do all of the tenant see it?
    #[serde(default)]
    pub shared: bool,
}

fn view(search: Search, caller: &Caller) -> SearchView {
    SearchView {
        mine: search.owner == caller.owner(),
        id: search.id,
        name: search.name,
        owner: search.owner,
        shared: search.shared,
        language: search.language,
        q: search.query,
        from: search.begins,
        to: search.ends,
        fields: search.columns.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        created: search.created,
        changed: search.changed,
    }
}

/// `GET /searches`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<SearchView>>, Problem> {
    let limit = limit(query.limit)?;
    let after: (String, String) = place(query.cursor.as_deref())?.unwrap_or_default();
    let rows = searches::list(app.shared.control.read(), caller.tenant(), &caller.owner(), &after, limit + 1).await?;
    let place = |row: &Search| (row.name.clone(), row.id.clone());
    Ok(Json(Page::of(rows, limit, place, |search| view(search, &caller))))
}

/// `GET /searches/{id}`
pub async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<Json<SearchView>, Problem> {
    let search = searches::get(app.shared.control.read(), caller.tenant(), &id, &caller.owner()).await?;
    Ok(Json(view(search, &caller)))
}

/// `POST /searches`
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewSearch>,
) -> Result<(StatusCode, Json<SearchView>), Problem> {
    let now = app.shared.clock.now();
    let made = Search {
        id: sakimori_model::id::row_id(),
        tenant: caller.tenant().to_owned(),
        owner: caller.owner(),
        created: now,
        ..checked(new, now)?
    };
    let mut change = app.shared.control.begin().await?;
    searches::create(change.connection(), &made).await?;
    let made = view(made, &caller);
    let done =
        Done { tenant: caller.tenant(), action: "searches:create", target: &made.id, before: None, after: Some(&made) };
    app.done(change, &caller, done).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// `PUT /searches/{id}`
pub async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewSearch>,
) -> Result<Json<SearchView>, Problem> {
    let mut change = app.shared.control.begin().await?;
    let before = searches::get(change.connection(), caller.tenant(), &id, &caller.owner()).await?;
    if !new.shared && before.owner != caller.owner() {
        let reason = "only its owner may take a search away from the others";
        return Err(Problem::new(problem::SEARCH_INVALID).fault("shared", reason));
    }
    let after = Search {
        tenant: before.tenant.clone(),
        id: before.id.clone(),
        owner: before.owner.clone(),
        created: before.created,
        ..checked(new, app.shared.clock.now())?
    };
    searches::put(change.connection(), &after).await?;
    let (before, after) = (view(before, &caller), view(after, &caller));
    let done = Done {
        tenant: caller.tenant(),
        action: "searches:change",
        target: &after.id,
        before: Some(&before),
        after: Some(&after),
    };
    app.done(change, &caller, done).await?;
    Ok(Json(after))
}

/// `DELETE /searches/{id}`
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let mut change = app.shared.control.begin().await?;
    let before = view(searches::get(change.connection(), caller.tenant(), &id, &caller.owner()).await?, &caller);
    searches::delete(change.connection(), caller.tenant(), &before.id).await?;
    let done = Done {
        tenant: caller.tenant(),
        action: "searches:delete",
        target: &before.id,
        before: Some(&before),
        after: None,
    };
    app.done(change, &caller, done).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A search as it would be kept; all that is wrong with it is told at once.
fn checked(new: NewSearch, now: Timestamp) -> Result<Search, Problem> {
    let mut wrong: Option<Problem> = None;
    let mut tell = |place: &str, reason: String| {
        wrong = Some(wrong.take().unwrap_or_else(|| Problem::new(problem::SEARCH_INVALID)).fault(place, reason));
    };
    let name = new.name.trim().to_owned();
    if !(1..=120).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        tell("name", "a name has 1 to 120 characters".to_owned());
    }
    let language = new.language.unwrap_or_else(|| "search".to_owned());
    match language.as_str() {
        "search" => {
            if let Err(error) = query::parse(&new.q) {
                tell("q", error.to_string());
            }
        }
        "sql" if new.q.len() <= LONGEST && !new.q.trim().is_empty() => {}
        "sql" => tell("q", format!("a statement has 1 to {LONGEST} bytes")),
        other => tell("language", format!("expected search or sql, found {other:?}")),
    }
    for (place, text) in [("from", &new.from), ("to", &new.to)] {
        if !(text.is_empty() || Timestamp::parse(text).is_some() || is_ago(text)) {
            tell(place, format!("expected a time such as 2026-01-02T03:04:05Z or 15m, 24h, 7d, found {text:?}"));
        }
    }
    let columns = new.fields.join(",");
    if search::chosen(Some(&columns)).is_err() || new.fields.iter().any(|name| name.is_empty() || name.contains(',')) {
        tell("fields", "expected at most 64 names of fields".to_owned());
    }
    match wrong {
        Some(problem) => Err(problem),
        None => Ok(Search {
            tenant: String::new(),
            id: String::new(),
            name,
            owner: String::new(),
            shared: new.shared,
            language,
            query: new.q,
            begins: new.from,
            ends: new.to,
            columns,
            created: now,
            changed: now,
        }),
    }
}

/// How long ago: a number and `s`, `m`, `h`, `d` or `w`.
fn is_ago(text: &str) -> bool {
    let number = text.strip_suffix(['s', 'm', 'h', 'd', 'w']).unwrap_or_default();
    (1..=9).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let good =
            || NewSearch { name: "x".into(), q: "user.name:root".into(), from: "24h".into(), ..NewSearch::default() };
        let now = Timestamp::from_secs(1);
        assert_eq!(checked(good(), now).unwrap().begins, "24h");
        let sql = NewSearch { language: Some("sql".into()), q: "SELECT 1".into(), ..good() };
        assert!(checked(sql, now).is_ok());
        for bad in [
            NewSearch { name: " ".into(), ..good() },
            NewSearch { name: "a\nb".into(), ..good() },
            NewSearch { q: "user.name:(".into(), ..good() },
            NewSearch { from: "yesterday".into(), ..good() },
            NewSearch { to: "-1h".into(), ..good() },
            NewSearch { fields: vec!["a,b".into()], ..good() },
            NewSearch { fields: vec![String::new()], ..good() },
            NewSearch { fields: vec!["a".into(); 65], ..good() },
            NewSearch { language: Some("lucene".into()), ..good() },
            NewSearch { language: Some("sql".into()), q: "x".repeat(LONGEST + 1), ..good() },
        ] {
            assert_eq!(checked(bad, now).unwrap_err().code.code, "searches/invalid");
        }
    }
}
