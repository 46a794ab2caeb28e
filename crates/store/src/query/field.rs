//! Field names in a search: of the catalog, below a JSON field of it, or in quotes any path of the rest.

use sakimori_model::catalog::{self, FieldDef, FieldKind};
use sakimori_model::{FieldId, field as f};

/// A field that a search names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldRef {
    name: String,
    known: Option<FieldId>,
    /// The catalog's JSON field above it, and where the path below it begins in the name.
    above: Option<(FieldId, usize)>,
}

/// Most characters of a field's name.
pub const MAX_NAME: usize = 256;

impl FieldRef {
    /// Any path; of the catalog where the catalog has it.
    pub fn path(name: &str) -> Self {
        let known = catalog::lookup(name);
        let above = known.is_none().then(|| json_above(name)).flatten();
        Self { name: name.to_owned(), known, above }
    }

    /// Its dotted name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place in the catalog.
    pub fn known(&self) -> Option<FieldId> {
        self.known
    }

    /// The JSON field of the catalog that it lies in, and its path below.
    pub(super) fn above(&self) -> Option<(FieldId, &str)> {
        self.above.map(|(field, at)| (field, self.name.get(at..).unwrap_or("")))
    }

    /// Its type, where the catalog knows it.
    pub fn kind(&self) -> Option<FieldKind> {
        self.known.map(|field| field.def().kind)
    }

    /// May it be written without quotes?
    pub(super) fn is_plain(&self) -> bool {
        self.known.is_some() || self.above.is_some()
    }
}

impl From<FieldId> for FieldRef {
    fn from(field: FieldId) -> Self {
        Self { name: field.name().to_owned(), known: Some(field), above: None }
    }
}

fn json_above(name: &str) -> Option<(FieldId, usize)> {
    name.match_indices('.').find_map(|(at, _)| {
        let field = catalog::lookup(name.get(..at)?)?;
        (field.def().kind == FieldKind::Json && name.len() > at + 1).then_some((field, at + 1))
    })
}

/// A hint for a name that the catalog does not have: the nearest names, and the way to search others.
pub(super) fn suggest(name: &str) -> String {
    let near = nearest(name);
    let other = format!("to search a field outside the catalog write it in quotes: \"{name}\":…");
    if near.is_empty() { other } else { format!("did you mean {}? {other}", near.join(", ")) }
}

/// Up to three names: those that end in it (`ip`, `status_code`) and those few edits away.
fn nearest(name: &str) -> Vec<&'static str> {
    let wanted = name.to_ascii_lowercase();
    let mut scored: Vec<(usize, usize, &'static str)> = catalog::FIELDS
        .iter()
        .filter_map(|FieldDef { name, column, .. }| {
            let last = name.rsplit('.').next().unwrap_or(name);
            let score = if *name == wanted || last == wanted || name.ends_with(&format!(".{wanted}")) {
                0
            } else {
                distance(&wanted, name).min(if wanted.contains('.') {
                    usize::MAX
                } else {
                    distance(&wanted, last).saturating_add(1)
                })
            };
            (score <= 1 + wanted.len() / 4).then_some((score, usize::from(!column), *name))
        })
        .collect();
    scored.sort_unstable();
    scored.into_iter().take(3).map(|(_, _, name)| name).collect()
}

/// Edit distance with transposition (optimal string alignment), over bytes.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len().abs_diff(right.len()) > 8 || left.len() > 64 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let of = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut best = (of(&last, j) + usize::from(a != b)).min(of(&last, j + 1) + 1).min(of(&row, j) + 1);
            if i > 0 && j > 0 && left.get(i - 1) == Some(b) && right.get(j - 1) == Some(a) {
                best = best.min(of(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

/// Fields that the lake computes for every row, whatever the event carried.
pub(crate) const COMPUTED: &[FieldId] =
    &[f::EVENT_ID, f::ORGANIZATION_ID, f::SAKIMORI_BATCH, f::SAKIMORI_INDEX, f::SAKIMORI_RECEIVED, f::SAKIMORI_STREAM];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered() {
        assert!(nearest("source.pi").contains(&"source.ip"));
        assert!(nearest("status_code").contains(&"http.response.status_code"));
        assert!(nearest("usr.name").contains(&"user.name"));
        assert!(nearest("zzzzzzzzzz").is_empty());
    }

    #[test]
    fn a_path_below_a_json_field_is_plain() {
        let below = FieldRef::path("labels.env.stage");
        assert_eq!(below.above(), Some((f::LABELS, "env.stage")));
        assert!(below.is_plain());
        assert!(!FieldRef::path("acme.audit.id").is_plain());
    }
}
