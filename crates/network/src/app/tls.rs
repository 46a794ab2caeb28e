//! Not yet.
use super::{Dir, Parser, Status, Transactions};
#[derive(Debug, Default)]
pub(crate) struct TlsTx {}
#[derive(Debug, Default)]
pub(crate) struct Tls {}
impl Parser for Tls {
    fn data(&mut self, _: Dir, _: &[u8], _: &mut Transactions) -> Status {
        Status::Going
    }
    fn gap(&mut self, _: Dir, _: usize, _: &mut Transactions) -> Status {
        Status::Going
    }
    fn end(&mut self, _: Dir, _: &mut Transactions) {}
}
impl TlsTx {
    pub(crate) fn value(&self, _: crate::rules::buffers::Buffer, _: Dir) -> Option<std::borrow::Cow<'_, [u8]>> {
        None
    }
}
impl TlsTx {
    pub(crate) fn holds(&self, _: &crate::rules::app_tests::AppTest, _: Dir, _: i64) -> bool {
        false
    }
}
