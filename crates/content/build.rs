//! Lists the files of `/content` for the compiler, so that every binary carries the rules it was built with
//! and needs no path at run time. Writes one table into `OUT_DIR`; the bytes come in by `include_bytes!`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../../content");
    let root = root.canonicalize().expect("the workspace has a folder `content`");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();

    let mut table = String::from("&[\n");
    for path in &found {
        let name = path.strip_prefix(&root).expect("found below the root").to_str().expect("content paths are ASCII");
        let full = path.to_str().expect("the checkout's path is UTF-8");
        writeln!(table, "    ({name:?}, include_bytes!({full:?})),").expect("a String takes all");
    }
    table.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("builtin.rs");
    fs::write(out, table).expect("OUT_DIR is writable");
}

/// Regular files below `dir`, without hidden ones; editors' leftovers must not end up in a bundle.
fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    println!("cargo::rerun-if-changed={}", dir.display());
    for entry in fs::read_dir(dir).expect("content is readable") {
        let path = entry.expect("content is readable").path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let leftover = path.as_os_str().as_encoded_bytes().ends_with(b"~");
        if hidden || leftover {
            continue;
        }
        if path.is_dir() {
            walk(&path, found);
        } else {
            println!("cargo::rerun-if-changed={}", path.display());
            found.push(path);
        }
    }
}
