//! Where a search can find something at all, told by the dictionaries of columns: a column of a row group that has few values
//! keeps each of them once, before its rows. A needle is looked for there, in kilobytes, before any row is read, and
//! whatever the case it was written in, which a bloom filter does not tell. What no dictionary tells counts as found.
//!
//! The answer is times: files are sorted by time, so that a row group is a run of it, and a search that asks for these runs
//! alone leaves all other row groups and files out by their statistics.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use datafusion::parquet::basic::{Encoding, Type};
use datafusion::parquet::column::page::{Page, PageReader as _};
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use datafusion::parquet::file::reader::{ChunkReader, Length};
use datafusion::parquet::file::serialized_reader::SerializedPageReader;
use datafusion::parquet::file::statistics::Statistics;
use deltalake_core::DeltaTable;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use sakimori_model::catalog::FieldKind;
use sakimori_model::{FieldId, Timestamp};

use super::layout::{Kind, TIME, column_of_catalog, layout};
use super::search::Interval;
use super::slices::{cuts, span_of};
use super::view::is_whole_file;
use super::{LakeError, upkeep};
use crate::query::{Expr, text_matches};

/// Of a file's end so much is read first: its footer, where that is not larger.
const FOOTER: u64 = 128 << 10;
/// Longest dictionary that is looked into.
const DICTIONARY: u64 = 2 << 20;
/// Most fields whose dictionaries are looked into.
const FIELDS: usize = 4;
/// Files that are looked into at the same time.
const AT_ONCE: usize = 8;

/// Runs of time within the interval outside of which no file has a row that the search matches; `None` where dictionaries
/// do not tell.
pub(super) async fn runs(
    table: &DeltaTable,
    tenant: &str,
    interval: Interval,
    query: &Expr,
) -> Result<Option<Vec<Interval>>, LakeError> {
    let mut fields = Vec::new();
    looked_into(query, &mut fields);
    fields.sort_unstable();
    fields.dedup();
    if fields.is_empty() || fields.len() > FIELDS || can_match(query, &|_| Some(&[])) {
        return Ok(None);
    }
    let store = table.log_store().object_store(None);
    let (mut found, mut whole) = (Vec::new(), Vec::new());
    for file in upkeep::files(table)? {
        if upkeep::place(&file).is_none_or(|(of, _)| of != tenant) {
            continue;
        }
        let Some(span) = span_of(&file) else { return Ok(None) };
        let run = Interval { from: Some(span.least), to: Some(span.most.plus_micros(1)) };
        match (run.overlap(interval), is_whole_file(&file)) {
            (None, _) => {}
            // Something of its columns may be in the rest.
            (Some(run), false) => found.push(run),
            (Some(run), true) => {
                let path = Path::parse(file.path()).map_err(|error| LakeError::Internal(error.to_string()))?;
                whole.push((path, u64::try_from(file.size()).unwrap_or_default(), run));
            }
        }
    }
    let looks = whole.into_iter().map(|(path, size, run)| {
        let (store, fields) = (Arc::clone(&store), &fields);
        async move { of_file(&*store, &path, size, run, query, fields).await }
    });
    let of_files: Vec<Vec<Interval>> = futures::stream::iter(looks).buffer_unordered(AT_ONCE).try_collect().await?;
    found.extend(of_files.into_iter().flatten().filter_map(|run| run.overlap(interval)));
    Ok(Some(joined(found)))
}

/// The fields with dictionaries that a search asks for.
fn looked_into(query: &Expr, fields: &mut Vec<FieldId>) {
    match query {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| looked_into(part, fields)),
        Expr::Field(field, _) => fields.extend(field.known().filter(|id| is_text(*id))),
        Expr::Not(_) | Expr::All | Expr::Text(_) => {}
    }
}

/// Has the field a column of one text, filled from events? Not an address: those are many, and bloom filters tell of one.
fn is_text(field: FieldId) -> bool {
    let column = layout().column(field).and_then(|at| layout().columns.get(at));
    column_of_catalog(field)
        && field.def().kind != FieldKind::Ip
        && column.is_some_and(|column| matches!(column.kind, Kind::Text))
}

/// Can a row match whose columns have no other values than these? A column without a dictionary has any.
fn can_match<'a>(query: &Expr, values: &impl Fn(FieldId) -> Option<&'a [String]>) -> bool {
    match query {
        Expr::And(parts) => parts.iter().all(|part| can_match(part, values)),
        Expr::Or(parts) => parts.iter().any(|part| can_match(part, values)),
        Expr::Field(field, test) => {
            let known = field.known().filter(|id| is_text(*id)).and_then(values);
            known.is_none_or(|values| values.iter().any(|value| text_matches(field, test, value)))
        }
        Expr::Not(_) | Expr::All | Expr::Text(_) => true,
    }
}

/// The runs of a file's row groups in which something can match.
async fn of_file(
    store: &dyn ObjectStore,
    path: &Path,
    size: u64,
    run: Interval,
    query: &Expr,
    fields: &[FieldId],
) -> Result<Vec<Interval>, LakeError> {
    let footer = footer(store, path, size).await?;
    let mut runs = Vec::new();
    for group in footer.row_groups() {
        let mut values: BTreeMap<FieldId, Vec<String>> = BTreeMap::new();
        for field in fields {
            if let Some(dictionary) = dictionary(store, path, group, *field).await? {
                values.insert(*field, dictionary);
            }
        }
        if can_match(query, &|field| values.get(&field).map(Vec::as_slice)) {
            runs.push(times(group).unwrap_or(run));
        }
    }
    Ok(runs)
}

async fn footer(store: &dyn ObjectStore, path: &Path, size: u64) -> Result<ParquetMetaData, LakeError> {
    let mut wanted = FOOTER.min(size);
    loop {
        let end = bytes_of(store, path, size - wanted, size).await?;
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&end, size) {
            Ok(()) => return Ok(reader.finish()?),
            Err(ParquetError::NeedMoreData(more)) if (more as u64) > wanted && (more as u64) <= size => {
                wanted = more as u64;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// All values of a text column in a row group; `None` where they are not all in its dictionary.
async fn dictionary(
    store: &dyn ObjectStore,
    path: &Path,
    group: &RowGroupMetaData,
    field: FieldId,
) -> Result<Option<Vec<String>>, LakeError> {
    let columns = group.columns();
    let Some(column) =
        columns.iter().find(|column| matches!(column.column_path().parts(), [name] if name == field.name()))
    else {
        return Ok(None);
    };
    let Some((from, to)) = dictionary_of(column) else { return Ok(None) };
    let part = Part { from, bytes: bytes_of(store, path, from, to).await? };
    let rows = usize::try_from(group.num_rows()).unwrap_or_default();
    let mut pages = SerializedPageReader::new(Arc::new(part), column, rows, None)?;
    Ok(match pages.get_next_page()? {
        Some(Page::DictionaryPage { buf, num_values, .. }) => texts(buf, num_values),
        _ => None,
    })
}

/// From where to where its dictionary is, where all its rows are written by it.
fn dictionary_of(column: &ColumnChunkMetaData) -> Option<(u64, u64)> {
    let by_it = |encoding| column.page_encoding_stats_mask().is_some_and(|mask| mask.is_only(encoding));
    let from = u64::try_from(column.dictionary_page_offset()?).ok()?;
    let to = u64::try_from(column.data_page_offset()).ok()?;
    let fits = column.column_type() == Type::BYTE_ARRAY && to > from && to - from <= DICTIONARY;
    (fits && (by_it(Encoding::RLE_DICTIONARY) || by_it(Encoding::PLAIN_DICTIONARY))).then_some((from, to))
}

/// Values as a dictionary has them: each with its length before it (Parquet, "Plain").
fn texts(mut bytes: Bytes, count: u32) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
        if length > bytes.len() {
            return None;
        }
        texts.push(String::from_utf8(bytes.split_to(length).into()).ok()?);
    }
    Some(texts)
}

/// From the earliest to the latest row of a row group.
fn times(group: &RowGroupMetaData) -> Option<Interval> {
    let is_time = |column: &&ColumnChunkMetaData| matches!(column.column_path().parts(), [name] if name == TIME);
    match group.columns().iter().find(is_time)?.statistics()? {
        Statistics::Int64(values) => Some(Interval {
            from: Some(Timestamp::from_micros(*values.min_opt()?)),
            to: Some(Timestamp::from_micros(*values.max_opt()?).plus_micros(1)),
        }),
        _ => None,
    }
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

async fn bytes_of(store: &dyn ObjectStore, path: &Path, from: u64, to: u64) -> Result<Bytes, LakeError> {
    store.get_range(path, from..to).await.map_err(LakeError::store("read", path.as_ref()))
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

    /// Twenty files of forty seconds with a minute between them; user names of their own in some.
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
            }
            lake.ingest(batch.into()).unwrap();
            lake.flush().await.unwrap();
        }
        lake
    }

    async fn seconds(lake: &Lake, query: &str, interval: Interval) -> Option<Vec<(i64, i64)>> {
        let runs = runs(&lake.table(), "default", interval, &parse(query).unwrap()).await.unwrap();
        let second = |time: Option<Timestamp>| time.map_or(-1, |time| time.since(at(0)) / 1_000_000);
        runs.map(|runs| runs.iter().map(|run| (second(run.from), second(run.to))).collect())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_needle_is_looked_for_in_dictionaries_whatever_its_case() {
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
        assert_eq!(seconds(&lake, "user.name:nowhere", all).await, Some(vec![]));
        assert_eq!(seconds(&lake, "user.name:quillon and host.name:web2", all).await, Some(vec![]));
        let early = Interval { from: None, to: Some(at(320)) };
        assert_eq!(seconds(&lake, "user.name:quillon", early).await, Some(vec![(300, 320)]));
        assert_eq!(seconds(&lake, "host.name:web1", all).await.map(|runs| runs.len()), Some(16));
        // What dictionaries do not tell.
        for query in [
            "*",
            "quillon",
            "not user.name:quillon",
            "user.name:quillon or source.port:7",
            "source.port:7",
            "source.ip:198.51.100.7",
        ] {
            assert_eq!(seconds(&lake, query, all).await, None, "{query}");
        }
        assert_eq!(
            runs(&lake.table(), "other", all, &parse("user.name:quillon").unwrap()).await.unwrap(),
            Some(vec![])
        );
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
    fn a_dictionary_that_is_cut_off_tells_nothing() {
        let bytes = |text: &'static [u8]| Bytes::from_static(text);
        assert_eq!(texts(bytes(b"\x02\0\0\0ab\x01\0\0\0c"), 2), Some(vec!["ab".to_owned(), "c".to_owned()]));
        assert_eq!(texts(bytes(b"\x02\0\0\0a"), 1), None);
        assert_eq!(texts(bytes(b"\xff\xff\xff\xff"), 1), None);
        assert_eq!(texts(bytes(b"\x01\0\0\0\xff"), 1), None);
        assert_eq!(texts(bytes(b""), 1), None);
    }
}
