//! The OpenAPI document, derived from the table of routes. `openapi/sakimori.json` holds it; a test keeps that
//! fresh.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::PartialSchema;
use utoipa::ToSchema;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Paths};

use super::browser::COOKIE;
use super::problem::{Fault, ProblemBody};
use super::routes;

const ABOUT: &str = "Detects attacks, answers them, and takes the answer back when its time is up. Errors are \
application/problem+json with a stable code; titles are in English or Japanese by Accept-Language. Lists are paged \
by an opaque cursor. x-permission and x-least-role say what an operation needs. Somebody over all tenants names one \
by the header Sakimori-Tenant. A page of ours is signed in by a cookie; what it changes carries the header Sakimori-CSRF, \
whose value GET /api/v1/session tells.";

/// The document.
pub fn document() -> OpenApi {
    let mut paths = Paths::new();
    let mut components = ComponentsBuilder::new()
        .security_scheme("bearer", SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()))
        .security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(COOKIE))))
        .schema("Problem", ProblemBody::schema())
        .schema(Fault::name(), Fault::schema());
    for route in routes::table() {
        let (path, method) = (route.path, route.method.clone());
        let (operation, schemas) = route.operation();
        paths.add_path_operation(path, vec![method], operation);
        components = components.schemas_from_iter(schemas);
    }
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Sakimori")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license));
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build()
}

/// The document as it is committed: keys in order, so that the same routes give the same bytes.
pub fn document_text() -> String {
    let whole = serde_json::to_value(document()).map(sorted).unwrap_or_default();
    format!("{whole:#}\n")
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let ordered: BTreeMap<String, Value> =
                object.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(list) => list.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_fresh() {
        let file = "../../openapi/sakimori.json";
        let made = document_text();
        if std::env::var_os("SAKIMORI_BLESS").is_some() {
            std::fs::write(file, &made).expect("openapi/ can be written");
        }
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        assert!(kept == made, "openapi/sakimori.json is not what the routes say: run this test with SAKIMORI_BLESS=1");
    }

    #[test]
    fn every_reference_is_to_a_schema_of_the_document() {
        let text = document().to_json().expect("a document");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(json["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}
