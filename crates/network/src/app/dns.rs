//! Not yet.
use super::{Dir, Parser, Status, Transactions};
#[derive(Debug, Default)]
pub(crate) struct DnsTx {}
#[derive(Debug, Default)]
pub(crate) struct Dns {}
impl Dns {
    pub(crate) fn new(_: bool) -> Self {
        Self {}
    }
}
impl Parser for Dns {
    fn data(&mut self, _: Dir, _: &[u8], _: &mut Transactions) -> Status {
        Status::Going
    }
    fn gap(&mut self, _: Dir, _: usize, _: &mut Transactions) -> Status {
        Status::Going
    }
    fn end(&mut self, _: Dir, _: &mut Transactions) {}
}
impl DnsTx {
    pub(crate) fn values(&self, _: crate::rules::buffers::Buffer, _: super::access::Look<'_>) -> bool {
        false
    }
}
pub(super) fn plausible(_: &[u8]) -> bool {
    false
}
impl DnsTx {
    pub(crate) fn holds(&self, _: &crate::rules::app_tests::AppTest) -> bool {
        false
    }
}
