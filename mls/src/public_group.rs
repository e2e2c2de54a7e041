//! A group as a hub holds it: all that is public, and no secret of any kind.

use openmls::group::{GroupId, ProposalStore, PublicGroup as MlsPublicGroup};
use openmls::messages::external_proposals::{ExternalProposal, JoinProposal};
use openmls::prelude::{
    LeafNodeIndex, OpenMlsProvider, OpenMlsSignaturePublicKey, ProcessedMessageContent,
    Sender as MlsSender, SenderExtensionIndex, Verifiable,
};
use pyo3::prelude::*;
use pyo3::types::PyMapping;

use crate::args::{self, Components, Reader, Resolver};
use crate::errors::{Error, Result, fault, invalid, refused};
use crate::group::{Acceptable, Accepted};
use crate::guard::{Exclusive, contained, detached};
use crate::identity::{Client, Identity, KeyPackages};
use crate::messages;
use crate::provider::Provider;
use crate::records::{Changes, Records};
use crate::views::{
    Envelope, Member, Proposal, Received, ReceivedCommit, ReceivedProposal, name_of,
};

struct Inner {
    group: MlsPublicGroup,
    provider: Provider,
    closed: bool,
}

impl Inner {
    fn usable(&self) -> Result<()> {
        if self.closed {
            return Err(Error::Fault(
                "the group was closed by an earlier fault: restore it from what was stored"
                    .to_string(),
            ));
        }
        Ok(())
    }

    fn mark(&self) -> (Vec<u8>, bool) {
        (self.group.group_id().to_vec(), true)
    }

    fn epoch(&self) -> u64 {
        self.group.group_context().epoch().as_u64()
    }

    fn name_of(&self, sender: &MlsSender) -> Option<Vec<u8>> {
        match sender {
            MlsSender::Member(leaf) => name_of(self.group.leaf(*leaf)?.credential()),
            _ => None,
        }
    }

    /// Where the client stands among the external senders.
    fn sender_index(&self, client: &Client) -> Result<SenderExtensionIndex> {
        let senders = args::external_senders(self.group.group_context().extensions())?;
        let credential = args::encoded(&client.credential())?;
        let index = senders
            .iter()
            .position(|(key, known)| key == client.key.public() && *known == credential)
            .and_then(|index| u32::try_from(index).ok())
            .ok_or_else(|| Error::Refused("not an external sender of this group".to_string()))?;
        Ok(SenderExtensionIndex::new(index))
    }

    fn process(&mut self, message: &[u8], resolver: &Resolver) -> Result<Received> {
        let message = messages::protocol_message(message)?;
        let mut processed = self
            .group
            .process_message(self.provider.crypto(), message)?;
        if let ProcessedMessageContent::UnresolvedAppDataCommit(commit) = processed.content() {
            let updates = args::updates(commit.app_data_update_proposals());
            let updates = resolver.resolve(self.group.app_data_dictionary_updater(), updates)?;
            processed =
                self.group
                    .resolve_app_data_commit(self.provider.crypto(), processed, updates)?;
        }
        let envelope = Envelope::new(&processed)?;
        let names = |sender: &MlsSender| self.name_of(sender);
        match processed.into_content() {
            ProcessedMessageContent::ProposalMessage(queued)
            | ProcessedMessageContent::ExternalJoinProposalMessage(queued) => Ok(
                Received::Proposal(ReceivedProposal::new(envelope, self.mark(), queued)?),
            ),
            ProcessedMessageContent::StagedCommitMessage(staged) => {
                let newcomer = Some(self.group.ext_commit_sender_index(&staged)?.u32());
                let commit = ReceivedCommit::new(envelope, self.mark(), staged, newcomer, &names)?;
                Ok(Received::Commit(commit))
            }
            _ => Err(Error::InvalidMessage(
                "neither a proposal nor a commit".to_string(),
            )),
        }
    }

    /// GroupInfo (RFC 9420, section 12.4.3): of this very context and tag, and signed by a member.
    fn check_group_info(&self, message: &[u8]) -> Result<()> {
        let info = messages::group_info(message)?;
        let context = self.group.group_context();
        if info.group_id() != self.group.group_id() {
            return Err(Error::WrongGroup);
        }
        if info.epoch() != context.epoch() {
            return Err(Error::WrongEpoch(format!(
                "the GroupInfo is of epoch {}, the group is in {}",
                info.epoch().as_u64(),
                context.epoch().as_u64()
            )));
        }
        if info.group_context() != context {
            return Err(Error::InvalidMessage(
                "the GroupInfo's GroupContext is not the group's".to_string(),
            ));
        }
        // The rest of the structure: extensions, confirmation_tag, signer, signature.
        let context = args::encoded(context)?;
        let bare = &message[4..];
        let mut reader = Reader(bare.strip_prefix(context.as_slice()).ok_or_else(|| {
            Error::Malformed("the GroupInfo's GroupContext is not in its one encoding".to_string())
        })?);
        reader.vector()?;
        let tag = reader.vector()?;
        if Reader(&args::encoded(self.group.confirmation_tag())?).vector()? != tag {
            return Err(Error::InvalidMessage(
                "the GroupInfo's confirmation tag is not the group's".to_string(),
            ));
        }
        let signer = LeafNodeIndex::new(reader.u32()?);
        let leaf = self.group.leaf(signer).ok_or_else(|| {
            Error::InvalidMessage("the GroupInfo's signer is no member".to_string())
        })?;
        let key = OpenMlsSignaturePublicKey::from_signature_key(
            leaf.signature_key().clone(),
            self.group.ciphersuite().signature_algorithm(),
        );
        info.verify_no_out(self.provider.crypto(), &key)
            .map_err(invalid)
    }
}

#[pyclass(frozen, module = "bridgekit_mls")]
pub struct PublicGroup {
    inner: Exclusive<Inner>,
}

impl PublicGroup {
    fn from_parts(group: MlsPublicGroup, provider: Provider) -> Self {
        PublicGroup {
            inner: Exclusive::new(Inner {
                group,
                provider,
                closed: false,
            }),
        }
    }

    fn read<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Inner) -> Result<T> + Send,
    ) -> PyResult<T> {
        detached(py, || {
            let inner = self.inner.hold()?;
            inner.usable()?;
            work(&inner)
        })
    }

    /// As `Group::operate`: all or nothing.
    fn operate<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Inner) -> Result<T> + Send,
    ) -> PyResult<T> {
        detached(py, || {
            let mut held = self.inner.hold()?;
            let inner = &mut *held;
            inner.usable()?;
            inner.provider.records.begin();
            let done = contained(|| work(inner));
            match &done {
                Ok(_) => inner.provider.records.keep(),
                Err(error) => {
                    let touched = inner.provider.records.undo();
                    if touched || matches!(error, Error::Fault(_)) {
                        let id = inner.group.group_id().clone();
                        match contained(|| Ok(MlsPublicGroup::load(&inner.provider.records, &id)?))
                        {
                            Ok(Some(group)) => inner.group = group,
                            _ => inner.closed = true,
                        }
                    }
                }
            }
            done
        })
    }
}

#[pymethods]
impl PublicGroup {
    #[new]
    #[pyo3(signature = (group_info, ratchet_tree = None))]
    fn new(py: Python<'_>, group_info: &[u8], ratchet_tree: Option<&[u8]>) -> PyResult<Self> {
        detached(py, || {
            let info = messages::group_info(group_info)?;
            let tree = match info.extensions().ratchet_tree() {
                Some(extension) => extension.ratchet_tree().clone(),
                None => messages::ratchet_tree(ratchet_tree)?.ok_or(Error::MissingTree)?,
            };
            let provider = Provider::default();
            let (group, _) = MlsPublicGroup::from_external(
                provider.crypto(),
                &provider.records,
                tree,
                info,
                ProposalStore::new(),
            )?;
            provider.records.keep();
            Ok(PublicGroup::from_parts(group, provider))
        })
    }

    #[staticmethod]
    fn restore(py: Python<'_>, records: &Bound<'_, PyMapping>) -> PyResult<Self> {
        let values = args::records(Some(records))?;
        detached(py, move || {
            let provider = Provider::new(Records::new(values));
            let group = MlsPublicGroup::load(&provider.records, &GroupId::from_slice(b""))?;
            let group = group
                .ok_or_else(|| Error::BadState("the group's records are incomplete".to_string()))?;
            Ok(PublicGroup::from_parts(group, provider))
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
        self.read(py, |inner| Ok(inner.epoch()))
    }

    #[getter]
    fn cipher_suite(&self, py: Python<'_>) -> PyResult<u16> {
        self.read(py, |inner| Ok(inner.group.ciphersuite().into()))
    }

    #[getter]
    fn members(&self, py: Python<'_>) -> PyResult<Vec<Member>> {
        self.read(py, |inner| inner.group.members().map(Member::new).collect())
    }

    #[getter]
    fn app_data(&self, py: Python<'_>) -> PyResult<Components> {
        self.read(py, |inner| {
            let dictionary = inner
                .group
                .group_context()
                .extensions()
                .app_data_dictionary();
            Ok(args::dictionary_items(
                dictionary.map(|found| found.dictionary()),
            ))
        })
    }

    #[getter]
    fn extensions(&self, py: Python<'_>) -> PyResult<Components> {
        self.read(py, |inner| {
            args::extension_items(inner.group.group_context().extensions().iter())
        })
    }

    #[getter]
    fn external_senders(&self, py: Python<'_>) -> PyResult<Vec<(Vec<u8>, Vec<u8>)>> {
        self.read(py, |inner| {
            args::external_senders(inner.group.group_context().extensions())
        })
    }

    #[getter]
    fn pending_proposals(&self, py: Python<'_>) -> PyResult<Vec<Proposal>> {
        self.read(py, |inner| {
            let queued = inner.group.queued_proposals(&inner.provider.records)?;
            Proposal::all(queued.iter().map(|(_, queued)| queued), &|sender| {
                inner.name_of(sender)
            })
        })
    }

    #[getter]
    fn group_context(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.read(py, |inner| args::encoded(inner.group.group_context()))
    }

    #[getter]
    fn confirmation_tag(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.read(py, |inner| {
            let tag = args::encoded(inner.group.confirmation_tag())?;
            Ok(Reader(&tag).vector()?.to_vec())
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
        self.operate(py, move |inner| inner.process(message, &resolver))
    }

    fn accept(&self, py: Python<'_>, received: Acceptable<'_>) -> PyResult<()> {
        let received = received.unbound();
        self.operate(py, |inner| {
            let (mark, epoch) = (inner.mark(), inner.epoch());
            match &received {
                Accepted::Proposal(proposal) => {
                    let queued = proposal.get().ticket.redeem(&mark, epoch)?;
                    Ok(inner.group.add_proposal(&inner.provider.records, *queued)?)
                }
                Accepted::Commit(commit) => {
                    let staged = commit.get().ticket.redeem(&mark, epoch)?;
                    inner
                        .group
                        .merge_commit(&inner.provider.records, *staged)
                        .map_err(fault)
                }
            }
        })
    }

    fn drop_proposal(&self, py: Python<'_>, reference: &[u8]) -> PyResult<()> {
        self.operate(py, |inner| {
            let queued = inner.group.queued_proposals(&inner.provider.records)?;
            let found = queued
                .iter()
                .map(|(known, _)| known)
                .find(|known| known.as_slice() == reference);
            let found =
                found.ok_or_else(|| Error::Refused("no such proposal is pending".to_string()))?;
            Ok(inner
                .group
                .remove_proposal(&inner.provider.records, found)?)
        })
    }

    fn check_group_info(&self, py: Python<'_>, group_info: &[u8]) -> PyResult<()> {
        self.read(py, |inner| inner.check_group_info(group_info))
    }

    fn ratchet_tree(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.read(py, |inner| {
            args::encoded(&inner.group.export_ratchet_tree())
        })
    }

    fn propose_remove(&self, py: Python<'_>, sender: &Identity, leaf: u32) -> PyResult<Vec<u8>> {
        let client = sender.client.clone();
        self.read(py, move |inner| {
            let index = inner.sender_index(&client)?;
            let leaf = LeafNodeIndex::new(leaf);
            if inner.group.leaf(leaf).is_none() {
                return Err(Error::Refused(format!(
                    "no member is at leaf {}",
                    leaf.u32()
                )));
            }
            let (id, epoch) = (
                inner.group.group_id().clone(),
                inner.group.group_context().epoch(),
            );
            let message =
                ExternalProposal::new_remove::<Provider>(leaf, id, epoch, &client.key, index);
            args::encoded(&message.map_err(refused)?)
        })
    }

    fn propose_add(
        &self,
        py: Python<'_>,
        sender: &Identity,
        key_package: &[u8],
    ) -> PyResult<Vec<u8>> {
        let client = sender.client.clone();
        self.read(py, move |inner| {
            let index = inner.sender_index(&client)?;
            let key_package = messages::verified_key_package(key_package, inner.provider.crypto())?;
            let (id, epoch) = (
                inner.group.group_id().clone(),
                inner.group.group_context().epoch(),
            );
            let message =
                ExternalProposal::new_add::<Provider>(key_package, id, epoch, &client.key, index);
            args::encoded(&message.map_err(refused)?)
        })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.read(py, |inner| {
            let id = String::from_utf8_lossy(&inner.group.group_id().to_vec()).into_owned();
            Ok(format!("<PublicGroup {id:?} at epoch {}>", inner.epoch()))
        })
    }
}

#[pyfunction]
pub fn propose_join(
    py: Python<'_>,
    identity: &Identity,
    key_packages: &KeyPackages,
    reference: &[u8],
    group_id: &[u8],
    epoch: u64,
) -> PyResult<Vec<u8>> {
    let client = identity.client.clone();
    detached(py, move || {
        let key_package = key_packages.public(reference)?;
        let id = GroupId::from_slice(group_id);
        let message = JoinProposal::new::<Records>(key_package, id, epoch.into(), &client.key);
        args::encoded(&message.map_err(refused)?)
    })
}
