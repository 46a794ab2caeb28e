//! An expression over the lake's columns.
//!
//! `and`, `or` and `not` become DataFusion's own; each test of a field becomes one function of (its column, the
//! rest) that runs the very test that [`Expr::matches`] runs (`test.rs`). Why not DataFusion's operators: a value
//! may lie in its column or, where it did not fit or the field was promoted later (D5), in the rest; text compares
//! without case; any value of a list counts; and absent is false, not null. Files are left out by time and tenant,
//! which are plain columns.
//!
//! Of files in which no value of a column's field lies in the rest (their names say so: `lake::rows::is_whole`) the
//! rest is not read for such fields, and an address that is asked for is compared as text, which lets the reader leave
//! out what its bloom filters do not have.
//!
//! The rest is JSON. It is parsed only where the column is empty and the text contains the field's last name as a
//! key, so rows without it cost a substring search.

use std::net::IpAddr;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayAccessor, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr as Logical, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::prelude::ident;
use sakimori_model::{FieldKind, Network, Timestamp, field as f};

use super::matches::field_matches;
use super::test::Cell;
use super::wildcard::equal;
use super::{Expr, FREE_TEXT, FieldRef, Scalar, Test};
use crate::lake::layout;
use crate::lake::rows::rest_event;

impl Expr {
    /// As a condition over the lake's `events`; never null.
    pub fn to_datafusion(&self) -> Logical {
        self.plan(false)
    }

    /// The same over rows whose rest has no value of a field that has a column; null counts as false.
    pub(crate) fn to_datafusion_of_whole(&self) -> Logical {
        self.plan(true)
    }

    fn plan(&self, whole: bool) -> Logical {
        let fold = |parts: &[Self], by: fn(Logical, Logical) -> Logical| {
            parts.iter().map(|part| part.plan(whole)).reduce(by).unwrap_or_else(|| lit(true))
        };
        match self {
            Self::All => lit(true),
            Self::And(parts) => fold(parts, Logical::and),
            Self::Or(parts) => fold(parts, Logical::or),
            // Below a `not` null must be false, which only the function makes of it.
            Self::Not(inner) => Logical::Not(Box::new(inner.plan_strictly(whole))),
            Self::Field(field, test) => match whole.then(|| address(field, test)).flatten() {
                Some(compared) => compared,
                None => leaf(field.clone(), test.clone(), whole),
            },
            Self::Text(_) => self.plan_strictly(whole),
        }
    }

    /// Never null.
    fn plan_strictly(&self, whole: bool) -> Logical {
        match self {
            Self::Field(field, test) => leaf(field.clone(), test.clone(), whole),
            Self::Text(form) => {
                let tests = FREE_TEXT.iter().map(|field| leaf((*field).into(), Test::Contains(form.clone()), whole));
                tests.reduce(Logical::or).unwrap_or_else(|| lit(false))
            }
            Self::And(parts) => {
                parts.iter().map(|part| part.plan_strictly(whole)).reduce(Logical::and).unwrap_or_else(|| lit(true))
            }
            Self::Or(parts) => {
                parts.iter().map(|part| part.plan_strictly(whole)).reduce(Logical::or).unwrap_or_else(|| lit(true))
            }
            Self::All => lit(true),
            Self::Not(inner) => Logical::Not(Box::new(inner.plan_strictly(whole))),
        }
    }
}

/// One address in a column of one address.
fn address(field: &FieldRef, test: &Test) -> Option<Logical> {
    let id = field.known().filter(|id| layout::column_of_catalog(*id) && !layout::is_list(*id))?;
    let texts = address_texts(test)?.into_iter().map(lit).collect();
    (id.def().kind == FieldKind::Ip).then(|| ident(id.name()).in_list(texts, false))
}

/// The texts that a column of addresses may have for the one address that is asked for. (It has addresses only, as the
/// address type writes them.)
pub(crate) fn address_texts(test: &Test) -> Option<Vec<String>> {
    let Test::Is(Scalar::Ip(ip)) = test else { return None };
    let canonical = ip.to_canonical();
    let mapped = match canonical {
        IpAddr::V4(four) => Some(IpAddr::V6(four.to_ipv6_mapped()).to_string()),
        IpAddr::V6(_) => None,
    };
    Some([canonical.to_string()].into_iter().chain(mapped).collect())
}

/// One test as a function call.
fn leaf(field: FieldRef, test: Test, whole: bool) -> Logical {
    let known = field.known();
    let (source, arguments) = match known {
        Some(id) if id == f::EVENT_ID => (Source::Id, vec![ident(layout::BATCH), ident(layout::INDEX)]),
        Some(id) if super::field::COMPUTED.contains(&id) => (Source::Column, vec![ident(id.name())]),
        Some(id) if whole && layout::column_of_catalog(id) => (Source::Column, vec![ident(id.name())]),
        Some(id) if layout::column_of_catalog(id) => {
            (Source::ColumnOrRest, vec![ident(id.name()), ident(layout::REST)])
        }
        _ => (Source::Rest, vec![ident(layout::REST)]),
    };
    let text = Expr::Field(field.clone(), test.clone()).to_string();
    // Text says quoted and wild forms apart, but not a keyword's equality from a text field's containing.
    let text = format!("{:?} {text} {:?}", source, std::mem::discriminant(&test));
    let last = field.name().rsplit('.').next().unwrap_or_default();
    let key = serde_json::Value::from(last).to_string();
    // `"ip":` nested, `"source.ip":` flat: both end alike.
    let key = format!("{}:", key.strip_prefix('"').unwrap_or(&key)).into_bytes();
    let function =
        LeafTest { text, field, test, source, key, signature: Signature::any(arguments.len(), Volatility::Immutable) };
    ScalarUDF::new_from_impl(function).call(arguments)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// (batch, index): `event.id`.
    Id,
    /// (column)
    Column,
    /// (column, rest)
    ColumnOrRest,
    /// (rest)
    Rest,
}

#[derive(Debug)]
struct LeafTest {
    text: String,
    field: FieldRef,
    test: Test,
    source: Source,
    key: Vec<u8>,
    signature: Signature,
}

// The text is the whole of it (a float in the test keeps this from being derived).
impl PartialEq for LeafTest {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for LeafTest {}
impl std::hash::Hash for LeafTest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl ScalarUDFImpl for LeafTest {
    fn name(&self) -> &'static str {
        "sakimori_matches"
    }

    fn display_name(&self, _: &[Logical]) -> Result<String> {
        Ok(format!("[{}]", self.text))
    }

    fn schema_name(&self, _: &[Logical]) -> Result<String> {
        Ok(format!("[{}]", self.text))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if all_scalar { 1 } else { args.number_rows };
        let arrays = args.args.into_iter().map(|arg| arg.into_array(rows)).collect::<Result<Vec<_>>>()?;
        let found = match (self.source, &arrays[..]) {
            (Source::Id, [batch, index]) => self.ids(batch, index)?,
            (Source::Column, [column]) => self.column(column)?,
            (Source::ColumnOrRest, [column, rest]) => self.rest(rest, Some((column, self.column(column)?)))?,
            (Source::Rest, [rest]) => self.rest(rest, None)?,
            _ => return Err(exec_datafusion_err!("a search test was called with other columns")),
        };
        if all_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::Boolean(found.iter().next())));
        }
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(found, None))))
    }
}

impl LeafTest {
    fn ids(&self, batch: &ArrayRef, index: &ArrayRef) -> Result<BooleanBuffer> {
        let (batch, index) = (text_column(batch)?, cast(index, &DataType::Int64)?);
        let (batch, index) = (batch.as_string::<i32>(), index.as_primitive::<Int64Type>());
        Ok(batch
            .iter()
            .zip(index.iter())
            .map(|pair| match pair {
                (Some(batch), Some(index)) => self.test.cell(Cell::Text(&format!("{batch}.{index}"))),
                _ => false,
            })
            .collect())
    }

    fn column(&self, column: &ArrayRef) -> Result<BooleanBuffer> {
        let test = &self.test;
        if matches!(test, Test::Exists) && !matches!(column.data_type(), DataType::List(_)) {
            return Ok(BooleanBuffer::collect_bool(column.len(), |row| column.is_valid(row)));
        }
        let ip = self.field.kind() == Some(FieldKind::Ip);
        if let (Test::Is(Scalar::Text(wanted)), DataType::Utf8, false) = (test, column.data_type(), ip) {
            return Ok(each(column.as_string::<i32>(), |text| equal(text, wanted)));
        }
        let text = text_test(&self.field, test);
        Ok(match column.data_type() {
            DataType::List(_) => {
                let lists = column.as_list::<i32>();
                let mut found = BooleanBufferBuilder::new(lists.len());
                for list in lists.iter() {
                    found.append(match list {
                        Some(list) => text_column(&list)?.as_string::<i32>().iter().flatten().any(&text),
                        None => false,
                    });
                }
                found.finish()
            }
            DataType::Int64 => each(column.as_primitive::<Int64Type>(), |number| test.cell(Cell::Long(number))),
            DataType::Float64 => each(column.as_primitive::<Float64Type>(), |number| test.cell(Cell::Double(number))),
            DataType::Boolean => each(column.as_boolean(), |flag| test.cell(Cell::Bool(flag))),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                each(column.as_primitive::<TimestampMicrosecondType>(), |micros| {
                    test.cell(Cell::Date(Timestamp::from_micros(micros)))
                })
            }
            DataType::Date32 => each(column.as_primitive::<Date32Type>(), |day| test.cell(Cell::Long(i64::from(day)))),
            _ => each(text_column(column)?.as_string::<i32>(), text),
        })
    }

    /// What was found in the column; of rows that have nothing there, what their rest says.
    fn rest(&self, rest: &ArrayRef, column: Option<(&ArrayRef, BooleanBuffer)>) -> Result<BooleanBuffer> {
        let rest = text_column(rest)?;
        let rest = rest.as_string::<i32>();
        let key = memchr::memmem::Finder::new(&self.key);
        Ok(BooleanBuffer::collect_bool(rest.len(), |row| match &column {
            Some((column, found)) if column.is_valid(row) => found.value(row),
            _ if rest.is_null(row) => false,
            _ => {
                let text = rest.value(row);
                key.find(text.as_bytes()).is_some() && field_matches(&rest_event(text), &self.field, &self.test)
            }
        }))
    }
}

/// Tells of each text that a column has for the field whether it matches.
pub(crate) fn text_test<'a>(field: &FieldRef, test: &'a Test) -> impl Fn(&str) -> bool + 'a {
    // A form is held against the address as the address type writes it, which is how the column has it.
    let by_form = matches!(test, Test::Contains(_) | Test::Like(_));
    let parsed = !by_form && field.kind() == Some(FieldKind::Ip);
    // How an address begins tells of most that they are not in a network, without parsing them.
    let begins = match test {
        Test::Within(network) if parsed => beginning(network),
        _ => String::new(),
    };
    move |text| {
        let can_be = text.starts_with(&begins) || text.starts_with("::");
        can_be
            && match parsed.then(|| text.parse::<IpAddr>()) {
                Some(Ok(ip)) => test.cell(Cell::Ip(ip)),
                _ => test.cell(Cell::Text(text)),
            }
    }
}

/// What all IPv4 addresses of a network begin with, as text: the octets that are whole in its prefix.
fn beginning(network: &Network) -> String {
    let IpAddr::V4(address) = network.address() else { return String::new() };
    let whole = usize::from(network.prefix() / 8).min(3);
    address.octets().iter().take(whole).map(|octet| format!("{octet}.")).collect()
}

/// Which values are there and pass the test.
fn each<A: ArrayAccessor>(column: A, test: impl Fn(A::Item) -> bool) -> BooleanBuffer {
    match column.nulls() {
        None => BooleanBuffer::collect_bool(column.len(), |row| test(column.value(row))),
        Some(there) => BooleanBuffer::collect_bool(column.len(), |row| there.is_valid(row) && test(column.value(row))),
    }
}

pub(super) fn text_column(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Utf8 => Ok(Arc::clone(column)),
        _ => Ok(cast(column, &DataType::Utf8)?),
    }
}
