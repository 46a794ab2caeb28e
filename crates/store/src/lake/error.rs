//! What can go wrong in the lake.

use std::path::PathBuf;

/// An error of the lake.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// A file or directory.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// `create`, `write`, …
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address of a bucket is not one.
    #[error("lake {0:?}: {1}")]
    Address(String, String),
    /// The Delta table.
    #[error("cannot {what} the lake's table: {source}")]
    Table {
        /// `open`, `commit to`, …
        what: &'static str,
        /// Why.
        source: Box<deltalake_core::DeltaTableError>,
    },
    /// The object store that holds the table.
    #[error("cannot {what} {name} of the lake: {source}")]
    Store {
        /// `read`, `write`, …
        what: &'static str,
        /// Which object.
        name: String,
        /// Why.
        source: Box<object_store::Error>,
    },
    /// A query that cannot be run, of the asker's making: unknown column, wrong syntax.
    #[error("cannot run this query: {0}")]
    Query(String),
    /// A statement that is not allowed.
    #[error("refused: {0}; one SELECT, WITH or EXPLAIN over the table events is allowed")]
    Refused(String),
    /// It asks for more than a query may have.
    #[error("the result is larger than allowed ({0}); narrow the search or its time")]
    TooLarge(String),
    /// It took too long.
    #[error("the query was stopped after {0} seconds; narrow the search or its time")]
    TimedOut(u64),
    /// The cursor was not made by a search.
    #[error("this is no cursor of a search")]
    Cursor,
    /// The batch is in memory already.
    #[error("batch {0} is in the lake's memory already")]
    Repeated(String),
    /// The memory for what is not flushed is full: flushing falls behind.
    #[error("the lake's memory is full ({0} bytes wait for a flush); retry after the flush")]
    Full(usize),
    /// No such sealed flush, or an earlier one waits.
    #[error("flush {0} is not the next one that waits")]
    NotNext(u64),
    /// Something of our own making.
    #[error("the lake failed: {0}")]
    Internal(String),
}

impl LakeError {
    pub(crate) fn table(what: &'static str) -> impl FnOnce(deltalake_core::DeltaTableError) -> Self {
        move |source| Self::Table { what, source: Box::new(source) }
    }

    pub(crate) fn store(what: &'static str, name: &str) -> impl FnOnce(object_store::Error) -> Self {
        let name = name.to_owned();
        move |source| Self::Store { what, name, source: Box::new(source) }
    }

    pub(crate) fn file(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

impl From<datafusion::arrow::error::ArrowError> for LakeError {
    fn from(error: datafusion::arrow::error::ArrowError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<datafusion::parquet::errors::ParquetError> for LakeError {
    fn from(error: datafusion::parquet::errors::ParquetError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<datafusion::error::DataFusionError> for LakeError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError as E;
        // Out of spill space is an I/O error inside an Arrow error; only its text tells.
        if error.to_string().contains("max_temp_directory_size") {
            return Self::TooLarge("memory and spill space of queries are used up".into());
        }
        match error.find_root() {
            E::Plan(_) | E::SchemaError(..) | E::SQL(..) | E::NotImplemented(_) | E::Configuration(_) => {
                Self::Query(error.strip_backtrace())
            }
            E::ResourcesExhausted(reason) => Self::TooLarge(reason.clone()),
            E::ArrowError(..) | E::Execution(_) => Self::Query(error.strip_backtrace()),
            _ => Self::Internal(error.strip_backtrace()),
        }
    }
}
