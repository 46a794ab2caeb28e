//! Executions of playbooks: what each did and waits for, answers to its questions, taking all of it back.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sakimori_model::Timestamp;
use sakimori_respond::execution::{Execution, Question, State as At};
use sakimori_store::control::Scope;
use sakimori_store::control::executions::{self, Answer, Row};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::access::Caller;
use super::actions::ActionView;
use super::extract::{Body, Page, Query, Raw, limit, place};
use super::problem::{self, Problem};
use super::{App, Done};
use crate::answers::Asked;
use crate::executions as driver;

/// Longest comment of an answer, in bytes.
const MOST_COMMENT: usize = 1_000;

/// An execution: `id`, `playbook`, `revision`, `alert`, `by`, `started`, `state`, `reason`, `steps` by their places, each
/// with `state`, `since`, `action`, `reason`, `until`, `question`, …
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Execution, value_type = Object)]
pub struct ExecutionView(Execution);

/// An execution with what it acts on.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExecutionDetail {
    /// The record.
    pub execution: ExecutionView,
    /// The actions that it ordered, as they are now.
    pub actions: Vec<ActionView>,
    /// What people answered.
    pub answers: Vec<AnswerView>,
    /// Who wants it taken back; empty where nobody does.
    pub undo: String,
    /// The alert or finding that began it.
    #[schema(value_type = Object)]
    pub event: Value,
    /// The playbook's text that it runs.
    pub text: String,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnswerView {
    /// The step that asked.
    pub step: String,
    /// Who answered.
    pub person: String,
    /// Yes?
    pub allow: bool,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// What they said along with it; may be empty.
    pub comment: String,
}

/// Which executions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ExecutionQuery {
    /// Slug of the playbook.
    #[serde(default)]
    pub playbook: String,
    /// State: `running`, `done`, …
    #[serde(default)]
    pub state: String,
    /// Id of the alert.
    #[serde(default)]
    pub alert: String,
    /// Most executions, 1 to 1000; 100 where absent.
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

/// An answer to a question.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAnswer {
    /// The step that asks, as `steps` names it; the only one that waits where absent.
    pub step: Option<String>,
    /// Yes?
    pub allow: bool,
    /// Why, for those who read the execution and the audit log; at most 1000 bytes.
    #[serde(default)]
    pub comment: String,
}

/// `GET /executions`
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ExecutionQuery>,
) -> Result<Json<Page<ExecutionView>>, Problem> {
    let limit = limit(query.limit)?;
    let before: Option<(i64, String)> = place(query.cursor.as_deref())?;
    let before = before.as_ref().map(|(time, id)| (*time, id.as_str()));
    let which = (query.playbook.as_str(), query.state.as_str(), query.alert.as_str());
    let rows = executions::list(app.shared.control.read(), &caller.scope(), which, before, limit + 1).await?;
    let rows = rows.into_iter().map(|row| Ok((driver::read(&row)?, row))).collect::<Result<Vec<_>, Problem>>()?;
    let at = |(_, row): &(Execution, Row)| (row.started, row.id.clone());
    Ok(Json(Page::of(rows, limit, at, |(execution, _)| ExecutionView(execution))))
}

/// `GET /executions/{id}`
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<ExecutionDetail>, Problem> {
    let row = executions::get(app.shared.control.read(), &caller.scope(), &id).await?;
    Ok(Json(detail(&app, row).await?))
}

async fn detail(app: &App, row: Row) -> Result<ExecutionDetail, Problem> {
    let execution = driver::read(&row)?;
    let control = app.shared.control.read();
    let mut actions: Vec<_> = driver::actions_of(&app.shared, &row.tenant, &execution).await?.into_values().collect();
    actions.sort_by_key(|action| action.planned_at);
    let answers = executions::answers(control, &row.tenant, &row.id).await?;
    let text = executions::revision(control, &row.revision).await?.map(|known| known.text);
    Ok(ExecutionDetail {
        execution: ExecutionView(execution),
        actions: actions.into_iter().map(ActionView::from).collect(),
        answers: answers.into_iter().map(view).collect(),
        undo: row.undo,
        event: serde_json::from_str(&row.event).unwrap_or_default(),
        text: text.unwrap_or_default(),
    })
}

fn view(answer: Answer) -> AnswerView {
    let Answer { step, person, allow, time, comment } = answer;
    AnswerView { step, person, allow, time: Timestamp::from_micros(time), comment }
}

/// `POST /executions/{id}/answer`
pub async fn answer(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewAnswer>,
) -> Result<(StatusCode, Json<ExecutionDetail>), Problem> {
    if new.comment.len() > MOST_COMMENT {
        let reason = format!("a comment has at most {MOST_COMMENT} bytes");
        return Err(Problem::new(problem::REQUEST_BODY).fault("comment", reason));
    }
    let row = executions::get(app.shared.control.read(), &caller.scope(), &id).await?;
    let execution = driver::read(&row)?;
    let waiting: Vec<String> = execution.questions().map(|(step, ..)| step.to_owned()).collect();
    let step = match (new.step, waiting.as_slice()) {
        (Some(step), _) if waiting.contains(&step) => step,
        (None, [step]) => step.clone(),
        (_, []) => return Err(Problem::new(problem::EXECUTION_ANSWER).detail("it asks nothing now")),
        _ => {
            let reason = format!("name the step that asks: {}", waiting.join(", "));
            return Err(Problem::new(problem::EXECUTION_ANSWER).fault("step", reason));
        }
    };
    let several = execution.questions().any(|(place, question, _)| place == step && question.persons > 1);
    if several && (caller.user.is_none() || execution.by == caller.name) {
        let reason = "several people are asked: users by name, and not the one who began it";
        return Err(Problem::new(problem::EXECUTION_ANSWER).detail(reason));
    }
    let mut change = app.shared.control.begin().await?;
    let time = app.shared.clock.now().micros();
    let comment = new.comment.trim().to_owned();
    let said = (!comment.is_empty()).then(|| json!({ "comment": comment }));
    let given = Answer { step: step.clone(), person: caller.name.clone(), allow: new.allow, time, comment };
    if !executions::answer(change.connection(), &row.tenant, &row.id, &given).await? {
        return Err(Problem::new(problem::EXECUTION_ANSWER).detail("you answered this question already"));
    }
    let target = format!("{} {step}", row.id);
    let action = if new.allow { "executions:allow" } else { "executions:deny" };
    let done = Done { tenant: &row.tenant, action, target: &target, before: None, after: said.as_ref() };
    app.done(change, &caller, done).await?;
    app.shared.executions_changed.notify_one();
    Ok((StatusCode::ACCEPTED, Json(detail(&app, row).await?)))
}

/// `POST /executions/{id}/undo`
pub async fn undo(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<ExecutionDetail>), Problem> {
    let row = executions::get(app.shared.control.read(), &caller.scope(), &id).await?;
    if [At::Undone, At::Compensated].iter().any(|over| over.name() == row.state) {
        return Err(Problem::new(problem::ACTION_OVER).detail(format!("execution {id} is {} already", row.state)));
    }
    let mut change = app.shared.control.begin().await?;
    executions::want_back(change.connection(), &row.tenant, &row.id, &caller.name).await?;
    let action = "executions:undo";
    app.done(change, &caller, Done { tenant: &row.tenant, action, target: &row.id, before: NOTHING, after: NOTHING })
        .await?;
    app.shared.executions_changed.notify_one();
    let row = executions::get(app.shared.control.read(), &caller.scope(), &id).await?;
    Ok((StatusCode::ACCEPTED, Json(detail(&app, row).await?)))
}

/// `GET /answer/{token}`: shows the question; changes nothing, since programs that look at messages follow links.
pub async fn question(State(app): State<App>, Path(token): Path<String>) -> Response {
    match asked(&app, &token).await {
        None => page(StatusCode::NOT_FOUND, GONE, ""),
        Some((_, row, question)) => page(StatusCode::OK, &told(&row, &question), FORM),
    }
}

/// `POST /answer/{token}`
pub async fn choose(State(app): State<App>, Path(token): Path<String>, Raw(form): Raw) -> Response {
    let Some((asked, row, _)) = asked(&app, &token).await else {
        return page(StatusCode::NOT_FOUND, GONE, "");
    };
    let allow = match &form[..] {
        b"answer=allow" => true,
        b"answer=deny" => false,
        _ => return page(StatusCode::BAD_REQUEST, GONE, ""),
    };
    match note(&app, &asked, &row, allow).await {
        Ok(true) => page(StatusCode::OK, THANKS, ""),
        Ok(false) => page(StatusCode::OK, ANSWERED, ""),
        Err(problem) => problem.into_response(),
    }
}

async fn note(app: &App, asked: &Asked, row: &Row, allow: bool) -> Result<bool, Problem> {
    let now = app.shared.clock.now();
    let person = format!("link to {}", asked.channel);
    let (step, comment) = (asked.step.clone(), String::new());
    let given = Answer { step, person: person.clone(), allow, time: now.micros(), comment };
    let mut change = app.shared.control.begin().await?;
    let first = executions::answer(change.connection(), &row.tenant, &row.id, &given).await?;
    if first {
        let entry = sakimori_store::control::audit::Entry {
            tenant: &row.tenant,
            time: now,
            actor: &person,
            action: if allow { "executions:allow" } else { "executions:deny" },
            target: &format!("{} {}", row.id, asked.step),
            before: None,
            after: None,
            address: "",
            request: "",
        };
        change.audit(&entry).await?;
    }
    change.commit().await?;
    app.shared.executions_changed.notify_one();
    app.shared.outbox_changed.notify_one();
    Ok(first)
}

/// The question that a link is about, where it still waits.
async fn asked(app: &App, token: &str) -> Option<(Asked, Row, Question)> {
    let asked = Asked::read(token, &app.shared.order_key, app.shared.clock.now())?;
    let scope = Scope::One(asked.tenant.clone());
    let row = executions::get(app.shared.control.read(), &scope, &asked.execution).await.ok()?;
    let execution = driver::read(&row).ok()?;
    let question =
        execution.questions().find(|(step, ..)| *step == asked.step).map(|(_, question, _)| question.clone());
    Some((asked, row, question?))
}

const GONE: &str = "<p>This question waits for no answer: its time is up, somebody answered it, or the link is not whole.</p>\
                    <p lang=\"ja\">この質問は回答を待っていません(期限切れ、回答済み、またはリンクが不完全です)。</p>";
const THANKS: &str = "<p>Your answer counts.</p><p lang=\"ja\">回答を受け付けました。</p>";
const ANSWERED: &str = "<p>By this link it was answered already; the first answer counts.</p>\
                        <p lang=\"ja\">このリンクでは既に回答済みです。最初の回答が有効です。</p>";
const FORM: &str = "<form method=\"post\"><button name=\"answer\" value=\"allow\">Allow / 許可</button> \
                    <button name=\"answer\" value=\"deny\">Deny / 拒否</button></form>";

fn told(row: &Row, question: &Question) -> String {
    let mut text = format!("<h1>{}</h1><p>{}</p>", escape(&row.playbook), escape(&question.en));
    if !question.ja.is_empty() {
        text.push_str(&format!("<p lang=\"ja\">{}</p>", escape(&question.ja)));
    }
    text.push_str(&format!("<p><small>execution {}, alert {}</small></p>", escape(&row.id), escape(&row.alert)));
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn page(status: StatusCode, told: &str, form: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Sakimori</title><body>{told}{form}</body></html>"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; form-action 'self'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, html).into_response()
}

const NOTHING: Option<&()> = None;
