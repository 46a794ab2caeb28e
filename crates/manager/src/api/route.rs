//! A route: method, path, permission and handler, and what the OpenAPI document says of it.
//!
//! Everything that must agree is derived from this one value: the router with the permission check in front of
//! each handler, the operation with its security, and the test that tries every route as every role.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use serde_json::json;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::access::{self, Permission};

/// Largest body unless the route says otherwise, in bytes.
pub const BODY: usize = 1 << 20;

/// Name and schema of what the document refers to.
pub type Named = (String, RefOr<Schema>);

/// One route.
pub struct Route {
    /// Method.
    pub method: HttpMethod,
    /// Path, `{id}` where a part varies.
    pub path: &'static str,
    /// What it needs; `None` is open to everybody.
    pub permission: Option<&'static Permission>,
    handler: MethodRouter<App>,
    body_limit: usize,
    operation: OperationBuilder,
    schemas: Vec<Named>,
}

macro_rules! methods {
    ($($name:ident $method:ident $filter:ident;)*) => { $(
        #[doc = concat!("A route of the method ", stringify!($filter), ".")]
        pub fn $name<H: Handler<T, App>, T: 'static>(path: &'static str, permission: &str, handler: H) -> Route {
            Route::new(HttpMethod::$method, path, permission, on(MethodFilter::$filter, handler))
        }
    )* };
}

methods! {
    get Get GET;
    post Post POST;
    put Put PUT;
    patch Patch PATCH;
    delete Delete DELETE;
}

impl Route {
    fn new(method: HttpMethod, path: &'static str, permission: &str, handler: MethodRouter<App>) -> Self {
        let permission = match permission {
            "" => None,
            name => Some(Permission::find(name).expect("a route names a permission of the table")),
        };
        let mut operation = OperationBuilder::new().tag(tag(path)).operation_id(Some(operation_id(&method, path)));
        for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            operation = operation.parameter(
                ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .schema(Some(ObjectBuilder::new().schema_type(Type::String))),
            );
        }
        Self { method, path, permission, handler, body_limit: BODY, operation, schemas: Vec::new() }
    }

    /// What it does, in a few words.
    #[must_use]
    pub fn does(mut self, summary: &str) -> Self {
        self.operation = self.operation.summary(Some(summary));
        self
    }

    /// Takes these query parameters.
    #[must_use]
    pub fn query<Q: IntoParams>(mut self) -> Self {
        for parameter in Q::into_params(|| Some(ParameterIn::Query)) {
            self.operation = self.operation.parameter::<Parameter>(parameter);
        }
        self
    }

    /// Takes this body, as JSON.
    #[must_use]
    pub fn takes<B: ToSchema>(mut self) -> Self {
        let content = ContentBuilder::new().schema(Some(self.named::<B>())).build();
        let body = RequestBodyBuilder::new().content("application/json", content).required(Some(Required::True));
        self.operation = self.operation.request_body(Some(body.build()));
        self
    }

    /// Takes bytes, up to so many.
    #[must_use]
    pub fn takes_bytes(mut self, most: usize) -> Self {
        let content = ContentBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String))).build();
        let body =
            RequestBodyBuilder::new().content("application/octet-stream", content).required(Some(Required::True));
        self.operation = self.operation.request_body(Some(body.build()));
        self.body_limit = most;
        self
    }

    /// Answers with this status and body.
    #[must_use]
    pub fn answers<B: ToSchema>(mut self, status: u16) -> Self {
        let schema = self.named::<B>();
        self.respond(status, "application/json", Some(schema))
    }

    /// Answers with a page of these.
    #[must_use]
    pub fn answers_page<B: ToSchema>(mut self) -> Self {
        let item = self.named::<B>();
        let page = ObjectBuilder::new().property("items", ArrayBuilder::new().items(item)).required("items").property(
            "next",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .description(Some("cursor of the next page; absent on the last")),
        );
        self.respond(200, "application/json", Some(RefOr::T(Schema::Object(page.build()))))
    }

    /// Answers with text of this type.
    #[must_use]
    pub fn answers_text(self, content_type: &str) -> Self {
        let text = Schema::Object(ObjectBuilder::new().schema_type(Type::String).build());
        self.respond(200, content_type, Some(RefOr::T(text)))
    }

    /// Answers with nothing but 204.
    #[must_use]
    pub fn answers_nothing(self) -> Self {
        self.respond(204, "", None)
    }

    /// Answers by sending the browser elsewhere.
    #[must_use]
    pub fn redirects(self) -> Self {
        self.respond(303, "", None)
    }

    fn respond(mut self, status: u16, content_type: &str, schema: Option<RefOr<Schema>>) -> Self {
        let mut response = ResponseBuilder::new().description(match status {
            201 => "made",
            202 => "taken; it is carried out soon",
            204 => "done",
            303 => "elsewhere",
            _ => "found",
        });
        if let Some(schema) = schema {
            response = response.content(content_type, ContentBuilder::new().schema(Some(schema)).build());
        }
        self.operation = self.operation.response(status.to_string(), response.build());
        self
    }

    fn named<B: ToSchema>(&mut self) -> RefOr<Schema> {
        let name = B::name().into_owned();
        self.schemas.push((name.clone(), B::schema()));
        B::schemas(&mut self.schemas);
        RefOr::Ref(Ref::from_schema_name(name))
    }

    /// Puts the route into the router, behind the check of its permission.
    pub(super) fn mount(self, router: Router<App>, app: &App) -> Router<App> {
        let handler = self.handler.layer(DefaultBodyLimit::max(self.body_limit));
        let handler = match self.permission {
            None => handler,
            Some(permission) => handler.layer(from_fn_with_state((app.clone(), permission), access::check)),
        };
        router.route(self.path, handler)
    }

    /// The operation and the schemas that it refers to.
    pub(super) fn operation(self) -> (Operation, Vec<Named>) {
        let mut operation = self.operation.response("default", problem());
        match self.permission {
            None => operation = operation.securities(Some(Vec::<SecurityRequirement>::new())),
            Some(permission) => {
                let none: [&str; 0] = [];
                let own = ExtensionsBuilder::new()
                    .add("x-permission", permission.name)
                    .add("x-least-role", permission.least.name())
                    .add("x-over-all-tenants", json!(permission.everywhere));
                operation = operation
                    .security(SecurityRequirement::new("bearer", none))
                    .security(SecurityRequirement::new("cookie", none))
                    .extensions(Some(own.build()));
            }
        }
        (operation.build(), self.schemas)
    }
}

/// What every operation may answer instead.
fn problem() -> Response {
    let content = ContentBuilder::new().schema(Some(RefOr::<Schema>::Ref(Ref::from_schema_name("Problem")))).build();
    ResponseBuilder::new()
        .description("what went wrong, with a stable code")
        .content("application/problem+json", content)
        .build()
}

/// The resource: the first part of the path below the version.
fn tag(path: &str) -> &str {
    path.strip_prefix("/api/v1/")
        .or(path.strip_prefix("/v1/"))
        .unwrap_or("/health")
        .split('/')
        .find(|part| !part.is_empty())
        .unwrap_or("health")
}

/// `get /api/v1/users/{id}` → `get_users_id`.
fn operation_id(method: &HttpMethod, path: &str) -> String {
    let verb = match method {
        HttpMethod::Get => "get",
        HttpMethod::Post => "post",
        HttpMethod::Put => "put",
        HttpMethod::Patch => "patch",
        _ => "delete",
    };
    let parts = path.trim_start_matches("/api/v1").split('/').filter(|part| !part.is_empty());
    parts.fold(verb.to_owned(), |id, part| format!("{id}_{}", part.trim_matches(['{', '}']).replace(['.', '-'], "_")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_named_by_method_and_path() {
        assert_eq!(operation_id(&HttpMethod::Get, "/api/v1/users/{id}"), "get_users_id");
        assert_eq!(operation_id(&HttpMethod::Post, "/api/v1/actions/undo"), "post_actions_undo");
        assert_eq!((tag("/api/v1/users/{id}"), tag("/readyz")), ("users", "health"));
    }
}
