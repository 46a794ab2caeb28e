//! `searches`: saved searches: list, save, run, delete.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::Api;
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum SearchesCommand {
    /// List my saved searches and those that are shared (the default)
    List,
    /// Save a search
    #[command(
        after_help = "Example:\n  sakimori searches save 'Failed logins of root' 'user.name:root and event.outcome:failure' \
        --from 24h --fields user.name,source.ip --shared"
    )]
    Save(Save),
    /// Delete a saved search
    Delete {
        /// Its id or name
        search: String,
    },
}

#[derive(Debug, Args)]
pub struct Save {
    /// Its name
    name: String,
    /// Search text, or with --sql a statement
    query: String,
    /// The query is one SELECT over the table `events`
    #[arg(long)]
    sql: bool,
    /// From when: 15m, 24h, 7d ago, or 2026-01-02T03:04:05Z
    #[arg(long, default_value = "")]
    from: String,
    /// Until when, in the same form
    #[arg(long, default_value = "")]
    to: String,
    /// Fields that are shown, with commas between
    #[arg(long, value_delimiter = ',')]
    fields: Vec<String>,
    /// All of the tenant see it
    #[arg(long)]
    shared: bool,
}

pub async fn run(api: &Api, command: Option<SearchesCommand>, json: bool) -> Result<()> {
    match command.unwrap_or(SearchesCommand::List) {
        SearchesCommand::List => {
            let found = api.list("/api/v1/searches", &[], 5_000).await?;
            if json {
                return found.iter().try_for_each(output::json_line);
            }
            let rows: Vec<Vec<String>> = found.iter().map(row).collect();
            output::table(HEADING, &rows, "none is saved; save one with: sakimori searches save NAME QUERY")
        }
        SearchesCommand::Save(save) => {
            let body = json!({
                "name": save.name, "q": save.query, "language": if save.sql { "sql" } else { "search" },
                "from": save.from, "to": save.to, "fields": save.fields, "shared": save.shared,
            });
            let made = api.send(Method::POST, "/api/v1/searches", &body).await?;
            if json { output::json(&made) } else { output::line(format!("saved as {}", text(&made, "id"))) }
        }
        SearchesCommand::Delete { search } => {
            let id = find(api, &search).await?;
            api.delete(&format!("/api/v1/searches/{id}")).await?;
            output::line("deleted")
        }
    }
}

const HEADING: &[&str] = &["id", "name", "owner", "shared", "from", "query"];

fn row(search: &Value) -> Vec<String> {
    ["id", "name", "owner", "shared", "from", "q"].map(|name| text(search, name)).into()
}

/// The id of a search that is named by its id or name.
async fn find(api: &Api, wanted: &str) -> Result<String> {
    let found = api.list("/api/v1/searches", &[], 5_000).await?;
    let fits = |search: &&Value| text(search, "id") == wanted || text(search, "name") == wanted;
    let ids: Vec<String> = found.iter().filter(fits).map(|search| text(search, "id")).collect();
    match ids.as_slice() {
        [id] => Ok(id.clone()),
        [] => bail!("no saved search {wanted:?}; see: sakimori searches list"),
        several => bail!("several searches are called {wanted:?}: {}", several.join(", ")),
    }
}
