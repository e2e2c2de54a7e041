//! What can go wrong, as Rust values; at the border each becomes the Python exception of its name.

use std::any::Any;
use std::fmt::Display;

use openmls::error::LibraryError;
use openmls::framing::errors::MessageDecryptionError;
use openmls::group::{
    ExternalCommitBuilderError, MlsGroupStateError, ProcessMessageError, PublicProcessMessageError,
    ResolveAppDataCommitError, StageCommitError, ValidationError, WelcomeError,
};
use openmls::prelude::CreationFromExternalError;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::records::StorageError;

pub mod python {
    use super::{PyException, create_exception};

    create_exception!(bridgekit_mls, MlsError, PyException);
    create_exception!(bridgekit_mls, Malformed, MlsError);
    create_exception!(bridgekit_mls, Unsupported, MlsError);
    create_exception!(bridgekit_mls, Refused, MlsError);
    create_exception!(bridgekit_mls, InvalidMessage, MlsError);
    create_exception!(bridgekit_mls, WrongGroup, InvalidMessage);
    create_exception!(bridgekit_mls, WrongEpoch, InvalidMessage);
    create_exception!(bridgekit_mls, Undecryptable, InvalidMessage);
    create_exception!(bridgekit_mls, UnknownKeyPackage, MlsError);
    create_exception!(bridgekit_mls, MissingTree, MlsError);
    create_exception!(bridgekit_mls, NotAMember, MlsError);
    create_exception!(bridgekit_mls, CommitPending, MlsError);
    create_exception!(bridgekit_mls, NoCommitPending, MlsError);
    create_exception!(bridgekit_mls, BadState, MlsError);
    create_exception!(bridgekit_mls, EngineFault, MlsError);
}

#[derive(Debug)]
pub enum Error {
    Malformed(String),
    Unsupported(String),
    Refused(String),
    InvalidMessage(String),
    WrongGroup,
    WrongEpoch(String),
    Undecryptable(String),
    UnknownKeyPackage,
    MissingTree,
    NotAMember,
    CommitPending,
    NoCommitPending,
    BadState(String),
    Fault(String),
    /// What a callback raised passes through.
    Python(PyErr),
}

pub type Result<T> = std::result::Result<T, Error>;

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        match error {
            Error::Malformed(why) => python::Malformed::new_err(why),
            Error::Unsupported(why) => python::Unsupported::new_err(why),
            Error::Refused(why) => python::Refused::new_err(why),
            Error::InvalidMessage(why) => python::InvalidMessage::new_err(why),
            Error::WrongGroup => {
                python::WrongGroup::new_err("the message belongs to another group")
            }
            Error::WrongEpoch(why) => python::WrongEpoch::new_err(why),
            Error::Undecryptable(why) => python::Undecryptable::new_err(why),
            Error::UnknownKeyPackage => python::UnknownKeyPackage::new_err(
                "the Welcome is for none of these key packages: not ours, or used up",
            ),
            Error::MissingTree => python::MissingTree::new_err("the ratchet tree is missing"),
            Error::NotAMember => {
                python::NotAMember::new_err("this client was removed from the group")
            }
            Error::CommitPending => python::CommitPending::new_err(
                "a commit of our own is staged: merge it or clear it first",
            ),
            Error::NoCommitPending => {
                python::NoCommitPending::new_err("no commit of our own is staged")
            }
            Error::BadState(why) => python::BadState::new_err(why),
            Error::Fault(why) => python::EngineFault::new_err(why),
            Error::Python(error) => error,
        }
    }
}

impl From<PyErr> for Error {
    fn from(error: PyErr) -> Self {
        Error::Python(error)
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        Error::BadState(error.to_string())
    }
}

/// Bytes that do not decode.
pub fn malformed(what: &str) -> impl Fn(openmls::prelude::tls_codec::Error) -> Error {
    move |error| Error::Malformed(format!("not {what}: {error}"))
}

/// An operation of our own that the group's rules do not allow.
pub fn refused(error: impl Display) -> Error {
    Error::Refused(error.to_string())
}

/// What a peer sent and what does not hold.
pub fn invalid(error: impl Display) -> Error {
    Error::InvalidMessage(error.to_string())
}

pub fn fault(error: impl Display) -> Error {
    Error::Fault(error.to_string())
}

/// What a panic said: `catch_unwind` gives its payload.
pub fn panicked(payload: Box<dyn Any + Send>) -> Error {
    let said = payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Error::Fault(format!("the engine panicked; nothing was changed: {said}"))
}

impl From<LibraryError> for Error {
    fn from(error: LibraryError) -> Self {
        fault(error)
    }
}

impl From<MlsGroupStateError> for Error {
    fn from(error: MlsGroupStateError) -> Self {
        match error {
            MlsGroupStateError::UseAfterEviction => Error::NotAMember,
            MlsGroupStateError::PendingCommit => Error::CommitPending,
            MlsGroupStateError::NoPendingCommit => Error::NoCommitPending,
            other => refused(other),
        }
    }
}

impl From<ValidationError> for Error {
    fn from(error: ValidationError) -> Self {
        match error {
            ValidationError::WrongGroupId => Error::WrongGroup,
            ValidationError::WrongEpoch | ValidationError::NoPastEpochData => {
                Error::WrongEpoch(error.to_string())
            }
            ValidationError::UnableToDecrypt(MessageDecryptionError::MalformedContent) => {
                invalid(error)
            }
            ValidationError::UnableToDecrypt(_) => Error::Undecryptable(error.to_string()),
            other => invalid(other),
        }
    }
}

impl From<StageCommitError> for Error {
    fn from(error: StageCommitError) -> Self {
        match error {
            StageCommitError::EpochMismatch => Error::WrongEpoch(error.to_string()),
            other => invalid(other),
        }
    }
}

impl From<ResolveAppDataCommitError> for Error {
    fn from(error: ResolveAppDataCommitError) -> Self {
        match error {
            ResolveAppDataCommitError::StageCommit(error) => error.into(),
            other => fault(other),
        }
    }
}

impl From<ProcessMessageError<StorageError>> for Error {
    fn from(error: ProcessMessageError<StorageError>) -> Self {
        match error {
            ProcessMessageError::StorageError(error) => error.into(),
            ProcessMessageError::IncompatibleWireFormat => Error::Unsupported(error.to_string()),
            ProcessMessageError::ValidationError(error) => error.into(),
            ProcessMessageError::GroupStateError(error) => error.into(),
            ProcessMessageError::InvalidCommit(error) => error.into(),
            other => invalid(other),
        }
    }
}

impl From<PublicProcessMessageError> for Error {
    fn from(error: PublicProcessMessageError) -> Self {
        match error {
            PublicProcessMessageError::IncompatibleWireFormat => {
                Error::Unsupported("a private message: only members can read it".to_string())
            }
            PublicProcessMessageError::ValidationError(error) => error.into(),
            PublicProcessMessageError::InvalidCommit(error) => error.into(),
            other => invalid(other),
        }
    }
}

impl From<WelcomeError<StorageError>> for Error {
    fn from(error: WelcomeError<StorageError>) -> Self {
        match error {
            WelcomeError::NoMatchingKeyPackage | WelcomeError::JoinerSecretNotFound => {
                Error::UnknownKeyPackage
            }
            WelcomeError::MissingRatchetTree => Error::MissingTree,
            WelcomeError::StorageError(error) => error.into(),
            WelcomeError::UnsupportedMlsVersion
            | WelcomeError::UnsupportedCapability
            | WelcomeError::UnsupportedCiphersuite(_)
            | WelcomeError::UnsupportedExtensions => Error::Unsupported(error.to_string()),
            WelcomeError::UnableToDecrypt => Error::Undecryptable(error.to_string()),
            other => invalid(other),
        }
    }
}

impl From<CreationFromExternalError<StorageError>> for Error {
    fn from(error: CreationFromExternalError<StorageError>) -> Self {
        match error {
            CreationFromExternalError::UnsupportedMlsVersion
            | CreationFromExternalError::UnsupportedCiphersuite(_) => {
                Error::Unsupported(error.to_string())
            }
            other => invalid(other),
        }
    }
}

impl From<ExternalCommitBuilderError<StorageError>> for Error {
    fn from(error: ExternalCommitBuilderError<StorageError>) -> Self {
        match error {
            ExternalCommitBuilderError::MissingRatchetTree => Error::MissingTree,
            ExternalCommitBuilderError::UnsupportedCiphersuite(_) => {
                Error::Unsupported(error.to_string())
            }
            ExternalCommitBuilderError::PublicGroupError(error) => error.into(),
            ExternalCommitBuilderError::StorageError(error) => error.into(),
            other => invalid(other),
        }
    }
}
