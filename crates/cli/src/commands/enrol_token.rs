//! `enrol-token`: one-time tokens with which hosts join.

use anyhow::Result;
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use crate::api::{Api, part};
use crate::output::{self, text};

#[derive(Debug, Subcommand)]
pub enum EnrolTokenCommand {
    /// Make a token; it is shown once and good for one host
    #[command(after_help = "Example:\n  sakimori enrol-token create web1 --tag web\n  \
        then on the host: sudo sakimori-agent enroll TOKEN")]
    Create {
        /// Name for people
        name: String,
        /// Tags that the host gets
        #[arg(long = "tag")]
        tags: Vec<String>,
        /// Hours that it is good for
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
    /// List tokens
    List,
    /// Take a token back
    Delete {
        /// Its id
        id: String,
    },
}

pub async fn run(api: &Api, command: EnrolTokenCommand, json: bool) -> Result<()> {
    match command {
        EnrolTokenCommand::Create { name, tags, hours } => {
            let body = json!({ "name": name, "tags": tags, "hours": hours });
            let made = api.send(Method::POST, "/api/v1/enrolment-tokens", &body).await?;
            if json {
                return output::json(&made);
            }
            output::line(text(&made, "token"))?;
            anstream::eprintln!("this is shown once; on the host: sudo sakimori-agent enroll TOKEN");
            Ok(())
        }
        EnrolTokenCommand::List => {
            let found = api.list("/api/v1/enrolment-tokens", &[], 10_000).await?;
            if json {
                return output::json(&found);
            }
            let names = ["id", "name", "tags", "created_by", "expires", "used", "used_by"];
            let rows: Vec<Vec<String>> =
                found.iter().map(|token| names.iter().map(|name| text(token, name)).collect()).collect();
            output::table(&names, &rows, "no enrolment tokens")
        }
        EnrolTokenCommand::Delete { id } => {
            api.delete(&format!("/api/v1/enrolment-tokens/{}", part(&id))).await?;
            if json { output::json(&json!({ "deleted": id })) } else { output::line(format!("{id} is taken back")) }
        }
    }
}
