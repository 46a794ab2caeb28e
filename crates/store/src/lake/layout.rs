//! The columns of the lake, derived from the field catalog.
//!
//! | columns | what |
//! |---|---|
//! | `organization.id`, `day` | tenant and day (D6): the partitions |
//! | `sakimori.time` | the moment that searches sort by: `@timestamp` where it is plausible (from 400 days before to one day after arrival), else the arrival |
//! | `sakimori.batch`, `sakimori.index` | the event's id is `<batch>.<index>` (D1) |
//! | `sakimori.arrival`, `sakimori.received` | number and moment of arrival |
//! | `sakimori.origin`, `sakimori.stream` | who sent the batch, from its header: the books |
//! | one a catalog field with `column: true` | typed; addresses are canonical text; [`LISTS`] are lists |
//! | `sakimori.rest` | JSON of all else: fields without a column under their dotted names, values that do not fit their column (several where one is usual), and the event's own rest, nested |
//!
//! So a value is in its column or in the rest, never lost, and a field that becomes a column later is found in
//! old rows through the rest (D5). A column is never taken away again: the catalog's `yes` stays `yes`.
//! The name of a file whose rest holds no value of a field with a column ends in a mark of these very columns
//! (`-whole…`): of it a search reads columns alone. Where a column came later, older files are read with their rest.
//! CIDR, case and lists are judged by one function over text columns (`query::plan`), which needs no second
//! binary column.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake_core::kernel::{ArrayType, DataType as DeltaType, StructField};
use sakimori_model::catalog::FieldKind;
use sakimori_model::{FieldId, field as f};

use crate::query::COMPUTED;

/// Tenant: partition.
pub const TENANT: &str = "organization.id";
/// Day: partition.
pub const DAY: &str = "day";
/// What searches sort by.
pub const TIME: &str = "sakimori.time";
/// Id of the batch.
pub const BATCH: &str = "sakimori.batch";
/// Place in the batch.
pub const INDEX: &str = "sakimori.index";
/// Number of arrival.
pub const ARRIVAL: &str = "sakimori.arrival";
/// Moment of arrival.
pub const RECEIVED: &str = "sakimori.received";
/// Who sent it.
pub const ORIGIN: &str = "sakimori.origin";
/// In which of its streams.
pub const STREAM: &str = "sakimori.stream";
/// All that has no column.
pub const REST: &str = "sakimori.rest";

/// Fields that ECS defines as lists ("should contain an array of values"); a single value is a list of one.
const LISTS: &[FieldId] = &[
    f::TAGS,
    f::EVENT_CATEGORY,
    f::EVENT_TYPE,
    f::HOST_IP,
    f::NETWORK_FORWARDED_IP,
    f::RELATED_IP,
    f::RELATED_USER,
    f::RELATED_HOSTS,
    f::RELATED_HASH,
    f::THREAT_TACTIC_ID,
    f::THREAT_TECHNIQUE_ID,
];

/// How a column holds its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Texts,
    Long,
    Double,
    Bool,
    Date,
    Day,
}

/// One column.
#[derive(Debug)]
pub(crate) struct ColumnDef {
    pub name: &'static str,
    pub kind: Kind,
    /// The catalog field whose value it holds; none for the lake's own.
    pub field: Option<FieldId>,
}

/// All columns but the tenant, in their order.
#[derive(Debug)]
pub(crate) struct Layout {
    pub columns: Vec<ColumnDef>,
    /// By field: its column.
    by_field: Vec<Option<usize>>,
    pub schema: SchemaRef,
    /// Ends the name of a file whose rest has no value of a field that has one of these columns.
    pub mark: String,
}

/// Places of the lake's own columns; the catalog's follow, the rest is last.
pub(crate) mod own {
    pub const DAY: usize = 0;
    pub const TIME: usize = 1;
    pub const BATCH: usize = 2;
    pub const INDEX: usize = 3;
    pub const ARRIVAL: usize = 4;
    pub const RECEIVED: usize = 5;
    pub const ORIGIN: usize = 6;
    pub const STREAM: usize = 7;
}

static LAYOUT: LazyLock<Layout> = LazyLock::new(|| {
    let own = [
        (DAY, Kind::Day),
        (TIME, Kind::Date),
        (BATCH, Kind::Text),
        (INDEX, Kind::Long),
        (ARRIVAL, Kind::Long),
        (RECEIVED, Kind::Date),
        (ORIGIN, Kind::Text),
        (STREAM, Kind::Text),
    ];
    let mut columns: Vec<ColumnDef> =
        own.into_iter().map(|(name, kind)| ColumnDef { name, kind, field: None }).collect();
    let mut by_field = vec![None; sakimori_model::catalog::FIELDS.len()];
    for field in FieldId::all().filter(|field| column_of_catalog(*field)) {
        let kind = match field.def().kind {
            FieldKind::Keyword | FieldKind::Text | FieldKind::Ip if LISTS.contains(&field) => Kind::Texts,
            FieldKind::Keyword | FieldKind::Text | FieldKind::Ip => Kind::Text,
            FieldKind::Long => Kind::Long,
            FieldKind::Double => Kind::Double,
            FieldKind::Bool => Kind::Bool,
            FieldKind::Date => Kind::Date,
            FieldKind::Json => continue,
        };
        if let Some(place) = by_field.get_mut(field.index()) {
            *place = Some(columns.len());
        }
        columns.push(ColumnDef { name: field.name(), kind, field: Some(field) });
    }
    columns.push(ColumnDef { name: REST, kind: Kind::Text, field: None });
    let schema = Arc::new(Schema::new(
        columns.iter().map(|column| Field::new(column.name, column.kind.arrow(), true)).collect::<Vec<_>>(),
    ));
    let mark = mark(&columns);
    Layout { columns, by_field, schema, mark }
});

/// The same columns have the same mark in every build (FNV-1a over their names).
fn mark(columns: &[ColumnDef]) -> String {
    let bytes = columns.iter().flat_map(|column| column.name.bytes().chain([b'\n']));
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("-whole{hash:08x}")
}

/// The layout of this build.
pub(crate) fn layout() -> &'static Layout {
    &LAYOUT
}

/// Has the field a column filled from events? (Not the ones that the lake computes.)
pub(crate) fn column_of_catalog(field: FieldId) -> bool {
    let def = field.def();
    def.column && def.kind != FieldKind::Json && !COMPUTED.contains(&field)
}

impl Layout {
    /// The column of a field.
    pub fn column(&self, field: FieldId) -> Option<usize> {
        self.by_field.get(field.index()).copied().flatten()
    }

    /// The last column.
    pub fn rest(&self) -> usize {
        self.columns.len() - 1
    }

    /// The schema as Delta says it, partitions included.
    pub fn delta(&self) -> Vec<StructField> {
        let mut fields = vec![StructField::nullable(TENANT, DeltaType::STRING)];
        fields.extend(self.columns.iter().map(|column| StructField::nullable(column.name, column.kind.delta())));
        fields
    }
}

impl Kind {
    pub fn arrow(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Texts => DataType::List(Arc::new(element())),
            Self::Long => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Date => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Day => DataType::Date32,
        }
    }

    fn delta(self) -> DeltaType {
        match self {
            Self::Text => DeltaType::STRING,
            Self::Texts => ArrayType::new(DeltaType::STRING, true).into(),
            Self::Long => DeltaType::LONG,
            Self::Double => DeltaType::DOUBLE,
            Self::Bool => DeltaType::BOOLEAN,
            Self::Date => DeltaType::TIMESTAMP,
            Self::Day => DeltaType::DATE,
        }
    }
}

/// The element of a list column, named as Delta names it.
pub(crate) fn element() -> Field {
    Field::new("element", DataType::Utf8, true)
}

/// Has the field's column a list of values?
pub fn is_list(field: FieldId) -> bool {
    LISTS.contains(&field)
}
