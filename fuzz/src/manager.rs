//! What the manager reads of rules whose engines it does not link. It lives beside much that takes long to build and is not
//! of interest here, so the fuzzer takes its source in by path.

#[cfg(fuzzing)]
#[allow(dead_code, unused_imports)]
#[path = "../../crates/manager/src/rules.rs"]
mod rules;
#[cfg(not(fuzzing))]
use sakimori_manager::rules;

/// A file of a bundle, whose first byte says which it is: what is listed of it has an id, a line of the file, and a text.
pub fn rule_list(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let all = ["network/a.rules", "malware/a.yar", "malware/a.hashes"];
    let Some(path) = all.get(usize::from(*kind) % all.len()) else { return };
    let files = [((*path).to_owned(), bytes.to_vec())].into_iter().collect();
    for rule in rules::list(&files) {
        assert!(!rule.info.id.is_empty() && rule.line >= 1 && rule.file == *path, "{rule:?}");
        assert!(rule.language == rules::Language::Hash || !rules::text(&rule, &files).is_empty(), "{rule:?}");
    }
}
