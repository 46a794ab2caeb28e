//! What hides an attack from one who reads along does not hide it from us: the table of tricks, played into the
//! engine as it watches and as it stands between.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::cast_possible_truncation)]

mod tricks;

use sakimori_network::Settings;
use tricks::Found;

/// What neither we nor Suricata see, and why.
const HIDDEN: &[(&str, &str)] = &[
    ("path encoded twice", "servers decode once; it is the event http.double_encoded_uri"),
    ("slash encoded twice", "the same"),
    ("answer in UTF-16", "bodies are not turned into another alphabet"),
    ("answer in UTF-7", "the same"),
    ("uuencode in the text", "it is no part of MIME"),
];

#[test]
fn no_trick_hides_an_attack() {
    let mut wrong = Vec::new();
    for (number, trick) in tricks::all().into_iter().enumerate() {
        let hidden = HIDDEN.iter().any(|(name, _)| *name == trick.name);
        for (way, settings) in [("watching", Settings::default()), ("between", Settings::inline())] {
            let found = tricks::found(number, trick, settings).unwrap();
            if (found == Found::Hidden) != hidden {
                wrong.push(format!("{number} {}: {}: {way}: {found:?}", trick.area, trick.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
