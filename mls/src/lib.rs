//! MLS (RFC 9420) for bridgekit: OpenMLS behind a small Python face. What each name promises stands in
//! `python/bridgekit_mls/_engine.pyi`.

mod args;
mod errors;
mod group;
mod guard;
mod identity;
mod labels;
mod membership;
mod messages;
mod msgpack;
mod provider;
mod public_group;
mod records;
mod storage;
mod views;

use pyo3::prelude::*;

#[pymodule]
mod _engine {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::errors::python::{
        BadState, CommitPending, EngineFault, InvalidMessage, Malformed, MissingTree, MlsError,
        NoCommitPending, NotAMember, Refused, Undecryptable, UnknownKeyPackage, Unsupported,
        WrongEpoch, WrongGroup,
    };
    #[pymodule_export]
    use crate::group::Group;
    #[pymodule_export]
    use crate::identity::{Capabilities, Identity, KeyPackage, KeyPackages};
    #[pymodule_export]
    use crate::labels::{
        decrypt_with_label, encrypt_with_label, generate_hpke_key, verify_with_label,
    };
    #[pymodule_export]
    use crate::messages::{Parsed, frame, parse, unframe, verify_key_package};
    #[pymodule_export]
    use crate::public_group::{PublicGroup, propose_join};
    #[pymodule_export]
    use crate::views::{
        Application, Commit, Member, OwnCommit, OwnMessage, Proposal, ReceivedCommit,
        ReceivedProposal, Sender,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // A panic is contained and reported as an EngineFault; the standard hook would print it as well.
        std::panic::set_hook(Box::new(|_| {}));
        module.add(
            "VERSION",
            concat!(
                "bridgekit-mls ",
                env!("CARGO_PKG_VERSION"),
                ", openmls 0.9.2"
            ),
        )
    }
}
