//! ServiceNow, after its Table API and the incident table's lengths.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::fake::{Fake, Fault, Reply, Request, fields, is_json, text};
use super::site::{Site, channel, secret};

type Table = Arc<Mutex<Vec<Value>>>;

fn table(request: &Request, rows: &Table) -> Result<Reply, String> {
    if request.headers.get("authorization").map(String::as_str) != Some("Basic c2FraW1vcmk6cGFzcyB3b3Jk") {
        return Ok(Reply::json(401, json!({"error": {"message": "User Not Authenticated"}, "status": "failure"})));
    }
    let mut rows = rows.lock().unwrap();
    match (request.method.as_str(), request.path.strip_prefix("/api/now/table/incident").ok_or("no table")?) {
        ("GET", "") => {
            let known = ["sysparm_query", "sysparm_fields", "sysparm_limit"];
            if let Some(name) = request.query.keys().find(|name| !known.contains(&name.as_str())) {
                return Err(format!("no parameter {name}"));
            }
            let id = request.query["sysparm_query"].strip_prefix("correlation_id=").ok_or("query")?;
            let found: Vec<&Value> = rows.iter().filter(|row| row["correlation_id"] == id).collect();
            Ok(Reply::json(200, json!({ "result": found })))
        }
        ("POST", "") => {
            is_json(request)?;
            let may = ["urgency", "impact", "category", "correlation_display", "assignment_group", "caller_id"];
            fields(&request.body, &["short_description", "description", "correlation_id"], &may, "incident")?;
            text(&request.body["short_description"], 160, "short_description")?;
            text(&request.body["description"], 4_000, "description")?;
            text(&request.body["correlation_id"], 100, "correlation_id")?;
            if request.body["short_description"].as_str().unwrap().contains('\n') {
                return Err("short_description is one line".into());
            }
            let mut row = request.body.clone();
            row["sys_id"] = json!(format!("{:032x}", rows.len() + 1));
            row["number"] = json!(format!("INC{:07}", rows.len() + 1));
            rows.push(row.clone());
            Ok(Reply::json(201, json!({ "result": row })))
        }
        ("PATCH", id) => {
            is_json(request)?;
            fields(&request.body, &["state", "close_code", "close_notes"], &["work_notes"], "incident")?;
            let row = rows.iter_mut().find(|row| row["sys_id"] == id.trim_start_matches('/')).ok_or("no record")?;
            row["state"] = request.body["state"].clone();
            Ok(Reply::json(200, json!({ "result": row })))
        }
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn an_incident_of_unknown_outcome_is_there_once_and_is_resolved_when_it_is_closed_here() {
    let dir = tempfile::tempdir().unwrap();
    let rows = Table::default();
    let held = Arc::clone(&rows);
    let fake = Fake::start(move |request| {
        table(request, &held)
            .unwrap_or_else(|reason| Reply::json(400, json!({"error": {"message": reason}, "status": "failure"})))
    });
    let mut ops = channel("servicenow", &fake.url, &[("user", "sakimori"), ("assignment_group", "SOC")]);
    ops.secret_file = secret(dir.path(), "pass word");
    let mut site = Site::start(dir.path(), vec![ops]);
    fake.fail([Fault::Cut]);
    let alert = site.alert();
    let id = site.tell(&alert, &[]);
    let message = site.sent(&id);
    assert_eq!(fake.refused(), [] as [String; 0]);
    assert_eq!(
        (rows.lock().unwrap().len(), message.reference.as_str()),
        (1, "INC0000001"),
        "looked for, not made again"
    );
    assert_eq!(rows.lock().unwrap()[0]["correlation_id"], id);
    fake.fail([Fault::None, Fault::Cut]);
    site.close(&alert, &id);
    let held = rows.lock().unwrap().clone();
    assert_eq!((held.len(), &held[0]["state"]), (1, &json!("6")));
    site.stop();
}
