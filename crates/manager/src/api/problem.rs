//! Errors of the API: `application/problem+json` (RFC 9457) with a stable `code`.
//!
//! A code is `area/what`; its status and its title in English and Japanese come from the one catalog
//! [`CODES`]. A handler returns a [`Problem`]; [`super::frame`] writes it out in the language that was asked
//! for, with the request's id as `instance`.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sakimori_store::control::ControlError;
use sakimori_store::lake::LakeError;
use sakimori_store::query::QueryError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::respond::RespondError;

/// One code: its status and its titles.
#[derive(Debug)]
pub struct Code {
    /// `area/what`; never changes its meaning.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Title in English.
    pub en: &'static str,
    /// Title in Japanese.
    pub ja: &'static str,
}

macro_rules! codes {
    ($($name:ident $code:literal $status:literal $en:literal $ja:literal;)*) => {
        $(#[doc = $en] pub const $name: &Code = &Code { code: $code, status: $status, en: $en, ja: $ja };)*
        /// All codes.
        pub const CODES: &[&Code] = &[$($name),*];
    };
}

codes! {
    REQUEST_PATH "request/path" 404 "There is no such resource" "該当するリソースがありません";
    REQUEST_METHOD "request/method" 405 "This resource does not know the method" "このリソースでは使えないメソッドです";
    REQUEST_BODY "request/body" 400 "The body of the request cannot be read" "リクエスト本文を読み取れません";
    REQUEST_QUERY "request/query" 400 "A parameter of the request cannot be read" "リクエストのパラメーターを読み取れません";
    REQUEST_CURSOR "request/cursor" 400 "The cursor is not one of this list" "この一覧のカーソルではありません";
    REQUEST_TOO_LARGE "request/too-large" 413 "The body of the request is too large" "リクエスト本文が大きすぎます";
    REQUEST_TIMEOUT "request/timeout" 503 "The request took too long" "リクエストが時間内に終わりませんでした";
    AUTH_REQUIRED "auth/required" 401 "Log in first: send a token or open a session" "認証が必要です。トークンを送るかログインしてください";
    AUTH_FAILED "auth/failed" 401 "Name or password is wrong" "名前またはパスワードが違います";
    AUTH_THROTTLED "auth/throttled" 429 "Too many failed logins; try again later" "ログインの失敗が多すぎます。しばらく待ってください";
    AUTH_BUSY "auth/busy" 503 "Too many logins at the moment; try again" "ログインが混み合っています。もう一度試してください";
    AUTH_FORBIDDEN "auth/forbidden" 403 "Your role does not allow this" "この操作はあなたの役割では許可されていません";
    AUTH_ORIGIN "auth/origin" 403 "The request comes from another site" "別のサイトからのリクエストです";
    AUTH_CSRF "auth/csrf" 403 "The request lacks the token of its session" "リクエストにセッションのトークンがありません";
    AUTH_CODE_NEEDED "auth/code-needed" 401 "A code of your device is needed as well" "認証コードも必要です";
    AUTH_CODE "auth/code" 401 "The code is wrong, or was used before" "認証コードが違うか、既に使用されています";
    AUTH_FACTOR_REQUIRED "auth/factor-required" 403 "Set up a second factor first" "先に二要素認証を設定してください";
    AUTH_PASSKEY "auth/passkey" 401 "The passkey is not accepted" "このパスキーは受け付けられません";
    AUTH_SSO "auth/sso" 403 "The answer of the provider is not accepted" "認証プロバイダーの応答を受け付けられません";
    AUTH_ACCOUNT "auth/account" 403 "This account may not sign in here" "このアカウントではサインインできません";
    AUTH_PROVIDER "auth/provider" 404 "There is no such provider" "該当する認証プロバイダーがありません";
    AUTH_PROVIDER_AWAY "auth/provider-away" 503 "The provider cannot be reached" "認証プロバイダーに接続できません";
    SESSION_MISSING "sessions/missing" 404 "There is no such session" "該当するセッションがありません";
    FACTOR_MISSING "factors/missing" 404 "Nothing of the kind is set up" "該当する認証手段が設定されていません";
    FACTOR_EXISTS "factors/exists" 409 "This is set up already" "既に設定されています";
    FACTOR_FIRST "factors/first" 403 "Sign in with the passkey or code that is set up first" "先に設定済みのパスキーか認証コードでサインインしてください";
    FACTOR_FULL "factors/full" 409 "The user has as many passkeys as there may be" "このユーザーのパスキーは上限に達しています";
    FACTOR_INVALID "factors/invalid" 422 "The passkey cannot be like this" "パスキーの内容に誤りがあります";
    FACTOR_UNAVAILABLE "factors/unavailable" 409 "This cannot be used here" "ここでは利用できません";
    TENANT_MISSING "tenants/missing" 404 "There is no such tenant" "該当するテナントがありません";
    TENANT_EXISTS "tenants/exists" 409 "A tenant of this id exists already" "この ID のテナントは既にあります";
    TENANT_INVALID "tenants/invalid" 422 "This cannot be the id of a tenant" "テナントの ID として使えません";
    USER_MISSING "users/missing" 404 "There is no such user" "該当するユーザーがいません";
    USER_EXISTS "users/exists" 409 "A user of this name exists already" "この名前のユーザーは既にいます";
    USER_INVALID "users/invalid" 422 "The user cannot be like this" "ユーザーの内容に誤りがあります";
    USER_LAST_ADMIN "users/last-admin" 409 "This is the last admin over all tenants" "全テナントの管理者が一人もいなくなります";
    TOKEN_MISSING "tokens/missing" 404 "There is no such API token" "該当する API トークンがありません";
    TOKEN_INVALID "tokens/invalid" 422 "The API token cannot be like this" "API トークンの内容に誤りがあります";
    AGENT_MISSING "agents/missing" 404 "There is no such agent" "該当するエージェントがありません";
    AGENT_ACTIVE "agents/active" 409 "Revoke the agent first" "先にエージェントを失効させてください";
    ENROLMENT_MISSING "enrolment/missing" 404 "There is no such enrolment token" "該当する登録トークンがありません";
    ENROLMENT_INVALID "enrolment/invalid" 422 "The enrolment token cannot be like this" "登録トークンの内容に誤りがあります";
    POLICY_LAYER "policies/layer" 422 "There is no policy layer of this kind" "その種類のポリシー層はありません";
    POLICY_INVALID "policies/invalid" 422 "The policy cannot be used" "ポリシーに誤りがあります";
    POLICY_STALE "policies/stale" 409 "The policy layer was changed by somebody else" "ポリシー層は他の人が変更しました";
    POLICY_VERSION "policies/version" 404 "There is no such version of the layer" "その版のポリシー層はありません";
    ROLLOUT_MISSING "rollouts/missing" 404 "There is no such roll-out" "該当する段階展開がありません";
    ROLLOUT_INVALID "rollouts/invalid" 422 "The roll-out cannot be like this" "段階展開の内容に誤りがあります";
    ROLLOUT_BUSY "rollouts/busy" 409 "The policy layer is on its way in stages" "ポリシー層は段階展開の途中です";
    ROLLOUT_OVER "rollouts/over" 409 "The roll-out is over" "段階展開は既に終わっています";
    EXCEPTION_MISSING "exceptions/missing" 404 "There is no such exception" "該当する例外がありません";
    EXCEPTION_INVALID "exceptions/invalid" 422 "The exception cannot be like this" "例外の内容に誤りがあります";
    EXCEPTION_FULL "exceptions/full" 409 "The tenant has as many exceptions as it may have" "このテナントの例外は上限に達しています";
    RULE_MISSING "rules/missing" 404 "There is no such rule" "該当するルールがありません";
    RULE_INVALID "rules/invalid" 422 "This cannot be asked of the rule" "ルールへの要求に誤りがあります";
    EVENTS_QUERY "events/query" 400 "The search text cannot be understood" "検索文を解釈できません";
    EVENTS_REFUSED "events/refused" 422 "This statement is not allowed" "この文は許可されていません";
    EVENTS_TOO_LARGE "events/too-large" 422 "The result would be too large" "結果が大きすぎます";
    EVENTS_TIMED_OUT "events/timed-out" 503 "The search took too long" "検索が時間内に終わりませんでした";
    EVENT_MISSING "events/missing" 404 "There is no such event" "該当するイベントがありません";
    EVENTS_FIELD "events/field" 422 "This cannot be asked of the field" "このフィールドでは使えません";
    EVENTS_BUSY "events/busy" 503 "Too many are watching at the moment" "同時に監視している接続が多すぎます";
    ALERT_MISSING "alerts/missing" 404 "There is no such alert" "該当するアラートがありません";
    ALERT_INVALID "alerts/invalid" 422 "The alert cannot be like this" "アラートの内容に誤りがあります";
    SEARCH_MISSING "searches/missing" 404 "There is no such saved search" "該当する保存済み検索がありません";
    SEARCH_INVALID "searches/invalid" 422 "The saved search cannot be like this" "保存する検索の内容に誤りがあります";
    SEARCH_EXISTS "searches/exists" 409 "A saved search of this name exists already" "この名前の保存済み検索は既にあります";
    SEARCH_FULL "searches/full" 409 "There are as many saved searches as there may be" "保存できる検索の数が上限に達しています";
    ACTION_MISSING "actions/missing" 404 "There is no such action" "該当する対応がありません";
    ACTION_OVER "actions/over" 409 "There is nothing to take back" "取り消す対象がありません";
    ACTION_INVALID "actions/invalid" 422 "This action cannot be ordered" "この対応は指示できません";
    PLAYBOOK_MISSING "playbooks/missing" 404 "There is no such playbook" "該当するプレイブックがありません";
    PLAYBOOK_INVALID "playbooks/invalid" 422 "The playbook cannot be used" "プレイブックに誤りがあります";
    EXECUTION_MISSING "executions/missing" 404 "There is no such execution" "該当する実行がありません";
    EXECUTION_ANSWER "executions/answer" 409 "This answer does not count" "この回答は受け付けられません";
    CLOUD_INVALID "cloud/invalid" 422 "This cannot be asked of a cloud account" "クラウドアカウントへの確認内容に誤りがあります";
    MESSAGE_MISSING "messages/missing" 404 "There is no such message" "該当する通知がありません";
    MESSAGE_ALIVE "messages/alive" 409 "Only a message that was given up is sent again" "再送できるのは配信を断念した通知だけです";
    CHANNEL_MISSING "channels/missing" 404 "There is no such channel" "該当する通知先がありません";
    SECRET_MISSING "secrets/missing" 404 "There is no such secret" "該当するシークレットがありません";
    SECRET_INVALID "secrets/invalid" 422 "The secret cannot be like this" "シークレットの内容に誤りがあります";
    SECRET_FULL "secrets/full" 409 "The tenant has as many secrets as it may have" "このテナントのシークレットは上限に達しています";
    SEALING_BUSY "sealing/busy" 409 "A backup is being made; try again after it" "バックアップの作成中です。終わってからもう一度試してください";
    SEALING_REFUSED "sealing/refused" 409 "The sealing key cannot be changed from here" "ここからは封印鍵を変更できません";
    BUNDLE_REFUSED "bundles/refused" 422 "The rule bundle is refused; the former one stays" "ルールバンドルを拒否しました。以前のものを使い続けます";
    BACKUP_BUSY "backups/busy" 409 "A backup is being made already" "バックアップは既に作成中です";
    BACKUP_FAILED "backups/failed" 503 "The backup cannot be made" "バックアップを作成できません";
    WAY_MISSING "ways/missing" 404 "There is no such way in" "該当する受信口がありません";
    WAY_FORGED "ways/forged" 403 "The sender did not show who it is" "送信元を確認できません";
    WAY_STALE "ways/stale" 403 "What was sent is too old" "送信された時刻が古すぎます";
    WAY_REPLAYED "ways/replayed" 409 "This was sent before" "同じリクエストは既に受信済みです";
    WAY_OWN "ways/own" 409 "This is a message of this manager itself" "このマネージャー自身が送信したメッセージです";
    WAY_TOPIC "ways/topic" 403 "The topic is not configured" "設定にないトピックです";
    WAY_UNREADABLE "ways/unreadable" 422 "What was sent cannot be read" "送信された内容を解釈できません";
    BOUNCER_MISSING "bouncers/missing" 404 "There is no such bouncer" "該当するバウンサーがありません";
    BOUNCER_EXISTS "bouncers/exists" 409 "A bouncer of this name exists already" "この名前のバウンサーは既にあります";
    BOUNCER_INVALID "bouncers/invalid" 422 "The bouncer cannot be like this" "バウンサーの内容に誤りがあります";
    BOUNCER_FULL "bouncers/full" 409 "The tenant has as many bouncers as it may have" "このテナントのバウンサーは上限に達しています";
    SERVER_NOT_READY "server/not-ready" 503 "The manager is not ready" "マネージャーの準備ができていません";
    SERVER_FAILED "server/failed" 500 "The manager failed" "マネージャーでエラーが起きました";
}

/// One of several things that are wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// Where: a field, a policy layer and path, a column.
    pub place: String,
    /// What is wrong there, and what would be right.
    pub reason: String,
    /// Where it begins in the text that was sent, for who marks it: UTF-16 units from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<usize>,
    /// How many UTF-16 units it covers, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// What would be right there, or what to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// The body of an error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// A URI that names the code.
    #[serde(rename = "type")]
    kind: String,
    /// What it means, in the language asked for.
    title: &'static str,
    /// HTTP status.
    status: u16,
    /// Stable code, `area/what`.
    code: &'static str,
    /// What exactly, in English.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// The request, as `urn:uuid:` of its id.
    instance: String,
    /// Each thing that is wrong, where there are several or where the place is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
}

/// An error on its way out.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Its code.
    pub code: &'static Code,
    detail: String,
    errors: Vec<Fault>,
    retry_after: Option<i64>,
}

impl Problem {
    /// A problem of this code.
    pub fn new(code: &'static Code) -> Self {
        Self { code, detail: String::new(), errors: Vec::new(), retry_after: None }
    }

    /// With what exactly is wrong, in English.
    #[must_use]
    pub fn detail(mut self, detail: impl std::fmt::Display) -> Self {
        self.detail = detail.to_string();
        self
    }

    /// With a place and a reason; may be repeated.
    #[must_use]
    pub fn fault(mut self, place: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        self.errors.push(Fault { place: place.into(), reason: reason.to_string(), ..Fault::default() });
        self
    }

    /// With what is wrong, where in the text that was sent, and what to try.
    #[must_use]
    pub fn mark(mut self, fault: Fault) -> Self {
        self.errors.push(fault);
        self
    }

    /// With the seconds after which it may go better.
    #[must_use]
    pub fn retry_after(mut self, seconds: i64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// Each thing that is wrong.
    pub fn faults(&self) -> &[Fault] {
        &self.errors
    }

    /// Something failed that the caller cannot mend: the log has it, the answer does not.
    pub fn failed(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(SERVER_FAILED).detail("the reason is in the manager's log beside this request's id")
    }

    /// The answer in this language.
    pub(super) fn write(&self, headers: &HeaderMap, instance: &str) -> Response {
        let japanese = prefers_japanese(headers);
        let body = ProblemBody {
            kind: format!("urn:sakimori:problem:{}", self.code.code.replace('/', ":")),
            title: if japanese { self.code.ja } else { self.code.en },
            status: self.code.status,
            code: self.code.code,
            detail: self.detail.clone(),
            instance: format!("urn:uuid:{instance}"),
            errors: self.errors.clone(),
        };
        let status = StatusCode::from_u16(self.code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_string(&body).unwrap_or_default();
        let mut response = (status, text).into_response();
        let out = response.headers_mut();
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        out.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(if japanese { "ja" } else { "en" }));
        out.insert(header::VARY, HeaderValue::from_static("accept-language"));
        if self.code.status == 401 {
            out.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            out.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The language of the greatest weight that we have; English where none is asked for.
fn prefers_japanese(headers: &HeaderMap) -> bool {
    let wanted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let weight = |language: &str| {
        wanted
            .split(',')
            .take(32)
            .filter_map(|part| {
                let (tag, weight) = part.split_once(';').unwrap_or((part, "q=1"));
                let tag = tag.trim().to_ascii_lowercase();
                let known = tag == language || tag.strip_prefix(language).is_some_and(|rest| rest.starts_with('-'));
                known.then(|| weight.trim().strip_prefix("q=")?.parse::<f32>().ok()).flatten()
            })
            .fold(0.0_f32, f32::max)
    };
    weight("ja") > weight("en")
}

/// Marks a response that [`super::frame`] writes out.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let code = match &error {
            ControlError::Missing("user") => USER_MISSING,
            ControlError::Missing("token") => TOKEN_MISSING,
            ControlError::Missing("agent") => AGENT_MISSING,
            ControlError::Missing("enrolment token") => ENROLMENT_MISSING,
            ControlError::Missing("rollout") => ROLLOUT_MISSING,
            ControlError::Missing("exception") => EXCEPTION_MISSING,
            ControlError::Full("exception") => EXCEPTION_FULL,
            ControlError::Missing("action") => ACTION_MISSING,
            ControlError::Missing("execution") => EXECUTION_MISSING,
            ControlError::Missing("message") => MESSAGE_MISSING,
            ControlError::Missing("tenant") => TENANT_MISSING,
            ControlError::Missing("passkey") => FACTOR_MISSING,
            ControlError::Exists("passkey") => FACTOR_EXISTS,
            ControlError::Full("passkey") => FACTOR_FULL,
            ControlError::Missing("secret") => SECRET_MISSING,
            ControlError::Full("secret") => SECRET_FULL,
            ControlError::Missing("search") => SEARCH_MISSING,
            ControlError::Exists("search") => SEARCH_EXISTS,
            ControlError::Full("search") => SEARCH_FULL,
            ControlError::Missing("bouncer") => BOUNCER_MISSING,
            ControlError::Exists("bouncer") => BOUNCER_EXISTS,
            ControlError::Full("bouncer") => BOUNCER_FULL,
            ControlError::Exists("user") => USER_EXISTS,
            ControlError::Exists("tenant") => TENANT_EXISTS,
            _ => return Self::failed(&error),
        };
        Self::new(code)
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let hint = error.hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default();
        Self::new(EVENTS_QUERY).detail(&error).mark(Fault {
            place: format!("q, column {}", error.column),
            reason: format!("{}{hint}", error.reason),
            offset: Some(error.offset),
            length: Some(error.length),
            expected: error.hint.clone(),
        })
    }
}

impl From<LakeError> for Problem {
    fn from(error: LakeError) -> Self {
        let code = match &error {
            LakeError::Query(_) => EVENTS_QUERY,
            LakeError::Refused(_) => EVENTS_REFUSED,
            LakeError::TooLarge(_) => EVENTS_TOO_LARGE,
            LakeError::TimedOut(_) => EVENTS_TIMED_OUT,
            LakeError::Cursor => REQUEST_CURSOR,
            _ => return Self::failed(&error),
        };
        Self::new(code).detail(error)
    }
}

impl From<RespondError> for Problem {
    fn from(error: RespondError) -> Self {
        match error {
            RespondError::Control(error) => error.into(),
            RespondError::NothingToUndo { .. } => Self::new(ACTION_OVER).detail(error),
            RespondError::Unknown(_) => Self::new(ACTION_INVALID).detail(error),
            RespondError::Policy(_) => Self::new(POLICY_INVALID).detail(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(language: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static(language));
        prefers_japanese(&headers)
    }

    #[test]
    fn the_language_of_the_greatest_weight_is_taken() {
        assert!(asked("ja") && asked("ja-JP, en;q=0.8") && asked("de, en;q=0.2, ja;q=0.7"));
        assert!(!asked("en") && !asked("en-GB, ja;q=0.5") && !asked("") && !asked("de") && !asked("ja;q=x"));
        assert!(!asked("jab"));
    }

    #[test]
    fn codes_are_unique_and_have_both_languages() {
        for (at, code) in CODES.iter().enumerate() {
            assert_eq!(CODES.iter().position(|other| other.code == code.code), Some(at), "{}", code.code);
            assert!(code.code.split_once('/').is_some_and(|(area, what)| !area.is_empty() && !what.is_empty()));
            assert!(code.en.is_ascii() && !code.ja.is_ascii() && (400..600).contains(&code.status), "{}", code.code);
        }
    }
}
