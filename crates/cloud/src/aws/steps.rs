//! What the effects of this folder are written as: four `async` functions, which [`Of`] makes an [`Effect`] of; and the few
//! words in which a failure of a pure part becomes one of the port.

use std::future::Future;

use sakimori_model::Order;
use sakimori_respond::ports::{BoxFuture, Effect, Look, PortError, Progress};

/// An [`Effect`] as four `async` functions; they mean the same.
pub(crate) trait Steps: Send + Sync {
    fn look(&self, order: &Order) -> impl Future<Output = Result<Look, PortError>> + Send;
    fn apply(&self, order: &Order, former: &str) -> impl Future<Output = Result<Progress, PortError>> + Send;
    fn verify(&self, order: &Order, former: &str) -> impl Future<Output = Result<Option<String>, PortError>> + Send;
    fn undo(&self, order: &Order, former: &str) -> impl Future<Output = Result<Progress, PortError>> + Send;
}

/// Makes an [`Effect`] of [`Steps`].
pub(crate) struct Of<S>(pub(crate) S);

impl<S: Steps> Effect for Of<S> {
    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Look, PortError>> {
        Box::pin(self.0.look(order))
    }

    fn apply<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(self.0.apply(order, former))
    }

    fn verify<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Option<String>, PortError>> {
        Box::pin(self.0.verify(order, former))
    }

    fn undo<'a>(&'a self, order: &'a Order, former: &'a str) -> BoxFuture<'a, Result<Progress, PortError>> {
        Box::pin(self.0.undo(order, former))
    }
}

/// Done, with nothing to add.
pub(crate) fn done() -> Result<Progress, PortError> {
    Ok(Progress::Done { remark: None })
}

/// Done, and a person should know this.
pub(crate) fn remarked(remark: impl Into<String>) -> Result<Progress, PortError> {
    Ok(Progress::Done { remark: Some(remark.into()) })
}
