//! The state as records: OpenMLS's storage provider over a map of short names to bytes, which knows what changed.
//!
//! An operation runs between `begin` and `keep` or `undo`, so one that fails leaves the records as they were. What
//! was kept waits in `take_changes` for the caller, who stores it. A name is `kind` or `kind/key`; a value is a version byte
//! and MessagePack with the names of the fields, so that a field may be added later.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openmls::prelude::KeyPackageRef;
use openmls_traits::storage::{CURRENT_VERSION, StorageProvider, traits};
use rmp_serde::config::BytesMode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroize;

use crate::msgpack;

const VERSION: u8 = 1;

#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
pub enum StorageError {
    #[error("the record {0:?} cannot be read: damaged, or of another version")]
    Unreadable(String),
    #[error("the record {0:?} cannot be written: {1}")]
    Unwritable(String, String),
}

pub type Values = BTreeMap<String, Vec<u8>>;
pub type Changes = BTreeMap<String, Option<Vec<u8>>>;

#[derive(Debug, Default)]
struct Inner {
    values: Values,
    changed: BTreeSet<String>,
    /// The names that the caller has stored: of others it need not hear that they are gone.
    known: BTreeSet<String>,
    /// What the running operation overwrote, oldest last.
    overwritten: BTreeMap<String, Option<Vec<u8>>>,
}

#[derive(Debug, Default)]
pub struct Records {
    inner: Mutex<Inner>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.values.values_mut().for_each(Zeroize::zeroize);
    }
}

pub fn encode<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<Vec<u8>, StorageError> {
    let mut bytes = vec![VERSION];
    let mut serializer = rmp_serde::Serializer::new(&mut bytes)
        .with_struct_map()
        .with_bytes(BytesMode::ForceAll);
    match value.serialize(&mut serializer) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(StorageError::Unwritable(
            name.to_string(),
            error.to_string(),
        )),
    }
}

pub fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, StorageError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            rmp_serde::from_slice(rest).map_err(|_| StorageError::Unreadable(name.to_string()))
        }
        _ => Err(StorageError::Unreadable(name.to_string())),
    }
}

pub fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len())
        .step_by(2)
        .map(|at| {
            text.get(at..at + 2)
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
        })
        .collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn name<K: Serialize>(kind: &str, key: &K) -> Result<String, StorageError> {
    let key = rmp_serde::to_vec(key)
        .map_err(|error| StorageError::Unwritable(kind.to_string(), error.to_string()))?;
    Ok(format!("{kind}/{}", hex(&key)))
}

pub const KEY_PACKAGE: &str = "key_package";

/// By the KeyPackageRef itself, so that the names tell which packages there are.
fn key_package_name<R: Serialize>(reference: &R) -> Result<String, StorageError> {
    let unwritable = |why: String| StorageError::Unwritable(KEY_PACKAGE.to_string(), why);
    let bytes = rmp_serde::to_vec(reference).map_err(|error| unwritable(error.to_string()))?;
    let reference: KeyPackageRef =
        rmp_serde::from_slice(&bytes).map_err(|error| unwritable(error.to_string()))?;
    Ok(format!("{KEY_PACKAGE}/{}", hex(reference.as_slice())))
}

impl Records {
    pub fn new(values: Values) -> Self {
        let records = Records::default();
        {
            let mut inner = records.inner();
            inner.known = values.keys().cloned().collect();
            inner.values = values;
        }
        records
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing here panics half-way through a change, so a poisoned lock is as good as any.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin(&self) {
        self.inner().overwritten.clear();
    }

    pub fn keep(&self) {
        let mut inner = self.inner();
        let overwritten = std::mem::take(&mut inner.overwritten);
        for (name, old) in overwritten {
            if inner.values.get(&name) != old.as_ref() {
                inner.changed.insert(name);
            }
        }
    }

    /// Whether there was anything to take back.
    pub fn undo(&self) -> bool {
        let mut inner = self.inner();
        let overwritten = std::mem::take(&mut inner.overwritten);
        let touched = !overwritten.is_empty();
        for (name, old) in overwritten {
            match old {
                Some(value) => inner.values.insert(name, value),
                None => inner.values.remove(&name),
            };
        }
        touched
    }

    pub fn take_changes(&self) -> Changes {
        let mut inner = self.inner();
        let mut changes = Changes::new();
        for name in std::mem::take(&mut inner.changed) {
            let value = inner.values.get(&name).cloned();
            let known = match value {
                Some(_) => !inner.known.insert(name.clone()),
                None => inner.known.remove(&name),
            };
            if known || value.is_some() {
                changes.insert(name, value);
            }
        }
        changes
    }

    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.inner().values.get(name).cloned()
    }

    pub fn names(&self, prefix: &str) -> Vec<String> {
        let inner = self.inner();
        inner
            .values
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect()
    }

    pub fn put(&self, name: &str, value: Option<Vec<u8>>) {
        let mut inner = self.inner();
        let old = match value {
            Some(value) => inner.values.insert(name.to_string(), value),
            None => inner.values.remove(name),
        };
        inner.overwritten.entry(name.to_string()).or_insert(old);
    }

    /// Drop a record that is not of these: it leaves no trace among the changes.
    pub fn forget(&self, name: &str) {
        let mut inner = self.inner();
        inner.values.remove(name);
        inner.overwritten.remove(name);
        inner.changed.remove(name);
        inner.known.remove(name);
    }

    fn write<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), StorageError> {
        self.put(name, Some(encode(name, value)?));
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StorageError> {
        self.get(name).map(|bytes| decode(name, &bytes)).transpose()
    }

    fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.put(name, None);
        Ok(())
    }

    /// A list of values of which each is encoded by itself.
    fn read_list(&self, name: &str) -> Result<Vec<Vec<u8>>, StorageError> {
        Ok(self.read(name)?.unwrap_or_default())
    }
}

const SECRETS: &str = "message_secrets";
const LEAVES: &str = "own_leaves";
const PROPOSALS: &str = "proposals";

/// Records belong to one group (or to one client's key packages), so the group id is in no name.
impl StorageProvider<CURRENT_VERSION> for Records {
    type Error = StorageError;

    fn write_mls_join_config<G: traits::GroupId<1>, T: traits::MlsGroupJoinConfig<1>>(
        &self,
        _: &G,
        config: &T,
    ) -> Result<(), StorageError> {
        self.write("config", config)
    }

    fn append_own_leaf_node<G: traits::GroupId<1>, T: traits::LeafNode<1>>(
        &self,
        _: &G,
        leaf_node: &T,
    ) -> Result<(), StorageError> {
        let mut leaves = self.read_list(LEAVES)?;
        leaves.push(encode(LEAVES, leaf_node)?);
        self.write(LEAVES, &leaves)
    }

    fn queue_proposal<
        G: traits::GroupId<1>,
        R: traits::ProposalRef<1>,
        T: traits::QueuedProposal<1>,
    >(
        &self,
        _: &G,
        proposal_ref: &R,
        proposal: &T,
    ) -> Result<(), StorageError> {
        self.write(&name("proposal", proposal_ref)?, proposal)?;
        let mut order = self.read_list(PROPOSALS)?;
        let reference = encode(PROPOSALS, proposal_ref)?;
        if !order.contains(&reference) {
            order.push(reference);
        }
        self.write(PROPOSALS, &order)
    }

    fn write_tree<G: traits::GroupId<1>, T: traits::TreeSync<1>>(
        &self,
        _: &G,
        tree: &T,
    ) -> Result<(), StorageError> {
        self.write("tree", tree)
    }

    fn write_interim_transcript_hash<G: traits::GroupId<1>, T: traits::InterimTranscriptHash<1>>(
        &self,
        _: &G,
        hash: &T,
    ) -> Result<(), StorageError> {
        self.write("interim_transcript_hash", hash)
    }

    fn write_context<G: traits::GroupId<1>, T: traits::GroupContext<1>>(
        &self,
        _: &G,
        context: &T,
    ) -> Result<(), StorageError> {
        self.write("context", context)
    }

    fn write_confirmation_tag<G: traits::GroupId<1>, T: traits::ConfirmationTag<1>>(
        &self,
        _: &G,
        tag: &T,
    ) -> Result<(), StorageError> {
        self.write("confirmation_tag", tag)
    }

    fn write_group_state<T: traits::GroupState<1>, G: traits::GroupId<1>>(
        &self,
        _: &G,
        state: &T,
    ) -> Result<(), StorageError> {
        self.write("state", state)
    }

    fn write_message_secrets<G: traits::GroupId<1>, T: traits::MessageSecrets<1>>(
        &self,
        _: &G,
        secrets: &T,
    ) -> Result<(), StorageError> {
        // Each encryption and decryption changes a little of it, while the secrets of past epochs, which grow with the
        // group, stay as they are: so each field is a record of its own.
        let whole = encode(SECRETS, secrets)?;
        let fields = msgpack::fields(&whole[1..]).ok_or_else(|| {
            StorageError::Unwritable(SECRETS.to_string(), "not a map".to_string())
        })?;
        for (field, value) in fields {
            let mut record = vec![VERSION];
            record.extend(value);
            self.put(&format!("{SECRETS}/{field}"), Some(record));
        }
        Ok(())
    }

    fn write_resumption_psk_store<G: traits::GroupId<1>, T: traits::ResumptionPskStore<1>>(
        &self,
        _: &G,
        store: &T,
    ) -> Result<(), StorageError> {
        self.write("resumption_psks", store)
    }

    fn write_own_leaf_index<G: traits::GroupId<1>, T: traits::LeafNodeIndex<1>>(
        &self,
        _: &G,
        leaf: &T,
    ) -> Result<(), StorageError> {
        self.write("leaf", leaf)
    }

    fn write_group_epoch_secrets<G: traits::GroupId<1>, T: traits::GroupEpochSecrets<1>>(
        &self,
        _: &G,
        secrets: &T,
    ) -> Result<(), StorageError> {
        self.write("epoch_secrets", secrets)
    }

    fn write_application_export_tree<G: traits::GroupId<1>, T: traits::ApplicationExportTree<1>>(
        &self,
        _: &G,
        tree: &T,
    ) -> Result<(), StorageError> {
        self.write("export_tree", tree)
    }

    fn write_signature_key_pair<
        K: traits::SignaturePublicKey<1>,
        T: traits::SignatureKeyPair<1>,
    >(
        &self,
        key: &K,
        pair: &T,
    ) -> Result<(), StorageError> {
        self.write(&name("signature_key", key)?, pair)
    }

    fn write_encryption_key_pair<K: traits::EncryptionKey<1>, T: traits::HpkeKeyPair<1>>(
        &self,
        key: &K,
        pair: &T,
    ) -> Result<(), StorageError> {
        self.write(&name("encryption_key", key)?, pair)
    }

    fn write_encryption_epoch_key_pairs<
        G: traits::GroupId<1>,
        E: traits::EpochKey<1>,
        T: traits::HpkeKeyPair<1>,
    >(
        &self,
        _: &G,
        epoch: &E,
        leaf: u32,
        pairs: &[T],
    ) -> Result<(), StorageError> {
        self.write(&name("epoch_keys", &(epoch, leaf))?, pairs)
    }

    fn write_key_package<R: traits::HashReference<1>, T: traits::KeyPackage<1>>(
        &self,
        reference: &R,
        key_package: &T,
    ) -> Result<(), StorageError> {
        self.write(&key_package_name(reference)?, key_package)
    }

    fn write_psk<K: traits::PskId<1>, T: traits::PskBundle<1>>(
        &self,
        id: &K,
        psk: &T,
    ) -> Result<(), StorageError> {
        self.write(&name("psk", id)?, psk)
    }

    fn mls_group_join_config<G: traits::GroupId<1>, T: traits::MlsGroupJoinConfig<1>>(
        &self,
        _: &G,
    ) -> Result<Option<T>, StorageError> {
        self.read("config")
    }

    fn own_leaf_nodes<G: traits::GroupId<1>, T: traits::LeafNode<1>>(
        &self,
        _: &G,
    ) -> Result<Vec<T>, StorageError> {
        self.read_list(LEAVES)?
            .iter()
            .map(|leaf| decode(LEAVES, leaf))
            .collect()
    }

    fn queued_proposal_refs<G: traits::GroupId<1>, R: traits::ProposalRef<1>>(
        &self,
        _: &G,
    ) -> Result<Vec<R>, StorageError> {
        self.read_list(PROPOSALS)?
            .iter()
            .map(|reference| decode(PROPOSALS, reference))
            .collect()
    }

    fn queued_proposals<
        G: traits::GroupId<1>,
        R: traits::ProposalRef<1>,
        T: traits::QueuedProposal<1>,
    >(
        &self,
        group: &G,
    ) -> Result<Vec<(R, T)>, StorageError> {
        let references: Vec<R> = self.queued_proposal_refs(group)?;
        references
            .into_iter()
            .map(|reference| {
                let name = name("proposal", &reference)?;
                match self.read(&name)? {
                    Some(proposal) => Ok((reference, proposal)),
                    None => Err(StorageError::Unreadable(name)),
                }
            })
            .collect()
    }

    fn tree<G: traits::GroupId<1>, T: traits::TreeSync<1>>(
        &self,
        _: &G,
    ) -> Result<Option<T>, StorageError> {
        self.read("tree")
    }

    fn group_context<G: traits::GroupId<1>, T: traits::GroupContext<1>>(
        &self,
        _: &G,
    ) -> Result<Option<T>, StorageError> {
        self.read("context")
    }

    fn interim_transcript_hash<G: traits::GroupId<1>, T: traits::InterimTranscriptHash<1>>(
        &self,
        _: &G,
    ) -> Result<Option<T>, StorageError> {
        self.read("interim_transcript_hash")
    }

    fn confirmation_tag<G: traits::GroupId<1>, T: traits::ConfirmationTag<1>>(
        &self,
        _: &G,
    ) -> Result<Option<T>, StorageError> {
        self.read("confirmation_tag")
    }

    fn group_state<T: traits::GroupState<1>, G: traits::GroupId<1>>(
        &self,
        _: &G,
    ) -> Result<Option<T>, StorageError> {
        self.read("state")
    }

    fn message_secrets<G: traits::GroupId<1>, T: traits::MessageSecrets<1>>(
        &self,
        _: &G,
    ) -> Result<Option<T>, StorageError> {
        let unreadable = || StorageError::Unreadable(SECRETS.to_string());
        let names = self.names(&format!("{SECRETS}/"));
        if names.is_empty() {
            return Ok(None);
        }
        let mut fields = Vec::new();
        for name in &names {
            let record = self.get(name).ok_or_else(unreadable)?;
            match record.split_first() {
                Some((&VERSION, value)) => {
                    fields.push((&name[SECRETS.len() + 1..], value.to_vec()))
                }
                _ => return Err(unreadable()),
            }
        }
        let fields = fields.iter().map(|(name, value)| (*name, value.as_slice()));
        let mut whole = vec![VERSION];
        whole.extend(msgpack::map(fields).ok_or_else(unreadable)?);
        decode(SECRETS, &whole).map(Some)
    }

    fn resumption_psk_store<G: traits::GroupId<1>, T: traits::ResumptionPskStore<1>>(
        &self,
        _: &G,
    ) -> Result<Option<T>, StorageError> {
        self.read("resumption_psks")
    }

    fn own_leaf_index<G: traits::GroupId<1>, T: traits::LeafNodeIndex<1>>(
        &self,
        _: &G,
    ) -> Result<Option<T>, StorageError> {
        self.read("leaf")
    }

    fn group_epoch_secrets<G: traits::GroupId<1>, T: traits::GroupEpochSecrets<1>>(
        &self,
        _: &G,
    ) -> Result<Option<T>, StorageError> {
        self.read("epoch_secrets")
    }

    fn signature_key_pair<K: traits::SignaturePublicKey<1>, T: traits::SignatureKeyPair<1>>(
        &self,
        key: &K,
    ) -> Result<Option<T>, StorageError> {
        self.read(&name("signature_key", key)?)
    }

    fn encryption_key_pair<T: traits::HpkeKeyPair<1>, K: traits::EncryptionKey<1>>(
        &self,
        key: &K,
    ) -> Result<Option<T>, StorageError> {
        self.read(&name("encryption_key", key)?)
    }

    fn encryption_epoch_key_pairs<
        G: traits::GroupId<1>,
        E: traits::EpochKey<1>,
        T: traits::HpkeKeyPair<1>,
    >(
        &self,
        _: &G,
        epoch: &E,
        leaf: u32,
    ) -> Result<Vec<T>, StorageError> {
        Ok(self
            .read(&name("epoch_keys", &(epoch, leaf))?)?
            .unwrap_or_default())
    }

    fn key_package<R: traits::HashReference<1>, T: traits::KeyPackage<1>>(
        &self,
        reference: &R,
    ) -> Result<Option<T>, StorageError> {
        self.read(&key_package_name(reference)?)
    }

    fn psk<T: traits::PskBundle<1>, K: traits::PskId<1>>(
        &self,
        id: &K,
    ) -> Result<Option<T>, StorageError> {
        self.read(&name("psk", id)?)
    }

    fn application_export_tree<G: traits::GroupId<1>, T: traits::ApplicationExportTree<1>>(
        &self,
        _: &G,
    ) -> Result<Option<T>, StorageError> {
        self.read("export_tree")
    }

    fn remove_proposal<G: traits::GroupId<1>, R: traits::ProposalRef<1>>(
        &self,
        _: &G,
        proposal_ref: &R,
    ) -> Result<(), StorageError> {
        self.delete(&name("proposal", proposal_ref)?)?;
        let mut order = self.read_list(PROPOSALS)?;
        let reference = encode(PROPOSALS, proposal_ref)?;
        order.retain(|other| *other != reference);
        self.write(PROPOSALS, &order)
    }

    fn delete_own_leaf_nodes<G: traits::GroupId<1>>(&self, _: &G) -> Result<(), StorageError> {
        self.delete(LEAVES)
    }

    fn delete_group_config<G: traits::GroupId<1>>(&self, _: &G) -> Result<(), StorageError> {
        self.delete("config")
    }

    fn delete_tree<G: traits::GroupId<1>>(&self, _: &G) -> Result<(), StorageError> {
        self.delete("tree")
    }

    fn delete_confirmation_tag<G: traits::GroupId<1>>(&self, _: &G) -> Result<(), StorageError> {
        self.delete("confirmation_tag")
    }

    fn delete_group_state<G: traits::GroupId<1>>(&self, _: &G) -> Result<(), StorageError> {
        self.delete("state")
    }

    fn delete_context<G: traits::GroupId<1>>(&self, _: &G) -> Result<(), StorageError> {
        self.delete("context")
    }

    fn delete_interim_transcript_hash<G: traits::GroupId<1>>(
        &self,
        _: &G,
    ) -> Result<(), StorageError> {
        self.delete("interim_transcript_hash")
    }

    fn delete_message_secrets<G: traits::GroupId<1>>(&self, _: &G) -> Result<(), StorageError> {
        for name in self.names(&format!("{SECRETS}/")) {
            self.delete(&name)?;
        }
        Ok(())
    }

    fn delete_all_resumption_psk_secrets<G: traits::GroupId<1>>(
        &self,
        _: &G,
    ) -> Result<(), StorageError> {
        self.delete("resumption_psks")
    }

    fn delete_own_leaf_index<G: traits::GroupId<1>>(&self, _: &G) -> Result<(), StorageError> {
        self.delete("leaf")
    }

    fn delete_group_epoch_secrets<G: traits::GroupId<1>>(&self, _: &G) -> Result<(), StorageError> {
        self.delete("epoch_secrets")
    }

    fn clear_proposal_queue<G: traits::GroupId<1>, R: traits::ProposalRef<1>>(
        &self,
        _: &G,
    ) -> Result<(), StorageError> {
        for name in self.names("proposal/") {
            self.delete(&name)?;
        }
        self.delete(PROPOSALS)
    }

    fn delete_signature_key_pair<K: traits::SignaturePublicKey<1>>(
        &self,
        key: &K,
    ) -> Result<(), StorageError> {
        self.delete(&name("signature_key", key)?)
    }

    fn delete_encryption_key_pair<K: traits::EncryptionKey<1>>(
        &self,
        key: &K,
    ) -> Result<(), StorageError> {
        self.delete(&name("encryption_key", key)?)
    }

    fn delete_encryption_epoch_key_pairs<G: traits::GroupId<1>, E: traits::EpochKey<1>>(
        &self,
        _: &G,
        epoch: &E,
        leaf: u32,
    ) -> Result<(), StorageError> {
        self.delete(&name("epoch_keys", &(epoch, leaf))?)
    }

    fn delete_key_package<R: traits::HashReference<1>>(
        &self,
        reference: &R,
    ) -> Result<(), StorageError> {
        self.delete(&key_package_name(reference)?)
    }

    fn delete_psk<K: traits::PskId<1>>(&self, id: &K) -> Result<(), StorageError> {
        self.delete(&name("psk", id)?)
    }

    fn delete_application_export_tree<
        G: traits::GroupId<1>,
        T: traits::ApplicationExportTree<1>,
    >(
        &self,
        _: &G,
    ) -> Result<(), StorageError> {
        self.delete("export_tree")
    }
}
