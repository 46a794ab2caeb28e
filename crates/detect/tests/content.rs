//! The content of this repository through the engine: every case of every log source, every test of every rule.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use sakimori_detect::testcases::{Bench, Tests};
use sakimori_detect::{Detector, LogSource, Normaliser, Options, cases};

fn content() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    read(Path::new("../../content"), "", &mut files);
    files
}

fn read(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn every_line_of_every_case_becomes_what_is_expected() {
    let files = content();
    let (sources, errors) = LogSource::load_all(&files);
    assert!(errors.is_empty() && sources.len() >= 2, "{errors:?}");
    for source in &sources {
        let mut normaliser = Normaliser::new(source).unwrap();
        let report = cases::run(&format!("logs/{}", source.id), &mut normaliser, &files).unwrap();
        assert!(report.cases >= 5, "{}", source.id);
        assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
    }
}

#[test]
fn every_rule_passes_its_tests() {
    let files = content();
    let (mut bench, errors) = Bench::new(&files);
    assert!(errors.is_empty(), "{errors:?}");
    let mut rules = 0;
    for (path, text) in files.iter().filter(|(path, _)| path.starts_with("sigma/") && path.ends_with(".yml")) {
        let tests_file = path.replace(".yml", ".tests.yaml");
        let tests = Tests::read(&tests_file, std::str::from_utf8(&files[&tests_file]).unwrap()).unwrap();
        let report = bench.run((path, std::str::from_utf8(text).unwrap()), &tests_file, &tests).unwrap();
        assert!(report.failures.is_empty(), "{}", report.failures.join("\n"));
        rules += 1;
    }
    assert!(rules >= 10);
}

#[test]
fn the_whole_content_loads() {
    let (detector, errors) = Detector::from_files(&content(), Options::default());
    assert!(errors.is_empty(), "{errors:?}");
    assert!(detector.rules().count() >= 10);
}
