//! Checking the text of rules, programs, playbooks and policies as it is written, and running the tests of a rule: in a
//! process with few rights ([`crate::lint`]).

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::ToSchema;

use super::App;
use super::extract::Body;
use super::problem::{self, Problem};
use super::rules::one;
use crate::lint::{Ask, Language, LintError, MOST_TEXT, Outcome};
use crate::rules::{self as catalog, Language as Of};

/// A text to be checked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLint {
    /// Its language.
    pub language: Language,
    /// The text, at most 256 KiB.
    pub text: String,
    /// What its errors call it, a file's name.
    #[serde(default)]
    pub file: String,
}

/// What of a rule is tested; what stands in the bundle where absent.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTest {
    /// Another text of the rule's whole file, at most 256 KiB.
    pub text: Option<String>,
    /// Other tests, at most 256 KiB.
    pub tests: Option<String>,
}

/// `POST /rules/lint`
pub async fn lint(State(app): State<App>, Body(new): Body<NewLint>) -> Result<Json<Outcome>, Problem> {
    bounded("text", &new.text)?;
    let opened = app.content.get(&app).await?;
    let file = new.file.chars().filter(|letter| !letter.is_control()).take(200).collect::<String>();
    let ask = Ask {
        language: new.language,
        file: if file.is_empty() { "text".into() } else { file },
        text: new.text,
        tests: None,
        files: match new.language {
            Language::Sigma => files(&opened.bundle.files, "logs/"),
            _ => BTreeMap::new(),
        },
    };
    asked(&app, ask).await
}

/// `POST /rules/{id}/test`
pub async fn test(
    State(app): State<App>,
    Path(id): Path<String>,
    Body(new): Body<NewTest>,
) -> Result<Json<Outcome>, Problem> {
    let opened = app.content.get(&app).await?;
    let rule = one(&opened, &id)?;
    let tests_file =
        catalog::tests_file(&rule).filter(|file| new.tests.is_some() || opened.bundle.files.contains_key(file));
    let Some(tests_file) = tests_file else {
        return Err(Problem::new(problem::RULE_INVALID).detail("this rule has no tests"));
    };
    let of = |path: &str| {
        let bytes = opened.bundle.files.get(path).cloned().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let text = new.text.unwrap_or_else(|| of(&rule.file));
    let tests = new.tests.unwrap_or_else(|| of(&tests_file));
    // What lies in the bundle may be larger; what somebody sends may not.
    bounded("text", &text)?;
    bounded("tests", &tests)?;
    let (language, beside) = match rule.language {
        Of::Sigma | Of::Correlation => (Language::Sigma, files(&opened.bundle.files, "logs/")),
        Of::Suricata => (Language::Suricata, files(&opened.bundle.files, "network/")),
        Of::Yara => (Language::Yara, BTreeMap::new()),
        Of::Hash => (Language::Hash, BTreeMap::new()),
    };
    asked(&app, Ask { language, file: rule.file, text, tests: Some((tests_file, tests)), files: beside }).await
}

fn bounded(place: &str, text: &str) -> Result<(), Problem> {
    if text.len() <= MOST_TEXT {
        return Ok(());
    }
    Err(Problem::new(problem::RULE_INVALID).fault(place, format!("at most {MOST_TEXT} bytes")))
}

/// Files of the bundle below a folder, without examples of log lines.
fn files(all: &sakimori_content::files::Files, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let wanted = |path: &str| path.starts_with(folder) && !path.contains("/cases/") && !path.ends_with(".tests");
    all.iter().filter(|(path, _)| wanted(path)).map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
}

async fn asked(app: &App, ask: Ask) -> Result<Json<Outcome>, Problem> {
    match app.linter.ask(ask).await {
        Ok(outcome) => Ok(Json(outcome)),
        Err(LintError::Busy) => Err(Problem::new(problem::SERVER_NOT_READY).retry_after(2)),
        Err(LintError::Ended(reason)) => Err(Problem::new(problem::RULE_INVALID).detail(reason)),
        Err(LintError::None(reason)) => {
            tracing::warn!(reason, "a text could not be checked");
            Err(Problem::new(problem::SERVER_NOT_READY).retry_after(10))
        }
    }
}
