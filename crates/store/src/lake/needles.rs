//! Where a search can find something at all, told by what each row group says of its columns before a row is read:
//!
//! - a column keeps each of its values once, in a dictionary before its rows, unless they are very many: kilobytes, in
//!   which a needle is found whatever the case it was written in, and a network by any of its addresses;
//! - a column of addresses has a bloom filter of them, too, which is smaller and tells of one address.
//!
//! What neither tells counts as found. The answer is times: files are sorted by time, so that a row group is a run of it,
//! and a search that asks for these runs alone leaves all other row groups and files out by their statistics.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use datafusion::parquet::basic::{Encoding, Type};
use datafusion::parquet::bloom_filter::Sbbf;
use datafusion::parquet::column::page::{Page, PageReader as _};
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use datafusion::parquet::file::reader::{ChunkReader, Length};
use datafusion::parquet::file::serialized_reader::SerializedPageReader;
use datafusion::prelude::SessionContext;
use deltalake_core::DeltaTable;
use object_store::ObjectMeta;
use sakimori_model::FieldId;
use sakimori_model::catalog::FieldKind;
use tokio::task::JoinSet;

use super::footers::{Footers, object, times};
use super::layout::{Kind, column_of_catalog, layout};
use super::search::Interval;
use super::slices::{cuts, span_of};
use super::view::is_whole_file;
use super::{LakeError, upkeep};
use crate::query::{Expr, FieldRef, Test, address_texts, text_test};

/// Longest dictionary, or bloom filter, that is looked into.
const LONGEST: u64 = 1 << 20;
/// Row groups of a file that are looked into at the same time.
const GROUPS: usize = 4;
/// Most dictionaries and filters of a row group that are looked into.
const SIGNS: usize = 4;
/// Files that are looked into at the same time.
const AT_ONCE: usize = 8;

/// What is known of the rows of an interval that a search matches, before they are read.
pub(super) struct Told {
    /// The interval.
    pub interval: Interval,
    /// Runs of time within it outside of which no file has such a row; `None` where that cannot be told.
    pub runs: Option<Vec<Interval>>,
    /// Most rows that files have in these runs.
    pub rows: u64,
    /// Rows of the files that were asked, within these runs or not.
    pub of: u64,
}

impl Told {
    /// Nothing is known.
    fn nothing(interval: Interval) -> Self {
        Self { interval, runs: None, rows: u64::MAX, of: 0 }
    }

    /// Is what is looked for in less than half of the row groups? What is in most of them has many rows.
    pub fn is_rare(&self) -> bool {
        self.rows < self.of / 2
    }
}

/// Asks the files of a tenant about an interval.
pub(super) async fn told(
    session: &SessionContext,
    table: &DeltaTable,
    tenant: &str,
    interval: Interval,
    query: &Arc<Expr>,
) -> Result<Told, LakeError> {
    let mut signs = BTreeSet::new();
    looked_into(query, &mut signs);
    // With no value in any of them nothing may match: otherwise they do not tell.
    let nothing = Known::Values(Dictionary::default());
    if signs.is_empty() || signs.len() > SIGNS || can_match(query, &|_| Some(&nothing)) {
        return Ok(Told::nothing(interval));
    }
    let (mut found, mut whole, mut of) = (Vec::new(), Vec::new(), 0_u64);
    for file in upkeep::files(table)? {
        if upkeep::place(&file).is_none_or(|(of, _)| of != tenant) {
            continue;
        }
        let Some(span) = span_of(&file) else { return Ok(Told::nothing(interval)) };
        let Some(run) = span.interval().overlap(interval) else { continue };
        of = of.saturating_add(span.rows);
        if is_whole_file(&file) {
            whole.push((object(table, &file)?, run));
        } else {
            // Something of its columns may be in the rest.
            found.push((run, span.rows));
        }
    }
    let look = Arc::new(Look { footers: Footers::new(session, table), query: Arc::clone(query), signs });
    let mut looks = JoinSet::new();
    for (object, run) in whole {
        if looks.len() >= AT_ONCE
            && let Some(of_file) = looks.join_next().await
        {
            found.extend(looked(of_file)?);
        }
        let look = Arc::clone(&look);
        looks.spawn(async move { look.of_file(&object, run).await });
    }
    while let Some(of_file) = looks.join_next().await {
        found.extend(looked(of_file)?);
    }
    let rows = found.iter().fold(0, |rows: u64, (_, more)| rows.saturating_add(*more));
    Ok(Told { interval, runs: Some(joined(found.into_iter().map(|(run, _)| run).collect())), rows, of })
}

fn looked<T>(of_file: Result<Result<T, LakeError>, tokio::task::JoinError>) -> Result<T, LakeError> {
    of_file.unwrap_or_else(|error| Err(LakeError::Internal(error.to_string())))
}

/// What tells whether a row group has a needle: the column of this field, by its dictionary or by its filter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    Dictionary(FieldId),
    Filter(FieldId),
}

/// The signs by which row groups tell of a search.
fn looked_into(query: &Expr, signs: &mut BTreeSet<Sign>) {
    match query {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| looked_into(part, signs)),
        Expr::Field(field, test) => signs.extend(sign(field, test)),
        Expr::Not(_) | Expr::All | Expr::Text(_) => {}
    }
}

/// What tells of such a test of the field: of a column of one text, filled from events.
fn sign(field: &FieldRef, test: &Test) -> Option<Sign> {
    let id = field.known().filter(|id| column_of_catalog(*id))?;
    let column = layout().column(id).and_then(|at| layout().columns.get(at))?;
    let is_address = id.def().kind == FieldKind::Ip;
    match column.kind {
        Kind::Text if is_address && address_texts(test).is_some() => Some(Sign::Filter(id)),
        // Nearly every row group has an address, and its dictionary is long.
        Kind::Text if is_address && matches!(test, Test::Exists) => None,
        Kind::Text => Some(Sign::Dictionary(id)),
        _ => None,
    }
}

/// What a row group says of a column.
enum Known {
    /// All its values.
    Values(Dictionary),
    /// Which values it does not have.
    Filter(Sbbf),
}

/// Can a row match whose columns have no other values than these? Of a column of which nothing is known, it can.
fn can_match<'a>(query: &Expr, known: &impl Fn(Sign) -> Option<&'a Known>) -> bool {
    match query {
        Expr::And(parts) => parts.iter().all(|part| can_match(part, known)),
        Expr::Or(parts) => parts.iter().any(|part| can_match(part, known)),
        Expr::Field(field, test) => match sign(field, test).and_then(known) {
            Some(Known::Values(dictionary)) => dictionary.can_have(text_test(field, test)),
            Some(Known::Filter(filter)) => {
                address_texts(test).is_none_or(|texts| texts.iter().any(|text| filter.check(text.as_str())))
            }
            None => true,
        },
        Expr::Not(_) | Expr::All | Expr::Text(_) => true,
    }
}

/// What is looked for, and where.
struct Look {
    footers: Footers,
    query: Arc<Expr>,
    signs: BTreeSet<Sign>,
}

impl Look {
    /// The runs of a file's row groups in which something can match, within this one, and how many rows each has.
    async fn of_file(&self, file: &ObjectMeta, run: Interval) -> Result<Vec<(Interval, u64)>, LakeError> {
        let footer = self.footers.of(file).await?;
        let mut runs = Vec::new();
        for groups in footer.row_groups().chunks(GROUPS) {
            let groups: Vec<(&RowGroupMetaData, Interval)> =
                groups.iter().filter_map(|group| Some((group, times(group).unwrap_or(run).overlap(run)?))).collect();
            let places: Vec<Place<'_>> = groups.iter().flat_map(|(group, _)| self.places(*group)).collect();
            let ranges: Vec<Range<u64>> = places.iter().map(|place| place.range.clone()).collect();
            let parts = self.footers.store.get_ranges(&file.location, &ranges).await;
            let parts = parts.map_err(LakeError::store("read", file.location.as_ref()))?;
            let mut parts = places.into_iter().zip(parts).peekable();
            for (group, run) in groups {
                let mut known: BTreeMap<Sign, Known> = BTreeMap::new();
                while let Some((place, bytes)) = parts.next_if(|(place, _)| std::ptr::eq(place.group, group)) {
                    let sign = place.sign;
                    known.extend(place.said(bytes)?.map(|known| (sign, known)));
                }
                if can_match(&self.query, &|sign| known.get(&sign)) {
                    runs.push((run, u64::try_from(group.num_rows()).unwrap_or(u64::MAX)));
                }
            }
        }
        Ok(runs)
    }

    /// Where a row group has the signs.
    fn places<'a>(&self, group: &'a RowGroupMetaData) -> Vec<Place<'a>> {
        let place = |sign: &Sign| {
            let (Sign::Dictionary(field) | Sign::Filter(field)) = sign;
            let names =
                |column: &&ColumnChunkMetaData| matches!(column.column_path().parts(), [name] if name == field.name());
            let column = group.columns().iter().find(names)?;
            let range = match sign {
                Sign::Dictionary(_) => dictionary_of(column),
                Sign::Filter(_) => filter_of(column),
            }?;
            let fits = range.end.checked_sub(range.start).is_some_and(|long| long <= LONGEST);
            fits.then_some(Place { sign: *sign, group, column, range })
        };
        self.signs.iter().filter_map(place).collect()
    }
}

/// Where a row group has a sign.
struct Place<'a> {
    sign: Sign,
    group: &'a RowGroupMetaData,
    column: &'a ColumnChunkMetaData,
    range: Range<u64>,
}

impl Place<'_> {
    /// What these bytes say; `None` where that is nothing.
    fn said(&self, bytes: Bytes) -> Result<Option<Known>, LakeError> {
        let part = Part { from: self.range.start, bytes };
        if let Sign::Filter(_) = self.sign {
            return Ok(Sbbf::read_from_column_chunk(self.column, &part)?.map(Known::Filter));
        }
        let rows = usize::try_from(self.group.num_rows()).unwrap_or_default();
        let mut pages = SerializedPageReader::new(Arc::new(part), self.column, rows, None)?;
        Ok(match pages.get_next_page()? {
            Some(Page::DictionaryPage { buf, num_values, .. }) => {
                Some(Known::Values(Dictionary { bytes: buf, count: num_values }))
            }
            _ => None,
        })
    }
}

/// Where its bloom filter is.
fn filter_of(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let from = u64::try_from(column.bloom_filter_offset()?).ok()?;
    Some(from..from.checked_add(u64::try_from(column.bloom_filter_length()?).ok()?)?)
}

/// Where its dictionary is, where all its rows are written by it.
fn dictionary_of(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let by_it = |encoding| column.page_encoding_stats_mask().is_some_and(|mask| mask.is_only(encoding));
    let from = u64::try_from(column.dictionary_page_offset()?).ok()?;
    let to = u64::try_from(column.data_page_offset()).ok()?;
    let is_text = column.column_type() == Type::BYTE_ARRAY;
    (is_text && (by_it(Encoding::RLE_DICTIONARY) || by_it(Encoding::PLAIN_DICTIONARY))).then_some(from..to)
}

/// The values of a dictionary, each with its length before it (Parquet, "Plain").
#[derive(Default)]
struct Dictionary {
    bytes: Bytes,
    count: u32,
}

impl Dictionary {
    /// Is there a value that passes? Of one that cannot be read it is not known: it counts as there.
    fn can_have(&self, passes: impl Fn(&str) -> bool) -> bool {
        let mut left: &[u8] = &self.bytes;
        (0..self.count).any(|_| next_text(&mut left).is_none_or(&passes))
    }
}

/// Takes the text that the bytes begin with.
fn next_text<'a>(left: &mut &'a [u8]) -> Option<&'a str> {
    let (length, after) = left.split_first_chunk()?;
    let (text, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *left = after;
    std::str::from_utf8(text).ok()
}

/// The same moments as a few runs, with what lies in the narrower gaps between them.
fn joined(mut runs: Vec<Interval>) -> Vec<Interval> {
    runs.sort_by_key(|run| run.from);
    let mut apart: Vec<Interval> = Vec::new();
    for run in runs {
        match apart.last_mut() {
            Some(last) if last.to >= run.from => last.to = last.to.max(run.to),
            _ => apart.push(run),
        }
    }
    let gap = |(one, next): (&Interval, &Interval)| one.to.zip(next.from).map_or(0, |(to, from)| from.since(to));
    let cuts = cuts(&apart.iter().zip(apart.iter().skip(1)).map(gap).collect::<Vec<i64>>());
    let mut few: Vec<Interval> = Vec::new();
    for (at, run) in apart.into_iter().enumerate() {
        match few.last_mut() {
            Some(last) if cuts.binary_search(&(at - 1)).is_err() => last.to = run.to,
            _ => few.push(run),
        }
    }
    few
}

/// A part of a file, where the file has it.
struct Part {
    from: u64,
    bytes: Bytes,
}

impl Part {
    fn after(&self, start: u64) -> ParquetResult<Bytes> {
        let skipped = start.checked_sub(self.from).and_then(|skipped| usize::try_from(skipped).ok());
        let skipped = skipped.filter(|skipped| *skipped <= self.bytes.len());
        Ok(self.bytes.slice(skipped.ok_or_else(|| ParquetError::EOF("before or after the part".into()))?..))
    }
}

impl Length for Part {
    fn len(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

impl ChunkReader for Part {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.after(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let after = self.after(start)?;
        if length > after.len() {
            return Err(ParquetError::EOF("beyond the part".into()));
        }
        Ok(after.slice(..length))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{at, batch};
    use super::super::{Lake, LakeOptions};
    use super::*;
    use crate::query::parse;
    use sakimori_model::Timestamp;

    /// Twenty files of forty seconds with a minute between them; in some are user names or an address of their own.
    async fn lake(dir: &std::path::Path) -> Lake {
        let lake = Lake::open(LakeOptions::new(dir.join("lake"), "manager-1")).await.unwrap();
        for file in 0..20_u64 {
            let mut batch = batch("default", file + 1, file * 1_000, 400);
            let name = match file {
                3 => "Quillon",
                7 => "QUILLON",
                _ => "nobody",
            };
            if let Some(event) = batch.events.get_mut(200) {
                event.set(sakimori_model::field::USER_NAME, name);
                if file == 5 {
                    event.set(sakimori_model::field::SOURCE_IP, std::net::IpAddr::from([203, 0, 113, 9]));
                }
            }
            lake.ingest(batch.into()).unwrap();
            lake.flush().await.unwrap();
        }
        lake
    }

    async fn seconds_of(lake: &Lake, tenant: &str, query: &str, interval: Interval) -> Option<Vec<(i64, i64)>> {
        let query = Arc::new(parse(query).unwrap());
        let told = told(&lake.inner.engine.session(), &lake.table(), tenant, interval, &query).await.unwrap();
        let second = |time: Option<Timestamp>| time.map_or(-1, |time| time.since(at(0)) / 1_000_000);
        told.runs.map(|runs| runs.iter().map(|run| (second(run.from), second(run.to))).collect())
    }

    async fn seconds(lake: &Lake, query: &str, interval: Interval) -> Option<Vec<(i64, i64)>> {
        seconds_of(lake, "default", query, interval).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_needle_is_looked_for_before_rows_are_read_whatever_its_case() {
        let dir = tempfile::tempdir().unwrap();
        let lake = lake(dir.path()).await;
        let all = Interval::default();
        for query in [
            "user.name:quillon",
            "user.name:Quill*",
            "user.name:quillon and host.name:web1",
            "user.name:quillon or message:nowhere",
        ] {
            assert_eq!(seconds(&lake, query, all).await, Some(vec![(300, 339), (700, 739)]), "{query}");
        }
        for query in [
            "source.ip:203.0.113.9",
            "source.ip:\"::ffff:203.0.113.9\"",
            "source.ip:203.0.113.9 or user.name:nowhere",
            "source.ip:203.0.113.9 and event.outcome:failure",
            "source.ip:203.0.113.0/24",
            "source.ip:203.0.113.*",
            "source.ip:203.0.113.9 or source.ip:203.0.112.0/24",
        ] {
            assert_eq!(seconds(&lake, query, all).await, Some(vec![(500, 539)]), "{query}");
        }
        for query in [
            "user.name:nowhere",
            "source.ip:203.0.113.10",
            "source.ip:203.0.112.0/24",
            "source.ip:203.0.113.9 and user.name:quillon",
        ] {
            assert_eq!(seconds(&lake, query, all).await, Some(vec![]), "{query}");
        }
        assert_eq!(seconds(&lake, "user.name:quillon and host.name:web2", all).await, Some(vec![]));
        let early = Interval { from: None, to: Some(at(320)) };
        assert_eq!(seconds(&lake, "user.name:quillon", early).await, Some(vec![(300, 320)]));
        assert_eq!(seconds(&lake, "host.name:web1", all).await.map(|runs| runs.len()), Some(16));
        // What row groups do not tell.
        for query in [
            "*",
            "quillon",
            "not user.name:quillon",
            "user.name:quillon or source.port:7",
            "source.port:7",
            "source.ip:*",
            // Too many fields.
            "user.name:x and host.name:x and event.outcome:x and event.dataset:x and process.name:x",
        ] {
            assert_eq!(seconds(&lake, query, all).await, None, "{query}");
        }
        assert_eq!(seconds_of(&lake, "other", "user.name:quillon", all).await, Some(vec![]));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_few_row_groups_have_is_rare() {
        let dir = tempfile::tempdir().unwrap();
        let lake = lake(dir.path()).await;
        let ask = async |query: &str| {
            let query = Arc::new(parse(query).unwrap());
            told(&lake.inner.engine.session(), &lake.table(), "default", Interval::default(), &query).await.unwrap()
        };
        let few = ask("user.name:quillon").await;
        assert_eq!((few.rows, few.of), (800, 8_000));
        assert!(few.is_rare() && ask("user.name:nowhere").await.is_rare());
        assert!(!ask("host.name:web1").await.is_rare() && !ask("quillon").await.is_rare());
    }

    #[test]
    fn runs_that_meet_are_one_and_the_closest_are_joined_until_they_are_few() {
        let run = |from: i64, to: i64| Interval { from: Some(at(from)), to: Some(at(to)) };
        assert_eq!(joined(vec![run(5, 7), run(0, 2), run(2, 4), run(1, 3)]), [run(0, 4), run(5, 7)]);
        let many: Vec<Interval> = (0..40).map(|number| run(number * 10, number * 10 + 1)).chain([run(9, 10)]).collect();
        let few = joined(many.clone());
        assert_eq!(few.len(), 16);
        assert!(many.iter().all(|one| few.iter().any(|run| run.from <= one.from && run.to >= one.to)));
        assert_eq!(run(0, 5).overlap(run(5, 9)), None);
        let late = Interval { from: Some(at(3)), to: None };
        assert_eq!((run(0, 5).overlap(late), late.overlap(run(0, 5))), (Some(run(3, 5)), Some(run(3, 5))));
        assert_eq!(late.overlap(Interval::default()), Some(late));
    }

    #[test]
    fn a_dictionary_that_is_cut_off_can_have_anything() {
        let can_have = |bytes: &'static [u8], count: u32, text: &str| {
            Dictionary { bytes: Bytes::from_static(bytes), count }.can_have(|value| value == text)
        };
        let two = b"\x02\0\0\0ab\x01\0\0\0c";
        assert_eq!(["ab", "c", "b", ""].map(|text| can_have(two, 2, text)), [true, true, false, false]);
        assert!(!can_have(b"", 0, "x"));
        for cut in [&b"\x02\0\0\0a"[..], b"\xff\xff\xff\xff", b"\x01\0\0\0\xff", b""] {
            assert!(can_have(cut, 1, "x"), "{cut:?}");
        }
    }
}
