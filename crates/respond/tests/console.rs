//! What the console says of actions, against the catalog: every action has a name in both languages, and the page knows of each
//! whether it can be taken back. The console asks the API for none of this, so that a list of names costs no request.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sakimori_respond::actions::CATALOG;

fn read(file: &str) -> String {
    let path = Path::new("../../console/src").join(file);
    fs::read_to_string(&path).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
}

/// The texts in quotation marks between `begin` and the next `]`.
fn list(text: &str, begin: &str) -> BTreeSet<String> {
    let (_, after) = text.split_once(begin).unwrap_or_else(|| panic!("{begin} is not there"));
    let (inner, _) = after.split_once(']').unwrap();
    inner.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_page_knows_each_action_and_which_of_them_last() {
    let model = read("pages/response/model.ts");
    let all: BTreeSet<String> = CATALOG.iter().map(|one| one.id.to_owned()).collect();
    assert_eq!(list(&model, "export const ACTIONS = ["), all);
    let lasting: BTreeSet<String> =
        CATALOG.iter().filter(|one| one.undo.is_none()).map(|one| one.id.to_owned()).collect();
    assert_eq!(list(&model, "const LASTING = new Set<string>(["), lasting);
}

#[test]
fn each_action_has_a_name_in_both_languages() {
    for language in ["en", "ja"] {
        let words = read(&format!("i18n/{language}/response-names.ftl"));
        for action in CATALOG {
            let key = format!("response-action-{} = ", action.id);
            assert!(words.lines().any(|line| line.starts_with(&key)), "{language}: {key}");
        }
    }
}
