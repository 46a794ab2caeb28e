//! Which part of the table a search reads first: slices of time, one after the other in the order that was asked for,
//! each holding several times as many rows as the one before. What is frequent is found in the first slice, whatever
//! the table holds; what is rare is looked for in all of them, and no row is read twice.
//!
//! Where a slice ends is told by the files' statistics in the table's log: nothing is opened for it. A file whose
//! statistics are missing makes one slice of everything.

use deltalake_core::DeltaTable;
use deltalake_core::kernel::LogicalFileView;
use sakimori_model::Timestamp;
use serde_json::Value as Json;

use super::layout::TIME;
use super::search::{Interval, Order};
use super::{LakeError, upkeep};

/// Rows of the first slice, at least, where nothing else is said.
pub(super) const FIRST: u64 = 131_072;
/// What is looked for here and there in a slice is read in at most so many runs of time; between them nothing is read.
const RUNS: usize = 16;
/// Each slice has so many times the rows of the one before.
const GROWTH: u64 = 8;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileSpan {
    /// Time of its earliest row, or a little before.
    pub least: Timestamp,
    /// Time of its latest row, or a little after.
    pub most: Timestamp,
    pub rows: u64,
}

impl FileSpan {
    /// All its rows are in it.
    pub fn interval(&self) -> Interval {
        Interval { from: Some(self.least), to: Some(self.most.plus_micros(1)) }
    }
}

/// The files of a tenant; `None` where the statistics of one are missing.
pub(super) fn spans(table: &DeltaTable, tenant: &str) -> Result<Option<Vec<FileSpan>>, LakeError> {
    let mut spans = Vec::new();
    for file in upkeep::files(table)? {
        if upkeep::place(&file).is_none_or(|(of, _)| of != tenant) {
            continue;
        }
        match span_of(&file) {
            Some(span) => spans.push(span),
            None => return Ok(None),
        }
    }
    Ok(Some(spans))
}

/// What the log says of a file; `None` where its statistics are missing.
pub(super) fn span_of(file: &LogicalFileView) -> Option<FileSpan> {
    let stats: Json = serde_json::from_str(&file.stats()?).ok()?;
    let moment = |side: &str| Timestamp::parse(stats.get(side)?.get(TIME)?.as_str()?);
    // A checkpoint keeps milliseconds.
    let most = moment("maxValues")?.plus_micros(1_000);
    Some(FileSpan { least: moment("minValues")?, most, rows: stats.get("numRecords")?.as_u64()? })
}

/// Slices of an interval that cover all of it, in order, without overlap; with so many rows in the first, at least.
pub(super) fn slices(spans: Option<Vec<FileSpan>>, interval: Interval, order: Order, first: u64) -> Vec<Interval> {
    let Some(mut spans) = spans else { return vec![interval] };
    spans.retain(|span| {
        interval.from.is_none_or(|from| span.most >= from) && interval.to.is_none_or(|to| span.least < to)
    });
    match order {
        Order::Newest => spans.sort_by_key(|span| std::cmp::Reverse(span.most)),
        Order::Oldest => spans.sort_by_key(|span| span.least),
    }
    let (mut slices, mut left, mut rows, mut wanted) = (Vec::new(), interval, 0_u64, first);
    for pair in spans.windows(2) {
        let [span, next] = pair else { continue };
        rows = rows.saturating_add(span.rows);
        if rows < wanted {
            continue;
        }
        // Beyond this moment only the files so far have rows.
        let (slice, rest) = match order {
            Order::Newest => {
                let end = next.most.plus_micros(1);
                (Interval { from: Some(end), to: left.to }, Interval { from: left.from, to: Some(end) })
            }
            Order::Oldest => {
                (Interval { from: left.from, to: Some(next.least) }, Interval { from: Some(next.least), to: left.to })
            }
        };
        if slice.is_empty() || rest.is_empty() {
            continue;
        }
        slices.push(slice);
        (left, rows, wanted) = (rest, 0, wanted.saturating_mul(GROWTH));
    }
    slices.push(left);
    slices
}

/// Cuts what is in the order of time into runs at its widest gaps: after which of them, in order. `gaps` are the times from each
/// to the next.
pub(super) fn cuts(gaps: &[i64]) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..gaps.len()).collect();
    cuts.sort_by_key(|at| std::cmp::Reverse(gaps.get(*at)));
    cuts.truncate(RUNS - 1);
    cuts.sort_unstable();
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn span(least: i64, most: i64, rows: u64) -> FileSpan {
        FileSpan { least: at(least), most: at(most), rows }
    }

    #[test]
    fn the_first_slice_is_of_the_newest_files_and_the_rest_follows() {
        let spans = (0..30).map(|file| span(file * 10, file * 10 + 9, 100_000)).collect();
        let slices = slices(Some(spans), Interval::default(), Order::Newest, FIRST);
        assert!(slices.len() > 2, "{slices:?}");
        assert_eq!(slices[0], Interval { from: Some(at(279).plus_micros(1)), to: None });
        assert_eq!(slices.last().unwrap().from, None);
        let spans = (0..30).map(|file| span(file * 10, file * 10 + 9, 100_000)).collect();
        let slices = super::slices(Some(spans), Interval { from: Some(at(200)), to: None }, Order::Oldest, FIRST);
        assert_eq!(slices[0], Interval { from: Some(at(200)), to: Some(at(220)) });
        assert_eq!(super::slices(None, Interval::default(), Order::Newest, FIRST), vec![Interval::default()]);
    }

    #[test]
    fn cuts_are_at_the_widest_gaps() {
        assert_eq!(cuts(&[]), Vec::<usize>::new());
        assert_eq!(cuts(&[5, 1]), [0, 1]);
        let gaps: Vec<i64> = (0..40).map(|at| if at % 2 == 0 { at } else { 0 }).collect();
        assert_eq!(cuts(&gaps), (5..20).map(|half| half * 2).collect::<Vec<usize>>());
    }

    proptest! {
        #[test]
        fn slices_cover_an_interval_once_and_in_order(
            files in prop::collection::vec((0_i64..100, 0_i64..50, 1_u64..400_000), 0..30),
            from in prop::option::of(0_i64..60), to in prop::option::of(61_i64..200), newest in any::<bool>(),
        ) {
            let spans = files.iter().map(|(least, long, rows)| span(*least, least + long, *rows)).collect();
            let order = if newest { Order::Newest } else { Order::Oldest };
            let interval = Interval { from: from.map(at), to: to.map(at) };
            let mut slices = slices(Some(spans), interval, order, FIRST);
            if newest {
                slices.reverse();
            }
            prop_assert_eq!(slices[0].from, interval.from);
            prop_assert_eq!(slices[slices.len() - 1].to, interval.to);
            for pair in slices.windows(2) {
                prop_assert!(pair[0].to.is_some() && pair[0].to == pair[1].from);
            }
        }
    }
}
