//! A group as one of its members holds it, as Python sees it: the GIL is released, and what fails changes nothing.

use openmls::group::{MlsGroup, Propose, SafeExportSecretError};
use openmls::messages::proposals::ProposalOrRefType;
use openmls::prelude::OpenMlsProvider;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyMapping;

use crate::args::{self, Components, Resolver, Updates};
use crate::errors::{Error, Result, fault, refused};
use crate::guard::{Exclusive, contained, detached};
use crate::identity::{Identity, KeyPackages};
use crate::membership::{Authenticated, Membership, Wanted};
use crate::messages;
use crate::records::Changes;
use crate::views::{Commit, Member, Proposal, Received, ReceivedCommit, ReceivedProposal};

#[pyclass(frozen, module = "bridgekit_mls")]
pub struct Group {
    inner: Exclusive<Membership>,
}

impl Group {
    fn of(membership: Membership) -> Self {
        Group {
            inner: Exclusive::new(membership),
        }
    }

    fn read<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Membership) -> Result<T> + Send,
    ) -> PyResult<T> {
        detached(py, || {
            let inner = self.inner.hold()?;
            inner.usable()?;
            work(&inner)
        })
    }

    /// All or nothing: what fails leaves the records, and the group that is made of them, as they were.
    fn operate<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Membership) -> Result<T> + Send,
    ) -> PyResult<T> {
        detached(py, || {
            let mut held = self.inner.hold()?;
            let inner = &mut *held;
            inner.usable()?;
            inner.provider.reseed();
            inner.provider.records.begin();
            let done = contained(|| work(inner));
            match &done {
                Ok(_) => inner.provider.records.keep(),
                Err(error) => {
                    let touched = inner.provider.records.undo();
                    if touched || matches!(error, Error::Fault(_)) {
                        let id = inner.group.group_id().clone();
                        match contained(|| Ok(MlsGroup::load(&inner.provider.records, &id)?)) {
                            Ok(Some(group)) => inner.group = group,
                            _ => inner.closed = true,
                        }
                    }
                }
            }
            done
        })
    }

    fn propose(
        &self,
        py: Python<'_>,
        with: Authenticated,
        propose: impl FnOnce(&Membership) -> Result<Propose> + Send,
    ) -> PyResult<Vec<u8>> {
        self.operate(py, |inner| {
            inner.operational()?;
            let propose = propose(inner)?;
            inner.authenticate(with)?;
            let by = ProposalOrRefType::Reference;
            let client = inner.client.clone();
            let (message, _) = inner
                .group
                .propose(&inner.provider, &client.key, propose, by)
                .map_err(refused)?;
            args::encoded(&message)
        })
    }
}

#[pymethods]
impl Group {
    #[staticmethod]
    #[pyo3(signature = (
        identity, group_id, *, app_data = None, external_senders = vec![], required_extensions = vec![],
        required_proposals = vec![], extensions = None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn create(
        py: Python<'_>,
        identity: &Identity,
        group_id: &[u8],
        app_data: Option<&Bound<'_, PyMapping>>,
        external_senders: Vec<(PyBackedBytes, PyBackedBytes)>,
        required_extensions: Vec<u16>,
        required_proposals: Vec<u16>,
        extensions: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Self> {
        let app_data = args::components(app_data)?;
        let more = args::components(extensions)?;
        let client = identity.client.clone();
        detached(py, move || {
            Membership::create(
                client,
                group_id,
                app_data,
                &external_senders,
                (required_extensions, required_proposals),
                more,
            )
            .map(Group::of)
        })
    }

    #[staticmethod]
    #[pyo3(signature = (identity, key_packages, welcome, ratchet_tree = None, *, psks = vec![]))]
    fn join(
        py: Python<'_>,
        identity: &Identity,
        key_packages: &KeyPackages,
        welcome: &[u8],
        ratchet_tree: Option<&[u8]>,
        psks: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> PyResult<Self> {
        let client = identity.client.clone();
        detached(py, move || {
            Membership::join(client, key_packages, welcome, ratchet_tree, psks).map(Group::of)
        })
    }

    #[staticmethod]
    #[pyo3(signature = (
        identity, group_info, ratchet_tree = None, *, self_removes = vec![], app_data_updates = vec![],
        resolve = None, aad = vec![]
    ))]
    #[allow(clippy::too_many_arguments)]
    fn join_external(
        py: Python<'_>,
        identity: &Identity,
        group_info: &[u8],
        ratchet_tree: Option<&[u8]>,
        self_removes: Vec<PyBackedBytes>,
        app_data_updates: Updates,
        resolve: Option<Py<PyAny>>,
        aad: Vec<u8>,
    ) -> PyResult<(Self, Commit)> {
        let client = identity.client.clone();
        let resolver = Resolver(resolve);
        detached(py, move || {
            let (membership, commit) = Membership::join_external(
                client,
                group_info,
                ratchet_tree,
                &self_removes,
                app_data_updates,
                &resolver,
                aad,
            )?;
            Ok((Group::of(membership), commit))
        })
    }

    #[staticmethod]
    fn restore(
        py: Python<'_>,
        identity: &Identity,
        records: &Bound<'_, PyMapping>,
    ) -> PyResult<Self> {
        let client = identity.client.clone();
        let values = args::records(Some(records))?;
        detached(py, move || {
            Membership::restore(client, values).map(Group::of)
        })
    }

    fn take_changes(&self, py: Python<'_>) -> PyResult<Changes> {
        self.read(py, |inner| Ok(inner.provider.records.take_changes()))
    }

    #[getter]
    fn group_id(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.read(py, |inner| Ok(inner.group.group_id().to_vec()))
    }

    #[getter]
    fn epoch(&self, py: Python<'_>) -> PyResult<u64> {
        self.read(py, |inner| Ok(inner.group.epoch().as_u64()))
    }

    #[getter]
    fn cipher_suite(&self, py: Python<'_>) -> PyResult<u16> {
        self.read(py, |inner| Ok(inner.group.ciphersuite().into()))
    }

    #[getter]
    fn active(&self, py: Python<'_>) -> PyResult<bool> {
        self.read(py, |inner| Ok(inner.group.is_active()))
    }

    #[getter]
    fn leaf(&self, py: Python<'_>) -> PyResult<u32> {
        self.read(py, |inner| Ok(inner.group.own_leaf_index().u32()))
    }

    #[getter]
    fn members(&self, py: Python<'_>) -> PyResult<Vec<Member>> {
        self.read(py, |inner| inner.group.members().map(Member::new).collect())
    }

    #[getter]
    fn app_data(&self, py: Python<'_>) -> PyResult<Components> {
        self.read(py, |inner| {
            let dictionary = inner.group.extensions().app_data_dictionary();
            Ok(args::dictionary_items(
                dictionary.map(|found| found.dictionary()),
            ))
        })
    }

    #[getter]
    fn extensions(&self, py: Python<'_>) -> PyResult<Components> {
        self.read(py, |inner| {
            args::extension_items(inner.group.extensions().iter())
        })
    }

    #[getter]
    fn external_senders(&self, py: Python<'_>) -> PyResult<Vec<(Vec<u8>, Vec<u8>)>> {
        self.read(py, |inner| args::external_senders(inner.group.extensions()))
    }

    #[getter]
    fn pending_proposals(&self, py: Python<'_>) -> PyResult<Vec<Proposal>> {
        self.read(py, |inner| {
            Proposal::all(inner.group.pending_proposals(), &|sender| {
                inner.name_of(sender)
            })
        })
    }

    #[getter]
    fn commit_pending(&self, py: Python<'_>) -> PyResult<bool> {
        self.read(py, |inner| Ok(inner.group.pending_commit().is_some()))
    }

    #[pyo3(signature = (data, *, aad = vec![], safe_aad = None))]
    fn encrypt(
        &self,
        py: Python<'_>,
        data: &[u8],
        aad: Vec<u8>,
        safe_aad: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Vec<u8>> {
        let with = Authenticated::new(aad, safe_aad)?;
        self.operate(py, |inner| {
            inner.operational()?;
            inner.authenticate(with)?;
            let client = inner.client.clone();
            let message = inner
                .group
                .create_message(&inner.provider, &client.key, data)
                .map_err(refused)?;
            args::encoded(&message)
        })
    }

    #[pyo3(signature = (key_package, *, aad = vec![], safe_aad = None))]
    fn propose_add(
        &self,
        py: Python<'_>,
        key_package: &[u8],
        aad: Vec<u8>,
        safe_aad: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Vec<u8>> {
        let with = Authenticated::new(aad, safe_aad)?;
        self.propose(py, with, |inner| {
            let key_package = messages::verified_key_package(key_package, inner.provider.crypto())?;
            Ok(Propose::Add(key_package))
        })
    }

    #[pyo3(signature = (leaf, *, aad = vec![], safe_aad = None))]
    fn propose_remove(
        &self,
        py: Python<'_>,
        leaf: u32,
        aad: Vec<u8>,
        safe_aad: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Vec<u8>> {
        let with = Authenticated::new(aad, safe_aad)?;
        self.propose(py, with, move |_| Ok(Propose::Remove(leaf)))
    }

    #[pyo3(signature = (*, aad = vec![], safe_aad = None))]
    fn propose_update(
        &self,
        py: Python<'_>,
        aad: Vec<u8>,
        safe_aad: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Vec<u8>> {
        let with = Authenticated::new(aad, safe_aad)?;
        self.propose(py, with, |inner| {
            Ok(Propose::Update(inner.client.leaf_parameters()))
        })
    }

    #[pyo3(signature = (component, update, *, aad = vec![], safe_aad = None))]
    fn propose_app_data(
        &self,
        py: Python<'_>,
        component: u16,
        update: Option<Vec<u8>>,
        aad: Vec<u8>,
        safe_aad: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Vec<u8>> {
        let with = Authenticated::new(aad, safe_aad)?;
        self.propose(py, with, move |_| {
            Ok(match update {
                Some(update) => Propose::UpdateAppDataComponent {
                    component_id: component,
                    update,
                },
                None => Propose::RemoveAppDataComponent {
                    component_id: component,
                },
            })
        })
    }

    #[pyo3(signature = (*, aad = vec![], safe_aad = None))]
    fn propose_self_remove(
        &self,
        py: Python<'_>,
        aad: Vec<u8>,
        safe_aad: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Vec<u8>> {
        let with = Authenticated::new(aad, safe_aad)?;
        self.operate(py, |inner| {
            inner.operational()?;
            inner.authenticate(with)?;
            let client = inner.client.clone();
            let message = inner
                .group
                .leave_group_via_self_remove(&inner.provider, &client.key)
                .map_err(refused)?;
            args::encoded(&message)
        })
    }

    fn drop_proposal(&self, py: Python<'_>, reference: &[u8]) -> PyResult<()> {
        self.operate(py, |inner| {
            let found = inner
                .group
                .pending_proposals()
                .map(|queued| queued.proposal_reference_ref())
                .find(|known| known.as_slice() == reference)
                .cloned();
            let found =
                found.ok_or_else(|| Error::Refused("no such proposal is pending".to_string()))?;
            inner
                .group
                .remove_pending_proposal(&inner.provider.records, &found)
                .map_err(refused)
        })
    }

    #[pyo3(signature = (
        *, add = vec![], remove = vec![], app_data_updates = vec![], extensions = None, pending = true,
        update = false, with_tree = false, resolve = None, aad = vec![], safe_aad = None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn commit(
        &self,
        py: Python<'_>,
        add: Vec<PyBackedBytes>,
        remove: Vec<u32>,
        app_data_updates: Updates,
        extensions: Option<&Bound<'_, PyMapping>>,
        pending: bool,
        update: bool,
        with_tree: bool,
        resolve: Option<Py<PyAny>>,
        aad: Vec<u8>,
        safe_aad: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Commit> {
        let with = Authenticated::new(aad, safe_aad)?;
        let extensions = extensions
            .map(|mapping| args::components(Some(mapping)))
            .transpose()?;
        let resolver = Resolver(resolve);
        self.operate(py, move |inner| {
            inner.commit(
                Wanted {
                    add: &add,
                    remove,
                    app_data_updates,
                    extensions,
                    pending,
                    update,
                    with_tree,
                },
                with,
                &resolver,
            )
        })
    }

    fn merge_commit(&self, py: Python<'_>) -> PyResult<()> {
        self.operate(py, |inner| {
            inner.active()?;
            if inner.group.pending_commit().is_none() {
                return Err(Error::NoCommitPending);
            }
            inner
                .group
                .merge_pending_commit(&inner.provider)
                .map_err(fault)
        })
    }

    fn clear_commit(&self, py: Python<'_>) -> PyResult<()> {
        self.operate(py, |inner| {
            if inner.group.pending_commit().is_none() {
                return Err(Error::NoCommitPending);
            }
            Ok(inner.group.clear_pending_commit(&inner.provider.records)?)
        })
    }

    #[pyo3(signature = (message, *, resolve = None))]
    fn process(
        &self,
        py: Python<'_>,
        message: &[u8],
        resolve: Option<Py<PyAny>>,
    ) -> PyResult<Received> {
        let resolver = Resolver(resolve);
        self.operate(py, move |inner| {
            inner.active()?;
            inner.process(message, &resolver)
        })
    }

    fn accept(&self, py: Python<'_>, received: Acceptable<'_>) -> PyResult<()> {
        let received = received.unbound();
        self.operate(py, |inner| {
            inner.active()?;
            let (mark, epoch) = (inner.mark(), inner.group.epoch().as_u64());
            match &received {
                Accepted::Proposal(proposal) => {
                    let queued = proposal.get().ticket.redeem(&mark, epoch)?;
                    Ok(inner
                        .group
                        .store_pending_proposal(&inner.provider.records, *queued)?)
                }
                Accepted::Commit(commit) => {
                    let staged = commit.get().ticket.redeem(&mark, epoch)?;
                    inner
                        .group
                        .merge_staged_commit(&inner.provider, *staged)
                        .map_err(fault)
                }
            }
        })
    }

    fn export_secret(
        &self,
        py: Python<'_>,
        label: &str,
        context: &[u8],
        length: usize,
    ) -> PyResult<Vec<u8>> {
        self.read(py, |inner| {
            inner.active()?;
            inner
                .group
                .export_secret(inner.provider.crypto(), label, context, length)
                .map_err(refused)
        })
    }

    fn safe_export_secret(&self, py: Python<'_>, component: u16) -> PyResult<Vec<u8>> {
        self.operate(py, |inner| {
            inner.active()?;
            inner
                .group
                .safe_export_secret(inner.provider.crypto(), &inner.provider.records, component)
                .map_err(|error| match error {
                    SafeExportSecretError::Storage(error) => error.into(),
                    other => refused(other),
                })
        })
    }

    #[getter]
    fn epoch_authenticator(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.read(py, |inner| {
            inner.active()?;
            Ok(inner.group.epoch_authenticator().as_slice().to_vec())
        })
    }

    #[pyo3(signature = (*, with_tree = false))]
    fn group_info(&self, py: Python<'_>, with_tree: bool) -> PyResult<Vec<u8>> {
        self.read(py, |inner| {
            inner.active()?;
            let info = inner
                .group
                .export_group_info(inner.provider.crypto(), &inner.client.key, with_tree)
                .map_err(refused)?;
            args::encoded(&info)
        })
    }

    fn ratchet_tree(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.read(py, |inner| {
            args::encoded(&inner.group.export_ratchet_tree())
        })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.read(py, |inner| {
            let id = inner.group.group_id().to_vec();
            let (id, epoch) = (
                String::from_utf8_lossy(&id).into_owned(),
                inner.group.epoch().as_u64(),
            );
            Ok(format!("<Group {id:?} at epoch {epoch}>"))
        })
    }
}

/// What `accept` takes.
#[derive(FromPyObject)]
pub enum Acceptable<'py> {
    Proposal(Bound<'py, ReceivedProposal>),
    Commit(Bound<'py, ReceivedCommit>),
}

/// The same without the GIL.
pub enum Accepted {
    Proposal(Py<ReceivedProposal>),
    Commit(Py<ReceivedCommit>),
}

impl Acceptable<'_> {
    pub fn unbound(self) -> Accepted {
        match self {
            Acceptable::Proposal(proposal) => Accepted::Proposal(proposal.unbind()),
            Acceptable::Commit(commit) => Accepted::Commit(commit.unbind()),
        }
    }
}
