//! What a failed call means: whether trying again can help, and what a person has to do where it cannot.

use aws_sdk_wafv2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use sakimori_respond::ports::PortError;

/// The provider's code of an error, like `NoSuchEntity`.
pub(crate) fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// A failed call as an error of a port. `call` is the right that it needs, as IAM writes it: `iam:UpdateAccessKey`.
pub(crate) fn problem<E, R>(call: &str, error: &SdkError<E, R>) -> PortError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let Some(code) = code(error) else {
        // No answer, or one that could not be read: it may have been carried out.
        return PortError::transient(format!("{call}: {}", DisplayErrorContext(error)));
    };
    let message = error.as_service_error().and_then(ProvideErrorMetadata::message).unwrap_or_default();
    if is_denied(code) {
        return PortError::permanent(format!(
            "{call}: not allowed ({code}); the role needs {call}: sakimori cloud check lists what is missing"
        ));
    }
    if is_final(code) {
        return PortError::permanent(format!("{call}: {code} {message}"));
    }
    PortError::transient(format!("{call}: {code} {message}"))
}

/// Is it known that a call that failed was not carried out? There was an answer, or no connection at all.
pub(crate) fn surely_not_done<E, R>(error: &SdkError<E, R>) -> bool {
    match error {
        SdkError::ServiceError(_) | SdkError::ConstructionFailure(_) => true,
        SdkError::DispatchFailure(failure) => failure.as_connector_error().is_some_and(|error| refused(error)),
        _ => false,
    }
}

fn refused(failure: &(dyn std::error::Error + 'static)) -> bool {
    let mut at = failure.source();
    while let Some(error) = at {
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        at = error.source();
    }
    false
}

fn is_denied(code: &str) -> bool {
    matches!(code, "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "UnrecognizedClientException")
        || matches!(code, "InvalidClientTokenId" | "AuthFailure" | "SignatureDoesNotMatch" | "OptInRequired")
}

/// Codes that name a mistake of the caller's, which stays one.
fn is_final(code: &str) -> bool {
    code.starts_with("NoSuch")
        || code.starts_with("Invalid") && !matches!(code, "InvalidAction")
        || code.starts_with("WAFInvalid")
        || code.starts_with("WAFLimits")
        || code.ends_with("NotFoundException")
        || code.ends_with(".NotFound")
        || code.contains(".Malformed")
        || matches!(code, "ValidationError" | "ValidationException" | "MalformedPolicyDocument" | "MalformedPolicy")
        || matches!(code, "OperationNotPermitted" | "UnmodifiableEntity" | "UnsupportedOperation")
        || code.contains("LimitExceeded") && code != "RequestLimitExceeded"
}
