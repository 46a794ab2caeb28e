//! Rule bundles: the one in force, and taking a newer one that was built elsewhere with the same key.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use sakimori_content::bundle::{self, Bundle};
use sakimori_content::files::Files;
use sakimori_detect::{Detector, LogSource, Options, Place};
use sakimori_model::Timestamp;
use sakimori_model::rule::RuleInfo;
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

/// Largest bundle that is taken, in bytes.
pub const MOST: usize = 64 << 20;

/// The bundle in force, taken apart once for all requests.
#[derive(Clone, Default)]
pub struct Content(Arc<Mutex<Option<(u64, Arc<Opened>)>>>);

/// A bundle that was taken apart.
pub struct Opened {
    /// The bundle.
    pub bundle: Bundle,
    /// Its rules that could be loaded.
    pub rules: Vec<RuleInfo>,
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
            let rules = rules(&bundle.files);
            let (size, sha256) = (release.bytes.len(), hex::encode(Sha256::digest(release.bytes.as_slice())));
            Ok::<_, bundle::BundleError>(Arc::new(Opened { bundle, rules, size, sha256 }))
        });
        let opened = opened.await.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))?;
        *kept = Some((opened.bundle.number, Arc::clone(&opened)));
        Ok(opened)
    }
}

fn rules(files: &Files) -> Vec<RuleInfo> {
    let (sources, _) = LogSource::load_all(files);
    let options = Options { place: Place::Manager, ..Options::default() }.with_sources(&sources);
    let (detector, _) = Detector::from_files(files, options);
    detector.rules().cloned().collect()
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
    /// Rules in it that could be loaded.
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
        rules: opened.rules.len(),
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
