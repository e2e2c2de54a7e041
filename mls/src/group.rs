//! A group as one of its members holds it, with the secrets.

use std::sync::Arc;

use openmls::extensions::{AppDataDictionaryExtension, Extension, RequiredCapabilitiesExtension};
use openmls::framing::MlsMessageBodyIn;
use openmls::group::{
    CommitBuilder, CommitMessageBundle, GroupId, LoadedPsks, MIXED_PLAINTEXT_WIRE_FORMAT_POLICY,
    MlsGroup, MlsGroupJoinConfig, ProcessedWelcome, Propose, SafeExportSecretError,
    WireFormatPolicy,
};
use openmls::messages::proposals::{
    AppDataUpdateProposal, Proposal as MlsProposal, ProposalOrRefType,
};
use openmls::prelude::{
    ExtensionType, JoinBuilder, LeafNodeIndex, OpenMlsProvider, ProcessedMessageContent,
    ProposalType, Sender as MlsSender,
};
use openmls::schedule::PreSharedKeyId;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyMapping;

use crate::args::{self, Components, Resolver, Updates};
use crate::errors::{Error, Result, fault, refused};
use crate::guard::{Exclusive, contained, detached};
use crate::identity::{Client, Identity, KeyPackages};
use crate::messages;
use crate::provider::Provider;
use crate::records::{Changes, Records};
use crate::views::{
    Application, Commit, Envelope, Member, OwnCommit, OwnMessage, Proposal, Received,
    ReceivedCommit, ReceivedProposal, name_of,
};

/// Epochs whose application messages can still be read after the group has gone on: a message may cross a commit.
const PAST_EPOCHS: u64 = 3;

/// Plaintexts are padded to multiples of this, so that a ciphertext does not tell a "yes" from a "no" (RFC 9420, section 15.1).
const PADDING: usize = 64;

/// The component whose presence in the app data turns Safe AAD on (draft-ietf-mls-extensions, section 4.9).
const SAFE_AAD: u16 = 2;

/// Handshakes go out readable, since a hub must read them; what comes in may be either.
const WIRE_FORMATS: WireFormatPolicy = MIXED_PLAINTEXT_WIRE_FORMAT_POLICY;

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(WIRE_FORMATS)
        .padding_size(PADDING)
        .max_past_epochs(PAST_EPOCHS as usize)
        .use_ratchet_tree_extension(false)
        .build()
}

struct Inner {
    client: Arc<Client>,
    group: MlsGroup,
    provider: Provider,
    /// After a panic whose traces could not be taken back.
    closed: bool,
}

impl Inner {
    fn new(client: Arc<Client>, group: MlsGroup, provider: Provider) -> Self {
        Inner {
            client,
            group,
            provider,
            closed: false,
        }
    }

    fn usable(&self) -> Result<()> {
        if self.closed {
            return Err(Error::Fault(
                "the group was closed by an earlier fault: restore it from what was stored"
                    .to_string(),
            ));
        }
        Ok(())
    }

    fn active(&self) -> Result<()> {
        if self.group.is_active() {
            Ok(())
        } else {
            Err(Error::NotAMember)
        }
    }

    fn operational(&self) -> Result<()> {
        self.active()?;
        if self.group.pending_commit().is_some() {
            return Err(Error::CommitPending);
        }
        Ok(())
    }

    fn authenticate(&mut self, with: Authenticated) -> Result<()> {
        let dictionary = self.group.extensions().app_data_dictionary();
        let on = dictionary.is_some_and(|found| found.dictionary().contains(&SAFE_AAD));
        if !with.safe_aad.is_empty() && !on {
            return Err(Error::Refused(
                "the group has no Safe AAD (component 2 in its app data)".to_string(),
            ));
        }
        self.group.set_aad(with.aad);
        self.group
            .set_safe_aad(args::safe_aad(with.safe_aad))
            .map_err(refused)
    }

    fn name_of(&self, sender: &MlsSender) -> Option<Vec<u8>> {
        match sender {
            MlsSender::Member(leaf) => name_of(self.group.member(*leaf)?),
            _ => None,
        }
    }

    fn mark(&self) -> (Vec<u8>, bool) {
        (self.group.group_id().to_vec(), false)
    }

    fn staged(&self, bundle: CommitMessageBundle) -> Result<Commit> {
        let (message, welcome, group_info) = bundle.into_messages();
        let tree = match self.group.pending_commit() {
            Some(staged) => staged
                .export_ratchet_tree(self.provider.crypto(), self.group.export_ratchet_tree())
                .map_err(fault)?
                .ok_or_else(|| fault("a commit of our own without a tree"))?,
            None => self.group.export_ratchet_tree(),
        };
        Ok(Commit {
            message: args::encoded(&message)?,
            welcome: welcome.map(|welcome| args::encoded(&welcome)).transpose()?,
            group_info: args::encoded(
                &group_info.ok_or_else(|| fault("a commit without a GroupInfo"))?,
            )?,
            ratchet_tree: args::encoded(&tree)?,
            epoch: self.group.epoch().as_u64(),
        })
    }

    fn process(&mut self, message: &[u8], resolver: &Resolver) -> Result<Received> {
        let message = messages::protocol_message(message)?;
        let (epoch, now) = (message.epoch().as_u64(), self.group.epoch().as_u64());
        if message.group_id() == self.group.group_id()
            && !(now.saturating_sub(PAST_EPOCHS)..=now).contains(&epoch)
        {
            return Err(Error::WrongEpoch(format!(
                "the message is of epoch {epoch}, the group is in {now}"
            )));
        }
        let mut processed = self.group.process_message(&self.provider, message)?;
        if let ProcessedMessageContent::UnresolvedAppDataCommit(commit) = processed.content() {
            let updates = args::updates(commit.app_data_update_proposals());
            let updates = resolver.resolve(self.group.app_data_dictionary_updater(), updates)?;
            processed = self
                .group
                .resolve_app_data_commit(&self.provider, processed, updates)?;
        }
        let envelope = Envelope::new(&processed)?;
        let names = |sender: &MlsSender| self.name_of(sender);
        Ok(match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(content) => {
                Received::Application(Application::new(envelope, content.into_bytes()))
            }
            ProcessedMessageContent::ProposalMessage(queued)
            | ProcessedMessageContent::ExternalJoinProposalMessage(queued) => {
                Received::Proposal(ReceivedProposal::new(envelope, self.mark(), queued)?)
            }
            ProcessedMessageContent::StagedCommitMessage(staged) => {
                let newcomer = self.group.ext_commit_sender_index(&staged)?.u32();
                let newcomer = Some(newcomer);
                Received::Commit(ReceivedCommit::new(
                    envelope,
                    self.mark(),
                    staged,
                    newcomer,
                    &names,
                )?)
            }
            ProcessedMessageContent::OwnPendingCommit => Received::OwnCommit(OwnCommit {
                epoch: envelope.epoch,
            }),
            ProcessedMessageContent::OwnPrivateMessage => Received::OwnMessage(OwnMessage {
                epoch: envelope.epoch,
            }),
            ProcessedMessageContent::UnresolvedAppDataCommit(_) => {
                return Err(fault("a commit stayed unresolved"));
            }
        })
    }
}

/// What a message carries beside its content, readable and authenticated.
struct Authenticated {
    aad: Vec<u8>,
    safe_aad: Components,
}

impl Authenticated {
    fn new(aad: Vec<u8>, safe_aad: Option<&Bound<'_, PyMapping>>) -> PyResult<Self> {
        Ok(Authenticated {
            aad,
            safe_aad: args::components(safe_aad)?,
        })
    }
}

fn app_data_proposals(updates: Updates) -> Vec<MlsProposal> {
    updates
        .into_iter()
        .map(|(component, update)| {
            MlsProposal::AppDataUpdate(Box::new(match update {
                Some(data) => AppDataUpdateProposal::update(component, data),
                None => AppDataUpdateProposal::remove(component),
            }))
        })
        .collect()
}

/// A staged or external commit, from here on alike: the app data as they become, and the GroupInfo.
fn loaded<'a, G: std::borrow::BorrowMut<MlsGroup>>(
    mut builder: CommitBuilder<'a, LoadedPsks, G>,
    resolver: &Resolver,
    updates: Updates,
    with_tree: bool,
) -> Result<CommitBuilder<'a, LoadedPsks, G>> {
    let updates = resolver.resolve(builder.app_data_dictionary_updater(), updates)?;
    builder.with_app_data_dictionary_updates(updates);
    Ok(builder
        .create_group_info(true)
        .use_ratchet_tree_extension(with_tree))
}

#[pyclass(frozen, module = "bridgekit_mls")]
pub struct Group {
    inner: Exclusive<Inner>,
}

impl Group {
    fn new(client: Arc<Client>, group: MlsGroup, provider: Provider) -> Self {
        Group {
            inner: Exclusive::new(Inner::new(client, group, provider)),
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

    /// All or nothing: what fails leaves the records, and the group that is made of them, as they were.
    fn operate<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Inner) -> Result<T> + Send,
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
        propose: impl FnOnce(&Inner) -> Result<Propose> + Send,
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
            let mut context = args::group_context_extensions(more)?;
            if !required_extensions.is_empty() || !required_proposals.is_empty() {
                let extensions: Vec<_> = required_extensions
                    .into_iter()
                    .map(ExtensionType::from)
                    .collect();
                let proposals: Vec<_> = required_proposals
                    .into_iter()
                    .map(ProposalType::from)
                    .collect();
                let required = RequiredCapabilitiesExtension::new(&extensions, &proposals, &[]);
                context
                    .add(Extension::RequiredCapabilities(required))
                    .map_err(refused)?;
            }
            if !external_senders.is_empty() {
                let senders = external_senders
                    .iter()
                    .map(|(key, credential)| args::external_sender(key, credential))
                    .collect::<Result<Vec<_>>>()?;
                context
                    .add(Extension::ExternalSenders(senders))
                    .map_err(refused)?;
            }
            if !app_data.is_empty() {
                let dictionary = AppDataDictionaryExtension::new(args::dictionary(app_data));
                context
                    .add(Extension::AppDataDictionary(dictionary))
                    .map_err(refused)?;
            }
            let provider = Provider::default();
            let group = MlsGroup::builder()
                .with_group_id(GroupId::from_slice(group_id))
                .ciphersuite(client.suite)
                .with_wire_format_policy(WIRE_FORMATS)
                .padding_size(PADDING)
                .max_past_epochs(PAST_EPOCHS as usize)
                .use_ratchet_tree_extension(false)
                .with_capabilities(client.leaf_capabilities.clone())
                .with_leaf_node_extensions(client.leaf_extensions.clone())
                .map_err(refused)?
                .with_group_context_extensions(context)
                .build(&provider, &client.key, client.with_key())
                .map_err(refused)?;
            provider.records.keep();
            Ok(Group::new(client, group, provider))
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
            let welcome = messages::welcome(welcome)?;
            let tree = messages::ratchet_tree(ratchet_tree)?;
            let ours = key_packages.records_of(&messages::key_package_refs(&welcome))?;
            let names: Vec<_> = ours.keys().cloned().collect();
            let provider = Provider::new(Records::new(ours));
            for (id, psk) in psks {
                // The nonce is each use's own; only the id and the secret are kept.
                PreSharedKeyId::external(id, Vec::new())
                    .store(&provider, &psk)
                    .map_err(refused)?;
            }
            let processed = ProcessedWelcome::new_from_welcome(&provider, &join_config(), welcome)?;
            let mut join = JoinBuilder::new(&provider, processed).skip_lifetime_validation();
            if let Some(tree) = tree {
                join = join.with_ratchet_tree(tree);
            }
            let staged = join.build()?;
            let key = staged
                .own_leaf_node()
                .map(|leaf| leaf.signature_key().as_slice().to_vec());
            if key.as_deref() != Some(client.key.public()) {
                return Err(Error::Refused(
                    "the key package belongs to another identity".to_string(),
                ));
            }
            let group = staged.into_group(&provider)?;
            let used: Vec<_> = names
                .iter()
                .filter(|name| provider.records.get(name).is_none())
                .cloned()
                .collect();
            for name in &names {
                provider.records.forget(name);
            }
            provider.records.keep();
            key_packages.used_up(&used)?;
            Ok(Group::new(client, group, provider))
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
            let group_info = messages::group_info(group_info)?;
            let proposals = self_removes
                .iter()
                .map(|message| match messages::decoded(message)? {
                    MlsMessageBodyIn::PublicMessage(message) => Ok(message),
                    _ => Err(Error::Malformed("not a public message".to_string())),
                })
                .collect::<Result<Vec<_>>>()?;
            let provider = Provider::default();
            let mut builder = MlsGroup::external_commit_builder()
                .with_config(join_config())
                .with_proposals(proposals)
                .with_aad(aad)
                .skip_lifetime_validation();
            if let Some(tree) = messages::ratchet_tree(ratchet_tree)? {
                builder = builder.with_ratchet_tree(tree);
            }
            let epoch = group_info.epoch().as_u64();
            let mut builder = builder
                .build_group(&provider, group_info, client.with_key())?
                .leaf_node_parameters(client.leaf_parameters());
            for (component, update) in &app_data_updates {
                builder = builder.add_app_data_update_proposal(match update {
                    Some(data) => AppDataUpdateProposal::update(*component, data.clone()),
                    None => AppDataUpdateProposal::remove(*component),
                });
            }
            let builder = builder.load_psks(provider.storage()).map_err(refused)?;
            let (group, bundle) = loaded(builder, &resolver, app_data_updates, false)?
                .build(provider.rand(), provider.crypto(), &client.key, |_| true)
                .map_err(refused)?
                .finalize(&provider)
                .map_err(refused)?;
            provider.records.keep();
            let inner = Inner::new(client, group, provider);
            let mut commit = inner.staged(bundle)?;
            commit.epoch = epoch;
            Ok((
                Group {
                    inner: Exclusive::new(inner),
                },
                commit,
            ))
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
            let provider = Provider::new(Records::new(values));
            // The records are one group's, whatever its id: the storage provider does not look at the one given here.
            let group = MlsGroup::load(&provider.records, &GroupId::from_slice(b""))?;
            let group = group
                .ok_or_else(|| Error::BadState("the group's records are incomplete".to_string()))?;
            let own = group
                .own_leaf_node()
                .map(|leaf| leaf.signature_key().as_slice());
            if group.is_active() && own != Some(client.key.public()) {
                return Err(Error::BadState(
                    "the group belongs to another identity".to_string(),
                ));
            }
            Ok(Group::new(client, group, provider))
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
            inner.operational()?;
            let added = add
                .iter()
                .map(|message| messages::verified_key_package(message, inner.provider.crypto()))
                .collect::<Result<Vec<_>>>()?;
            inner.authenticate(with)?;
            let client = inner.client.clone();
            let mut updates = Updates::new();
            if pending {
                for queued in inner.group.pending_proposals() {
                    if let MlsProposal::AppDataUpdate(proposal) = queued.proposal() {
                        updates.extend(args::updates(std::iter::once(proposal.as_ref())));
                    }
                }
            }
            updates.extend(app_data_updates.iter().cloned());
            let mut builder = inner
                .group
                .commit_builder()
                .consume_proposal_store(pending)
                .force_self_update(update);
            if update {
                builder = builder.leaf_node_parameters(client.leaf_parameters());
            }
            // Before the app data updates, as draft-ietf-mls-extensions, section 4.7, has it.
            if let Some(extensions) = extensions {
                let extensions = args::group_context_extensions(extensions)?;
                builder = builder
                    .propose_group_context_extensions(extensions)
                    .map_err(refused)?;
            }
            let builder = builder
                .propose_adds(added)
                .propose_removals(remove.into_iter().map(LeafNodeIndex::new))
                .add_proposals(app_data_proposals(app_data_updates))
                .load_psks(inner.provider.storage())
                .map_err(refused)?;
            let bundle = loaded(builder, &resolver, updates, with_tree)?
                .build(
                    inner.provider.rand(),
                    inner.provider.crypto(),
                    &client.key,
                    |_| true,
                )
                .map_err(refused)?
                .stage_commit(&inner.provider)
                .map_err(refused)?;
            inner.staged(bundle)
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
