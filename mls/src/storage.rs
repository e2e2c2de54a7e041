//! OpenMLS's storage provider over `Records`: under which name each part of a group's state is kept.

use openmls::prelude::KeyPackageRef;
use openmls_traits::storage::{CURRENT_VERSION, StorageProvider, traits};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::msgpack;
use crate::records::{KEY_PACKAGE, Records, StorageError, VERSION, decode, encode, hex};

fn name<K: Serialize>(kind: &str, key: &K) -> Result<String, StorageError> {
    let key = rmp_serde::to_vec(key)
        .map_err(|error| StorageError::Unwritable(kind.to_string(), error.to_string()))?;
    Ok(format!("{kind}/{}", hex(&key)))
}

/// By the KeyPackageRef itself, so that the names tell which packages there are.
fn key_package_name<R: Serialize>(reference: &R) -> Result<String, StorageError> {
    let unwritable = |why: String| StorageError::Unwritable(KEY_PACKAGE.to_string(), why);
    let bytes = rmp_serde::to_vec(reference).map_err(|error| unwritable(error.to_string()))?;
    let reference: KeyPackageRef =
        rmp_serde::from_slice(&bytes).map_err(|error| unwritable(error.to_string()))?;
    Ok(format!("{KEY_PACKAGE}/{}", hex(reference.as_slice())))
}

impl Records {
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
