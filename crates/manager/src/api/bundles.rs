//! Rule bundles: the one in force, and taking a newer one that was built elsewhere with the same key.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use sakimori_content::bundle::{self, Bundle};
use sakimori_content::files::{Files, builtin_file};
use sakimori_model::Timestamp;
use sakimori_store::control::ALL_TENANTS;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use utoipa::ToSchema;

use super::access::Caller;
use super::extract::Raw;
use super::problem::{self, Problem};
use super::{App, Done};
use crate::release;
use crate::rules::{self, Listed};

/// Largest bundle that is taken, in bytes.
pub const MOST: usize = 64 << 20;

/// The bundle in force, taken apart once for all requests.
#[derive(Clone, Default)]
pub struct Content(Arc<Mutex<Option<(u64, Arc<Opened>)>>>);

/// A bundle that was taken apart.
pub struct Opened {
    /// The bundle.
    pub bundle: Bundle,
    /// Its rules, of all languages.
    pub listed: Vec<Listed>,
    /// Files of rules that are none of this release's.
    pub own: HashSet<String>,
    size: usize,
    sha256: String,
}

impl Content {
    /// The bundle in force.
    pub(super) async fn get(&self, app: &App) -> Result<Arc<Opened>, Problem> {
        let release = app.shared.bundle.load_full();
        let mut kept = self.0.lock().await;
        if let Some((number, opened)) = kept.as_ref()
            && *number == release.number
        {
            return Ok(Arc::clone(opened));
        }
        let key = app.shared.bundle_key;
        let opened = tokio::task::spawn_blocking(move || {
            let bundle = bundle::verify(&release.bytes, &key, release.number.saturating_sub(1))?;
            let listed = rules::list(&bundle.files);
            let own = own(&bundle.files, &listed);
            let (size, sha256) = (release.bytes.len(), hex::encode(Sha256::digest(release.bytes.as_slice())));
            Ok::<_, bundle::BundleError>(Arc::new(Opened { bundle, listed, own, size, sha256 }))
        });
        let opened = opened.await.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))?;
        *kept = Some((opened.bundle.number, Arc::clone(&opened)));
        Ok(opened)
    }
}

fn own(files: &Files, listed: &[Listed]) -> HashSet<String> {
    let of_rules: HashSet<&String> = listed.iter().map(|rule| &rule.file).collect();
    let differs = |path: &&&String| builtin_file(path) != files.get(**path).map(Vec::as_slice);
    of_rules.iter().filter(differs).map(|path| (*path).clone()).collect()
}

/// A bundle.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bundle)]
pub struct BundleView {
    /// Its number; a program never takes one that is not above what it had.
    pub number: u64,
    /// When it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created: Option<Timestamp>,
    /// What changed.
    pub notes: String,
    /// Files in it.
    pub files: usize,
    /// Rules in it, of all languages.
    pub rules: usize,
    /// Its size in bytes.
    pub size: usize,
    /// SHA-256 of its bytes, hex.
    pub sha256: String,
}

fn view(opened: &Opened) -> BundleView {
    BundleView {
        number: opened.bundle.number,
        created: opened.bundle.created,
        notes: opened.bundle.notes.clone(),
        files: opened.bundle.files.len(),
        rules: opened.listed.len(),
        size: opened.size,
        sha256: opened.sha256.clone(),
    }
}

/// `GET /bundles/current`
pub async fn current(State(app): State<App>) -> Result<Json<BundleView>, Problem> {
    Ok(Json(view(&*app.content.get(&app).await?)))
}

/// `PUT /bundles/current`
pub async fn upload(State(app): State<App>, caller: Caller, Raw(bytes): Raw) -> Result<Json<BundleView>, Problem> {
    let before = view(&*app.content.get(&app).await?);
    let shared = Arc::clone(&app.shared);
    let installed = tokio::task::spawn_blocking(move || release::install(&shared, bytes.to_vec()));
    installed
        .await
        .map_err(|error| Problem::failed(&error))?
        .map_err(|reason| Problem::new(problem::BUNDLE_REFUSED).detail(reason))?;
    let after = view(&*app.content.get(&app).await?);
    let change = app.shared.control.begin().await?;
    let target = after.number.to_string();
    let done = Done {
        tenant: ALL_TENANTS,
        action: "bundles:install",
        target: &target,
        before: Some(&before),
        after: Some(&after),
    };
    app.done(change, &caller, done).await?;
    Ok(Json(after))
}
