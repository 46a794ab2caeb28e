//! Tenants: for those who look after several. A default installation has one and shows nothing of it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use sakimori_model::Timestamp;
use sakimori_store::control::ALL_TENANTS;
use sakimori_store::control::tenants::{self, Tenant};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::{Body, Page, PageQuery, Query, limit, place};
use super::problem::{self, Problem};
use super::{App, Done};

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tenant)]
pub struct TenantView {
    /// Slug, also `organization.id` of its events.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// When made.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        Self { id: tenant.id, name: tenant.name, created: tenant.created }
    }
}

/// A tenant to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// 1 to 63 lower-case letters, digits and inner hyphens.
    pub id: String,
    /// Name for people; the id where absent.
    pub name: Option<String>,
}

/// `GET /tenants`
pub async fn list(State(app): State<App>, Query(query): Query<PageQuery>) -> Result<Json<Page<TenantView>>, Problem> {
    let limit = limit(query.limit)?;
    let after: String = place(query.cursor.as_deref())?.unwrap_or_default();
    let rows = tenants::list(app.shared.control.read(), &after, limit + 1).await?;
    Ok(Json(Page::of(rows, limit, |tenant| tenant.id.clone(), TenantView::from)))
}

/// `POST /tenants`
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewTenant>,
) -> Result<(StatusCode, Json<TenantView>), Problem> {
    if !tenants::valid_id(&new.id) {
        let reason = "an id has 1 to 63 lower-case letters, digits and inner hyphens";
        return Err(Problem::new(problem::TENANT_INVALID).fault("id", reason));
    }
    let name = new.name.unwrap_or_else(|| new.id.clone());
    if !(1..=200).contains(&name.len()) {
        return Err(Problem::new(problem::TENANT_INVALID).fault("name", "a name has 1 to 200 bytes"));
    }
    let tenant = Tenant { id: new.id, name, created: app.shared.clock.now() };
    let mut change = app.shared.control.begin().await?;
    tenants::create(change.connection(), &tenant).await?;
    let view = TenantView::from(tenant);
    let done =
        Done { tenant: ALL_TENANTS, action: "tenants:create", target: &view.id, before: None, after: Some(&view) };
    app.done(change, &caller, done).await?;
    Ok((StatusCode::CREATED, Json(view)))
}
