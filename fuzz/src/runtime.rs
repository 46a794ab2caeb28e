//! Sealed secrets and the keys that open them.

use sakimori_runtime::sealing::{Place, Ring, sealed_by};

/// The key of the corpus, and the place that its secrets are sealed for.
fn ring() -> Ring {
    Ring::parse(&format!("{}{}", sakimori_runtime::sealing::KEY, "07".repeat(32))).expect("a ring")
}

const PLACE: Place<'static> = Place { purpose: "key", tenant: "*", name: "bundle.key" };

/// Text that may be sealed. What opens says which key sealed it, opens in no other place, and is sealed anew to the same.
pub fn sealed_open(bytes: &[u8]) {
    let Some(text) = super::text(bytes) else { return };
    let ring = ring();
    let Ok(secret) = ring.open(PLACE, text) else { return };
    assert_eq!(sealed_by(text), Some(ring.newest()));
    assert!(ring.open(Place { tenant: "acme", ..PLACE }, text).is_err(), "it opens elsewhere");
    let again = ring.seal(PLACE, secret.expose()).expect("it was sealed");
    assert_eq!(ring.open(PLACE, &again).expect("it opens").expose(), secret.expose());
}

/// A file with sealing keys: what is read is written as what reads the same.
pub fn sealing_keys(bytes: &[u8]) {
    let Some(text) = super::text(bytes) else { return };
    let Ok(ring) = Ring::parse(text) else { return };
    let again = Ring::parse(ring.to_text().expose()).expect("what was written reads");
    assert!(ring.ids().eq(again.ids()));
}
