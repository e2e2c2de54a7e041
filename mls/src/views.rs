//! What Python sees of a group: members, senders, proposals, what was received and what is to be sent.

use std::sync::Mutex;

use openmls::group::{Member as MlsMember, QueuedProposal, StagedCommit};
use openmls::messages::proposals::{Proposal as MlsProposal, ProposalOrRefType};
use openmls::prelude::{BasicCredential, Credential, MlsMessageOut, ProposalType};
use openmls::prelude::{ProcessedMessage, SafeAad, Sender as MlsSender};
use pyo3::prelude::*;

use crate::args::{self, Components, Reader};
use crate::errors::{Error, Result};

pub fn name_of(credential: &Credential) -> Option<Vec<u8>> {
    let basic = BasicCredential::try_from(credential.clone()).ok()?;
    Some(basic.identity().to_vec())
}

#[pyclass(frozen, get_all, module = "bridgekit_mls")]
pub struct Member {
    leaf: u32,
    name: Vec<u8>,
    credential: Vec<u8>,
    signature_key: Vec<u8>,
    encryption_key: Vec<u8>,
}

impl Member {
    pub fn new(member: MlsMember) -> Result<Self> {
        Ok(Member {
            leaf: member.index.u32(),
            name: name_of(&member.credential).unwrap_or_default(),
            credential: args::encoded(&member.credential)?,
            signature_key: member.signature_key,
            encryption_key: member.encryption_key,
        })
    }
}

#[pymethods]
impl Member {
    fn __repr__(&self) -> String {
        format!(
            "<Member {} {:?}>",
            self.leaf,
            String::from_utf8_lossy(&self.name)
        )
    }
}

#[pyclass(frozen, get_all, eq, from_py_object, module = "bridgekit_mls")]
#[derive(Clone, PartialEq)]
pub struct Sender {
    kind: &'static str,
    index: Option<u32>,
    name: Option<Vec<u8>>,
}

impl Sender {
    pub fn unverified(kind: u8, index: Option<u32>) -> Result<Self> {
        let kind = match kind {
            1 => "member",
            2 => "external",
            3 => "new_member_proposal",
            4 => "new_member_commit",
            _ => {
                return Err(Error::Malformed(format!(
                    "sender type {kind} does not exist"
                )));
            }
        };
        Ok(Sender {
            kind,
            index,
            name: None,
        })
    }

    pub fn new(sender: &MlsSender, name: Option<Vec<u8>>) -> Result<Self> {
        let (kind, index) = match sender {
            MlsSender::Member(leaf) => ("member", Some(leaf.u32())),
            MlsSender::External(index) => ("external", Some(Reader(&args::encoded(index)?).u32()?)),
            MlsSender::NewMemberProposal => ("new_member_proposal", None),
            MlsSender::NewMemberCommit => ("new_member_commit", None),
        };
        Ok(Sender { kind, index, name })
    }
}

#[pyclass(frozen, get_all, from_py_object, module = "bridgekit_mls")]
#[derive(Clone)]
pub struct Proposal {
    kind: &'static str,
    r#type: u16,
    reference: Vec<u8>,
    by_reference: bool,
    sender: Sender,
    leaf: Option<u32>,
    key_package: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    component: Option<u16>,
    data: Option<Vec<u8>>,
    extensions: Option<Components>,
}

/// Who a sender is by name, as the group knows it.
pub type Names<'a> = &'a dyn Fn(&MlsSender) -> Option<Vec<u8>>;

impl Proposal {
    pub fn new(queued: &QueuedProposal, names: Names<'_>) -> Result<Self> {
        let sender = queued.sender();
        let proposal = queued.proposal();
        let mut view = Proposal {
            kind: kind_of(proposal.proposal_type()),
            r#type: proposal.proposal_type().into(),
            reference: queued.proposal_reference_ref().as_slice().to_vec(),
            by_reference: queued.proposal_or_ref_type() == ProposalOrRefType::Reference,
            sender: Sender::new(sender, names(sender))?,
            leaf: None,
            key_package: None,
            name: None,
            component: None,
            data: None,
            extensions: None,
        };
        match proposal {
            MlsProposal::Add(add) => {
                let key_package = add.key_package();
                view.name = name_of(key_package.leaf_node().credential());
                view.key_package = Some(args::encoded(&MlsMessageOut::from(key_package.clone()))?);
            }
            MlsProposal::Update(update) => {
                view.leaf = view.sender.index;
                view.name = name_of(update.leaf_node().credential());
            }
            MlsProposal::Remove(remove) => view.leaf = Some(remove.removed().u32()),
            MlsProposal::SelfRemove => view.leaf = view.sender.index,
            MlsProposal::GroupContextExtensions(proposal) => {
                view.extensions = Some(args::extension_items(proposal.extensions().iter())?);
            }
            MlsProposal::AppDataUpdate(update) => {
                let (component, data) = args::updates(std::iter::once(update.as_ref())).remove(0);
                (view.component, view.data) = (Some(component), data);
            }
            MlsProposal::AppEphemeral(ephemeral) => {
                view.component = Some(ephemeral.component_id());
                view.data = Some(ephemeral.data().to_vec());
            }
            MlsProposal::Custom(custom) => view.data = Some(custom.payload().to_vec()),
            MlsProposal::PreSharedKey(_)
            | MlsProposal::ReInit(_)
            | MlsProposal::ExternalInit(_) => {}
        }
        Ok(view)
    }

    pub fn all<'a>(
        queued: impl Iterator<Item = &'a QueuedProposal>,
        names: Names<'_>,
    ) -> Result<Vec<Self>> {
        queued
            .map(|proposal| Proposal::new(proposal, names))
            .collect()
    }
}

fn kind_of(proposal: ProposalType) -> &'static str {
    match proposal {
        ProposalType::Add => "add",
        ProposalType::Update => "update",
        ProposalType::Remove => "remove",
        ProposalType::PreSharedKey => "psk",
        ProposalType::Reinit => "reinit",
        ProposalType::ExternalInit => "external_init",
        ProposalType::GroupContextExtensions => "group_context_extensions",
        ProposalType::AppDataUpdate => "app_data_update",
        ProposalType::AppEphemeral => "app_ephemeral",
        ProposalType::SelfRemove => "self_remove",
        ProposalType::Grease(_) | ProposalType::Custom(_) => "custom",
    }
}

/// What every received message has.
pub struct Envelope {
    pub epoch: u64,
    pub sender: Sender,
    pub aad: Vec<u8>,
    pub safe_aad: Components,
}

impl Envelope {
    pub fn new(message: &ProcessedMessage) -> Result<Self> {
        Ok(Envelope {
            epoch: message.epoch().as_u64(),
            sender: Sender::new(message.sender(), name_of(message.credential()))?,
            aad: message.tail_aad().to_vec(),
            safe_aad: message
                .safe_aad()
                .map(SafeAad::items)
                .unwrap_or_default()
                .iter()
                .map(|item| (item.component_id(), item.data().to_vec()))
                .collect(),
        })
    }
}

#[pyclass(frozen, get_all, module = "bridgekit_mls")]
pub struct Application {
    epoch: u64,
    sender: Sender,
    data: Vec<u8>,
    aad: Vec<u8>,
    safe_aad: Components,
}

impl Application {
    pub fn new(envelope: Envelope, data: Vec<u8>) -> Self {
        let Envelope {
            epoch,
            sender,
            aad,
            safe_aad,
        } = envelope;
        Application {
            epoch,
            sender,
            data,
            aad,
            safe_aad,
        }
    }
}

/// Where a received handshake belongs, and the one time that it can be accepted.
pub struct Ticket<T> {
    /// The group id, and whether it was received by a hub's view.
    pub group: (Vec<u8>, bool),
    pub epoch: u64,
    content: Mutex<Option<T>>,
}

impl<T> Ticket<T> {
    pub fn new(group: (Vec<u8>, bool), epoch: u64, content: T) -> Self {
        Ticket {
            group,
            epoch,
            content: Mutex::new(Some(content)),
        }
    }

    pub fn redeem(&self, group: &(Vec<u8>, bool), epoch: u64) -> Result<T> {
        if *group != self.group {
            return Err(Error::Refused(
                "it was received by another group".to_string(),
            ));
        }
        if epoch != self.epoch {
            return Err(Error::Refused(
                "the group has left the epoch that it was received in".to_string(),
            ));
        }
        let mut content = self
            .content
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        content
            .take()
            .ok_or_else(|| Error::Refused("it was accepted before".to_string()))
    }
}

#[pyclass(frozen, module = "bridgekit_mls")]
pub struct ReceivedProposal {
    envelope: Envelope,
    proposal: Proposal,
    pub ticket: Ticket<Box<QueuedProposal>>,
}

impl ReceivedProposal {
    pub fn new(
        envelope: Envelope,
        group: (Vec<u8>, bool),
        queued: Box<QueuedProposal>,
    ) -> Result<Self> {
        let name = envelope.sender.name.clone();
        let proposal = Proposal::new(&queued, &|_| name.clone())?;
        let ticket = Ticket::new(group, envelope.epoch, queued);
        Ok(ReceivedProposal {
            envelope,
            proposal,
            ticket,
        })
    }
}

#[pymethods]
impl ReceivedProposal {
    #[getter]
    fn epoch(&self) -> u64 {
        self.envelope.epoch
    }

    #[getter]
    fn sender(&self) -> Sender {
        self.envelope.sender.clone()
    }

    #[getter]
    fn proposal(&self) -> Proposal {
        self.proposal.clone()
    }

    #[getter]
    fn aad(&self) -> Vec<u8> {
        self.envelope.aad.clone()
    }

    #[getter]
    fn safe_aad(&self) -> Components {
        self.envelope.safe_aad.clone()
    }
}

#[pyclass(frozen, module = "bridgekit_mls")]
pub struct ReceivedCommit {
    envelope: Envelope,
    proposals: Vec<Proposal>,
    app_data: Components,
    removes_me: bool,
    pub ticket: Ticket<Box<StagedCommit>>,
}

impl ReceivedCommit {
    /// `newcomer`: the leaf that the sender of an external commit gets.
    pub fn new(
        mut envelope: Envelope,
        group: (Vec<u8>, bool),
        staged: Box<StagedCommit>,
        newcomer: Option<u32>,
        names: Names<'_>,
    ) -> Result<Self> {
        if envelope.sender.kind == "new_member_commit" {
            envelope.sender.index = newcomer;
        }
        let dictionary = staged.group_context().extensions().app_data_dictionary();
        Ok(ReceivedCommit {
            proposals: Proposal::all(staged.queued_proposals(), names)?,
            app_data: args::dictionary_items(dictionary.map(|found| found.dictionary())),
            removes_me: !group.1 && staged.self_removed(),
            ticket: Ticket::new(group, envelope.epoch, staged),
            envelope,
        })
    }
}

#[pymethods]
impl ReceivedCommit {
    #[getter]
    fn epoch(&self) -> u64 {
        self.envelope.epoch
    }

    #[getter]
    fn sender(&self) -> Sender {
        self.envelope.sender.clone()
    }

    #[getter]
    fn proposals(&self) -> Vec<Proposal> {
        self.proposals.clone()
    }

    #[getter]
    fn app_data(&self) -> Components {
        self.app_data.clone()
    }

    #[getter]
    fn removes_me(&self) -> bool {
        self.removes_me
    }

    #[getter]
    fn aad(&self) -> Vec<u8> {
        self.envelope.aad.clone()
    }

    #[getter]
    fn safe_aad(&self) -> Components {
        self.envelope.safe_aad.clone()
    }
}

#[pyclass(frozen, get_all, module = "bridgekit_mls")]
pub struct OwnCommit {
    pub epoch: u64,
}

#[pyclass(frozen, get_all, module = "bridgekit_mls")]
pub struct OwnMessage {
    pub epoch: u64,
}

#[pyclass(frozen, get_all, module = "bridgekit_mls")]
pub struct Commit {
    pub message: Vec<u8>,
    pub welcome: Option<Vec<u8>>,
    pub group_info: Vec<u8>,
    pub ratchet_tree: Vec<u8>,
    pub epoch: u64,
}

/// What `process` gives back: one of the classes above.
#[derive(IntoPyObject)]
pub enum Received {
    Application(Application),
    Proposal(ReceivedProposal),
    Commit(ReceivedCommit),
    OwnCommit(OwnCommit),
    OwnMessage(OwnMessage),
}
