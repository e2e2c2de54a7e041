//! One member's half of a group, with the secrets: MLS itself, as OpenMLS does it.

use std::sync::Arc;

use openmls::extensions::{AppDataDictionaryExtension, Extension, RequiredCapabilitiesExtension};
use openmls::framing::MlsMessageBodyIn;
use openmls::group::{
    CommitBuilder, CommitMessageBundle, GroupId, LoadedPsks, MIXED_PLAINTEXT_WIRE_FORMAT_POLICY,
    MlsGroup, MlsGroupJoinConfig, ProcessedWelcome, WireFormatPolicy,
};
use openmls::messages::proposals::{AppDataUpdateProposal, Proposal as MlsProposal};
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
use crate::identity::{Client, KeyPackages};
use crate::messages;
use crate::provider::Provider;
use crate::records::{Records, Values};
use crate::views::{
    Application, Commit, Envelope, OwnCommit, OwnMessage, Received, ReceivedCommit,
    ReceivedProposal, name_of,
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

/// What one member has of a group.
pub struct Membership {
    pub client: Arc<Client>,
    pub group: MlsGroup,
    pub provider: Provider,
    /// After a panic whose traces could not be taken back.
    pub closed: bool,
}

impl Membership {
    pub fn new(client: Arc<Client>, group: MlsGroup, provider: Provider) -> Self {
        Membership {
            client,
            group,
            provider,
            closed: false,
        }
    }

    pub fn create(
        client: Arc<Client>,
        group_id: &[u8],
        app_data: Components,
        external_senders: &[(PyBackedBytes, PyBackedBytes)],
        (required_extensions, required_proposals): (Vec<u16>, Vec<u16>),
        more: Components,
    ) -> Result<Self> {
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
        Ok(Membership::new(client, group, provider))
    }

    /// Join by a Welcome, which uses its key package up.
    pub fn join(
        client: Arc<Client>,
        key_packages: &KeyPackages,
        welcome: &[u8],
        ratchet_tree: Option<&[u8]>,
        psks: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Self> {
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
        Ok(Membership::new(client, group, provider))
    }

    /// Join by an external commit: as it is if that is accepted.
    pub fn join_external(
        client: Arc<Client>,
        group_info: &[u8],
        ratchet_tree: Option<&[u8]>,
        self_removes: &[PyBackedBytes],
        app_data_updates: Updates,
        resolver: &Resolver,
        aad: Vec<u8>,
    ) -> Result<(Self, Commit)> {
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
        let (group, bundle) = loaded(builder, resolver, app_data_updates, false)?
            .build(provider.rand(), provider.crypto(), &client.key, |_| true)
            .map_err(refused)?
            .finalize(&provider)
            .map_err(refused)?;
        provider.records.keep();
        let membership = Membership::new(client, group, provider);
        let mut commit = membership.staged(bundle)?;
        commit.epoch = epoch;
        Ok((membership, commit))
    }

    pub fn restore(client: Arc<Client>, values: Values) -> Result<Self> {
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
        Ok(Membership::new(client, group, provider))
    }

    pub fn commit(
        &mut self,
        wanted: Wanted<'_>,
        with: Authenticated,
        resolver: &Resolver,
    ) -> Result<Commit> {
        let Wanted {
            add,
            remove,
            app_data_updates,
            extensions,
            pending,
            update,
            with_tree,
        } = wanted;
        self.operational()?;
        let added = add
            .iter()
            .map(|message| messages::verified_key_package(message, self.provider.crypto()))
            .collect::<Result<Vec<_>>>()?;
        self.authenticate(with)?;
        let client = self.client.clone();
        let mut updates = Updates::new();
        if pending {
            for queued in self.group.pending_proposals() {
                if let MlsProposal::AppDataUpdate(proposal) = queued.proposal() {
                    updates.extend(args::updates(std::iter::once(proposal.as_ref())));
                }
            }
        }
        updates.extend(app_data_updates.iter().cloned());
        let mut builder = self
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
            .load_psks(self.provider.storage())
            .map_err(refused)?;
        let bundle = loaded(builder, resolver, updates, with_tree)?
            .build(
                self.provider.rand(),
                self.provider.crypto(),
                &client.key,
                |_| true,
            )
            .map_err(refused)?
            .stage_commit(&self.provider)
            .map_err(refused)?;
        self.staged(bundle)
    }

    pub fn usable(&self) -> Result<()> {
        if self.closed {
            return Err(Error::Fault(
                "the group was closed by an earlier fault: restore it from what was stored"
                    .to_string(),
            ));
        }
        Ok(())
    }

    pub fn active(&self) -> Result<()> {
        if self.group.is_active() {
            Ok(())
        } else {
            Err(Error::NotAMember)
        }
    }

    pub fn operational(&self) -> Result<()> {
        self.active()?;
        if self.group.pending_commit().is_some() {
            return Err(Error::CommitPending);
        }
        Ok(())
    }

    pub fn authenticate(&mut self, with: Authenticated) -> Result<()> {
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

    pub fn name_of(&self, sender: &MlsSender) -> Option<Vec<u8>> {
        match sender {
            MlsSender::Member(leaf) => name_of(self.group.member(*leaf)?),
            _ => None,
        }
    }

    pub fn mark(&self) -> (Vec<u8>, bool) {
        (self.group.group_id().to_vec(), false)
    }

    pub fn staged(&self, bundle: CommitMessageBundle) -> Result<Commit> {
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

    pub fn process(&mut self, message: &[u8], resolver: &Resolver) -> Result<Received> {
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

/// What a commit is to change. `pending`: what was proposed, too; `update`: and fresh keys of its maker.
pub struct Wanted<'a> {
    pub add: &'a [PyBackedBytes],
    pub remove: Vec<u32>,
    pub app_data_updates: Updates,
    pub extensions: Option<Components>,
    pub pending: bool,
    pub update: bool,
    pub with_tree: bool,
}

/// What a message carries beside its content, readable and authenticated.
pub struct Authenticated {
    aad: Vec<u8>,
    safe_aad: Components,
}

impl Authenticated {
    pub fn new(aad: Vec<u8>, safe_aad: Option<&Bound<'_, PyMapping>>) -> PyResult<Self> {
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
