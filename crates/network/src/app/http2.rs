//! Not yet.
use super::{Dir, HttpSettings, Parser, Status, Transactions};
#[derive(Debug, Default)]
pub(crate) struct Http2Info {}
#[derive(Debug, Default)]
pub(crate) struct Http2 {}
impl Http2 {
    pub(crate) fn new(_: HttpSettings) -> Self {
        Self {}
    }
}
impl Parser for Http2 {
    fn data(&mut self, _: Dir, _: &[u8], _: &mut Transactions) -> Status {
        Status::Going
    }
    fn gap(&mut self, _: Dir, _: usize, _: &mut Transactions) -> Status {
        Status::Going
    }
    fn end(&mut self, _: Dir, _: &mut Transactions) {}
}
impl Http2Info {
    pub(crate) fn value(&self, _: crate::rules::buffers::Buffer, _: Dir, _: super::access::Look<'_>) -> Option<bool> {
        None
    }
}
impl Http2Info {
    pub(crate) fn holds(&self, _: &crate::rules::app_tests::AppTest, _: Dir) -> bool {
        false
    }
}
