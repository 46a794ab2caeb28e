//! Not yet.
use super::{Dir, Parser, Status, Transactions};
#[derive(Debug, Default)]
pub(crate) struct SshTx {}
#[derive(Debug, Default)]
pub(crate) struct Ssh {}
impl Parser for Ssh {
    fn data(&mut self, _: Dir, _: &[u8], _: &mut Transactions) -> Status {
        Status::Going
    }
    fn gap(&mut self, _: Dir, _: usize, _: &mut Transactions) -> Status {
        Status::Going
    }
    fn end(&mut self, _: Dir, _: &mut Transactions) {}
}
impl SshTx {
    pub(crate) fn value(&self, _: crate::rules::buffers::Buffer, _: Dir) -> Option<&[u8]> {
        None
    }
}
impl SshTx {
    pub(crate) fn holds(&self, _: &crate::rules::app_tests::AppTest, _: Dir) -> bool {
        false
    }
}
