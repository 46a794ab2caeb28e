//! Playbooks: what is done about which alert. They are part of the bundle.

use axum::Json;
use axum::extract::State;
use sakimori_respond::playbook::{Playbook, is_playbook};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::problem::Problem;

/// A playbook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Playbook)]
pub struct PlaybookView {
    /// Slug.
    pub id: String,
    /// Its file in the bundle.
    pub file: String,
    /// Title in English.
    pub title: String,
    /// Title in Japanese; empty where there is none.
    pub title_ja: String,
    /// `host`: on the agent, without the manager; `wide`: in the manager.
    #[schema(value_type = String)]
    pub scope: sakimori_model::rule::Scope,
    /// The whole of it, YAML.
    pub text: String,
}

/// The playbooks in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct Playbooks {
    /// The bundle that they are of.
    pub bundle: u64,
    /// In the order of their files.
    pub items: Vec<PlaybookView>,
}

/// `GET /playbooks`
pub async fn list(State(app): State<App>) -> Result<Json<Playbooks>, Problem> {
    let opened = app.content.get(&app).await?;
    let files = opened.bundle.files.iter().filter(|(path, _)| is_playbook(path));
    let items = files.filter_map(|(path, bytes)| {
        let text = std::str::from_utf8(bytes).ok()?;
        // One that cannot be loaded is not in force; the log of the start says why.
        let playbook = Playbook::parse(path, text).ok()?;
        Some(PlaybookView {
            id: playbook.id,
            file: path.clone(),
            title: playbook.title.en,
            title_ja: playbook.title.ja,
            scope: playbook.scope,
            text: text.to_owned(),
        })
    });
    Ok(Json(Playbooks { bundle: opened.bundle.number, items: items.collect() }))
}
