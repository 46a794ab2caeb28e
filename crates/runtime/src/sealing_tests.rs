//! What sealing holds: the form, the place, the key, every bit.

use super::*;
use proptest::prelude::*;

fn ring(bytes: &[u8]) -> Ring {
    let lines: Vec<String> = bytes.iter().map(|byte| format!("{KEY}{}\n", hex::encode([*byte; 32]))).collect();
    Ring::parse(&lines.concat()).expect("a ring")
}

fn place<'a>(purpose: &'a str, tenant: &'a str, name: &'a str) -> Place<'a> {
    Place { purpose, tenant, name }
}

/// Golden, computed by a second implementation (Python, from the description above): a change of the form leaves
/// everybody's secrets closed, so it needs a new version.
#[test]
fn the_form_is_what_it_was() {
    let nonce: [u8; NONCE] = std::array::from_fn(|at| u8::try_from(at).expect("small"));
    let whole = "sakimori-sealed:1:516317f8773f1168:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXyTfY4JluPtGGQ2zj-IQSHvw8KlgGq930";
    let bundle = place("key", "*", "bundle.key");
    assert_eq!(ring(&[7]).seal_with(bundle, b"a secret", nonce).expect("sealed"), whole);
    assert_eq!(ring(&[7]).open(bundle, whole).expect("opens").expose(), b"a secret");
    let empty = "sakimori-sealed:1:516317f8773f1168:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJvZJU51pM14nTXkw_zTzhpw";
    let pager = place("secret", "tenänt", "pager");
    assert_eq!(ring(&[7]).seal_with(pager, b"", [9; NONCE]).expect("sealed"), empty);
    assert_eq!(ring(&[7]).open(pager, &format!("{empty}\n")).expect("opens").expose(), b"");
}

#[test]
fn no_two_are_equal_and_the_newest_key_seals() {
    let both = ring(&[1, 2]);
    let here = place("secret", "acme", "pager");
    let (one, two) = (both.seal(here, b"x").expect("sealed"), both.seal(here, b"x").expect("sealed"));
    assert_ne!(one, two);
    assert_eq!(sealed_by(&one), Some(both.newest()));
    assert_eq!(ring(&[2]).open(here, &one).err(), Some(SealingError::Unknown(both.newest())));
    let old = ring(&[2]).seal(here, b"old").expect("sealed");
    assert_eq!(both.open(here, &old).expect("an older key opens").expose(), b"old");
    assert!(both.newest_alone().open(here, &old).is_err());
}

#[test]
fn a_ring_is_bounded_and_shows_no_key() {
    let mut full = ring(&[1]);
    for _ in 1..MOST_KEYS {
        full = full.renewed().expect("room");
    }
    assert_eq!(full.ids().count(), MOST_KEYS);
    assert_eq!(full.renewed().err(), Some(SealingError::Full));
    assert_eq!(
        Ring::parse(full.to_text().expose()).expect("reads").ids().collect::<Vec<_>>(),
        full.ids().collect::<Vec<_>>()
    );
    let one = ring(&[7]);
    let shown = format!("{one:?} {:?}", one.to_text());
    assert!(shown.contains("516317f8773f1168") && !shown.contains("0707"), "{shown}");
    let line = format!("{KEY}{}", "07".repeat(32));
    assert_eq!(Ring::parse(&format!("# ours\n\n  {line}  \n{line}\n")).expect("reads").ids().count(), 1);
    for bad in ["", "# none", "sakimori-sealing-key:1:07", &line.replace(":1:", ":2:"), &format!("{line}\nx")] {
        assert_eq!(Ring::parse(bad).err(), Some(SealingError::Keys), "{bad}");
    }
    let long = format!("{line}\n#{}", " ".repeat(MOST_RING));
    assert!(Ring::parse(&long).is_err(), "longer than {MOST_RING}");
    assert_eq!(one.with(&ring(&[7, 8])).expect("room").ids().count(), 2, "a key that is there is not there twice");
}

#[test]
fn the_largest_secret_is_sealed_and_a_larger_one_is_neither_sealed_nor_opened() {
    let here = place("secret", "*", "x");
    let sealed = ring(&[1]).seal(here, &vec![5; MOST]).expect("sealed");
    assert_eq!(ring(&[1]).open(here, &sealed).expect("opens").expose().len(), MOST);
    assert_eq!(ring(&[1]).seal(here, &vec![5; MOST + 1]).err(), Some(SealingError::Large));
    assert_eq!(ring(&[1]).open(here, &format!("{sealed}AAAA")).err(), Some(SealingError::Form));
}

proptest! {
    #[test]
    fn what_is_sealed_opens_in_its_place_alone(
        secret in proptest::collection::vec(any::<u8>(), 0..200),
        here in proptest::array::uniform3("[a-z*]{0,4}"),
        there in proptest::array::uniform3("[a-z*]{0,4}"),
    ) {
        let at = |texts: &[String; 3]| {
            let [purpose, tenant, name] = texts.each_ref().map(String::as_str);
            (purpose.to_owned(), tenant.to_owned(), name.to_owned())
        };
        let (a, b) = (at(&here), at(&there));
        let sealed = ring(&[1]).seal(place(&a.0, &a.1, &a.2), &secret).expect("sealed");
        let opened = ring(&[3, 1]).open(place(&a.0, &a.1, &a.2), &sealed);
        let opened = opened.expect("opens");
        prop_assert_eq!(opened.expose(), &secret);
        prop_assert!(is_sealed(sealed.as_bytes()));
        let elsewhere = ring(&[1]).open(place(&b.0, &b.1, &b.2), &sealed);
        prop_assert_eq!(elsewhere.is_ok(), here == there, "{:?} {:?}", here, there);
        prop_assert!(secret.len() < 4 || !sealed.contains(&URL_SAFE_NO_PAD.encode(&secret)));
    }

    #[test]
    fn no_character_may_change(at in 0_usize..120, to in any::<u8>()) {
        let here = place("secret", "*", "x");
        let sealed = ring(&[1]).seal_with(here, b"sixteen bytes ok", [4; NONCE]).expect("sealed");
        let mut bytes = sealed.clone().into_bytes();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        // A line end in place of the last character leaves a text that is too short.
        prop_assert!(ring(&[1]).open(here, &text).is_err(), "{}", text);
    }

    #[test]
    fn any_text_is_no_secret_and_no_ring(text in "(sakimori-sealed:1:)?[ -~]{0,200}") {
        prop_assert!(ring(&[1]).open(place("", "", ""), &text).is_err());
        prop_assert!(Ring::parse(&text).is_err() || text.contains(KEY));
    }
}
