//! Turns the field catalog (`fields.tsv`) into constants, so that a field is one number in memory and
//! adding one is one line of data.
#![allow(clippy::panic, reason = "a build script has nobody to hand an error to")]

use std::fmt::Write as _;

fn main() {
    println!("cargo::rerun-if-changed=fields.tsv");
    let text = std::fs::read_to_string("fields.tsv").expect("fields.tsv lies beside build.rs");
    let mut rows: Vec<[&str; 3]> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let parts: Vec<&str> = line.split('\t').collect();
        let [name, kind, column] = parts[..] else {
            panic!("fields.tsv:{}: expected three columns separated by tabs", number + 1);
        };
        rows.push([name, kind, column]);
    }
    rows.sort_by_key(|row| row[0]);
    let mut table = String::new();
    let mut constants = String::new();
    for (id, [name, kind, column]) in rows.iter().enumerate() {
        let kind = match *kind {
            "keyword" => "Keyword",
            "text" => "Text",
            "ip" => "Ip",
            "long" => "Long",
            "double" => "Double",
            "bool" => "Bool",
            "date" => "Date",
            "json" => "Json",
            other => panic!("fields.tsv: {name}: unknown type {other}"),
        };
        let column = match *column {
            "yes" => true,
            "no" => false,
            other => panic!("fields.tsv: {name}: lake column is yes or no, not {other}"),
        };
        writeln!(table, "    FieldDef {{ name: {name:?}, kind: FieldKind::{kind}, column: {column} }},")
            .expect("string");
        let constant = name.trim_start_matches('@').replace('.', "_").to_uppercase();
        writeln!(constants, "/// `{name}`\npub const {constant}: FieldId = FieldId({id});").expect("string");
    }
    let out = format!(
        "pub static FIELDS: [FieldDef; {}] = [\n{table}];\n\n/// One constant a field of the catalog.\npub mod field {{\nuse super::FieldId;\n{constants}}}\n",
        rows.len()
    );
    let path = std::path::Path::new(&std::env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("fields.rs");
    std::fs::write(path, out).expect("OUT_DIR is writable");
}
