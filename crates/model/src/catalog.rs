//! The field catalog: which fields have a typed slot, of what type, and which are columns of the lake.
//!
//! The data is `fields.tsv` (ECS 8 names and types, our own under `sakimori.*`); `build.rs` turns it into
//! [`FIELDS`] and one constant a field in [`field`]. Numbers are interned in this build only: they never
//! leave the process (a batch carries names, see `sakimori-wire`).

use std::collections::HashMap;
use std::sync::LazyLock;

include!(concat!(env!("OUT_DIR"), "/fields.rs"));

/// A field of the catalog, as its place in [`FIELDS`]. Valid within one build only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub(crate) u16);

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Exact text.
    Keyword,
    /// Text that is searched by words.
    Text,
    /// IPv4 or IPv6 address.
    Ip,
    /// Signed 64-bit integer.
    Long,
    /// 64-bit float, finite.
    Double,
    /// Boolean.
    Bool,
    /// Microseconds since the epoch, UTC.
    Date,
    /// A JSON value kept as it is (ECS `nested`, `object`, `flattened`).
    Json,
}

/// One line of the catalog.
#[derive(Debug, PartialEq, Eq)]
pub struct FieldDef {
    /// Dotted ECS name.
    pub name: &'static str,
    /// Type of the slot; every slot but `Json` may also hold a list of that type.
    pub kind: FieldKind,
    /// Is it a typed column of the lake?
    pub column: bool,
}

impl FieldId {
    /// Its definition.
    pub fn def(self) -> &'static FieldDef {
        FIELDS.get(usize::from(self.0)).expect("a FieldId is only made from FIELDS")
    }

    /// Its dotted name.
    pub fn name(self) -> &'static str {
        self.def().name
    }

    /// Place in [`FIELDS`], for tables indexed by field.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// All fields in the order of their names.
    pub fn all() -> impl Iterator<Item = FieldId> {
        (0..FIELDS.len()).map(|index| FieldId(u16::try_from(index).expect("the catalog is small")))
    }
}

/// The field of this dotted name.
pub fn lookup(name: &str) -> Option<FieldId> {
    FIELDS
        .binary_search_by(|def| def.name.cmp(name))
        .ok()
        .map(|index| FieldId(u16::try_from(index).expect("the catalog is small")))
}

/// A node of the tree of names, for walking a nested document without building dotted paths.
#[derive(Debug, Default)]
pub struct Node {
    /// The field that ends here.
    pub field: Option<FieldId>,
    children: HashMap<&'static str, Node>,
}

impl Node {
    /// The node below this one by one part of a name.
    pub fn child(&self, part: &str) -> Option<&Node> {
        self.children.get(part)
    }
}

static TREE: LazyLock<Node> = LazyLock::new(|| {
    let mut root = Node::default();
    for field in FieldId::all() {
        let mut node = &mut root;
        for part in field.name().split('.') {
            node = node.children.entry(part).or_default();
        }
        node.field = Some(field);
    }
    root
});

/// The root of the tree of names.
pub fn tree() -> &'static Node {
    &TREE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_unique_and_found() {
        for pair in FIELDS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} twice or out of order", pair[1].name);
        }
        for id in FieldId::all() {
            assert_eq!(lookup(id.name()), Some(id));
        }
        assert_eq!(lookup("source"), None);
        assert_eq!(field::SOURCE_IP.def().kind, FieldKind::Ip);
    }

    #[test]
    fn no_field_lies_below_another() {
        // A field that is also a group could not be told from its children in a nested document.
        for pair in FIELDS.windows(2) {
            assert!(!pair[1].name.starts_with(&format!("{}.", pair[0].name)), "{}", pair[1].name);
        }
    }
}
