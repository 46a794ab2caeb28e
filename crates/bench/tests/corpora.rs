//! The corpora of the fuzz targets through the same functions, with the stable compiler: what was found once stays
//! mended, and the targets still compile.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![allow(unexpected_cfgs)] // `fuzzing`, which cargo-fuzz sets

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

use std::path::Path;
use std::time::{Duration, Instant};

use sakimori_sys::harness;

/// A single input that takes longer than this hangs, also on a machine that is busy.
const LONGEST: Duration = Duration::from_secs(120);

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    harness::run(
        &filter,
        &[
            ("every_target_has_a_corpus_and_each_corpus_a_target", complete),
            ("nothing_in_the_corpora_breaks_what_must_hold", replay),
        ],
        || Ok(()),
    );
}

fn folder() -> &'static Path {
    Path::new("../../fuzz")
}

fn inputs(target: &str) -> Vec<std::path::PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(folder().join("corpus").join(target))
        .unwrap_or_else(|error| panic!("the corpus of {target}: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

fn complete() {
    let mut named: Vec<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for name in &named {
        assert!(inputs(name).len() >= 2, "{name} has no corpus");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in fuzz/Cargo.toml");
        let program = std::fs::read_to_string(folder().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains("fuzz_target!"), "{name}");
    }
    for entry in std::fs::read_dir(folder().join("corpus")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(named.contains(&name.as_str()), "the corpus {name} belongs to no target");
    }
    named.dedup();
    assert_eq!(named.len(), fuzz::TARGETS.len());
}

fn replay() {
    for (name, target) in fuzz::TARGETS {
        for path in inputs(name) {
            let bytes = std::fs::read(&path).unwrap();
            let began = Instant::now();
            if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                panic!("{name} does not hold for {}", path.display());
            }
            assert!(began.elapsed() < LONGEST, "{} took {:?}", path.display(), began.elapsed());
        }
    }
}
