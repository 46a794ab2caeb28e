//! Not yet.
use super::{Dir, Parser, Status, Transactions};
#[derive(Debug, Default)]
pub(crate) struct SmtpTx {}
#[derive(Debug, Default)]
pub(crate) struct Smtp {}
impl Parser for Smtp {
    fn data(&mut self, _: Dir, _: &[u8], _: &mut Transactions) -> Status {
        Status::Going
    }
    fn gap(&mut self, _: Dir, _: usize, _: &mut Transactions) -> Status {
        Status::Going
    }
    fn end(&mut self, _: Dir, _: &mut Transactions) {}
}
impl SmtpTx {
    pub(crate) fn values(&self, _: crate::rules::buffers::Buffer, _: super::access::Look<'_>) -> bool {
        false
    }
}
