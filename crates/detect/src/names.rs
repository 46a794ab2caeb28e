//! Field names to fields, for the hot path: one hash of the name and one comparison, where the catalog's own
//! look-up takes eight. Rules ask by name some twenty times an event.

use std::sync::LazyLock;

use sakimori_model::catalog::{self, FieldId};

/// Places of the table; a power of two, several times the catalog.
const PLACES: usize = 2048;

static TABLE: LazyLock<Vec<Option<(FieldId, &'static str)>>> = LazyLock::new(|| {
    let mut table = vec![None; PLACES];
    for field in FieldId::all() {
        let mut at = place(field.name());
        while let Some(Some(_)) = table.get(at) {
            at = (at + 1) % PLACES;
        }
        if let Some(empty) = table.get_mut(at) {
            *empty = Some((field, field.name()));
        }
    }
    table
});

/// The field of this dotted name.
pub(crate) fn lookup(name: &str) -> Option<FieldId> {
    let mut at = place(name);
    // The table is never full, so there is an end.
    while let Some((field, known)) = *TABLE.get(at)? {
        if known == name {
            return Some(field);
        }
        at = (at + 1) % PLACES;
    }
    debug_assert!(catalog::lookup(name).is_none());
    None
}

/// FNV-1a.
fn place(name: &str) -> usize {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash ^ hash >> 15) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_what_the_catalog_finds() {
        for field in FieldId::all() {
            assert_eq!(lookup(field.name()), Some(field));
            assert_eq!(lookup(&format!("{}x", field.name())), None);
        }
        assert_eq!(lookup(""), None);
    }
}
