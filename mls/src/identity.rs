//! A client's own: its signature key and what it understands, and the private halves of its key packages.

use std::sync::Arc;

use openmls::ciphersuite::HpkePrivateKey;
use openmls::extensions::AppDataDictionaryExtension;
use openmls::prelude::{
    BasicCredential, Capabilities as MlsCapabilities, Ciphersuite, Credential, CredentialType,
    CredentialWithKey, Extension, ExtensionType, Extensions, KeyPackage as MlsKeyPackage,
    KeyPackageBundle, KeyPackageRef, LeafNode, Lifetime, OpenMlsCrypto, OpenMlsProvider,
    ProposalType, SignaturePublicKey,
};
use openmls::prelude::{LeafNodeParameters, MlsMessageOut};
use openmls_basic_credential::SignatureKeyPair;
use pyo3::prelude::*;
use pyo3::types::PyMapping;
use serde::{Deserialize, Serialize};

use crate::args::{self, Components};
use crate::errors::{Error, Result, fault, refused};
use crate::guard::{Exclusive, contained, detached};
use crate::provider::Provider;
use crate::records::{Changes, KEY_PACKAGE, Records, Values, decode, encode, hex, unhex};
use crate::{labels, messages};

/// The component of a last-resort key package (draft-ietf-mls-extensions, section 7.1).
const LAST_RESORT: u16 = 4;

#[pyclass(frozen, module = "bridgekit_mls")]
#[derive(Default)]
pub struct Capabilities {
    extensions: Vec<u16>,
    proposals: Vec<u16>,
    app_data: Components,
}

#[pymethods]
impl Capabilities {
    #[new]
    #[pyo3(signature = (*, extensions = vec![], proposals = vec![], app_data = None))]
    fn new(
        extensions: Vec<u16>,
        proposals: Vec<u16>,
        app_data: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Self> {
        Ok(Capabilities {
            extensions,
            proposals,
            app_data: args::components(app_data)?,
        })
    }
}

/// The secret and what goes with it, shared by all groups of the client.
pub struct Client {
    pub suite: Ciphersuite,
    pub key: SignatureKeyPair,
    name: Vec<u8>,
    pub leaf_capabilities: MlsCapabilities,
    pub leaf_extensions: Extensions<LeafNode>,
}

#[derive(Serialize, Deserialize)]
struct Exported {
    cipher_suite: u16,
    name: Vec<u8>,
    key: SignatureKeyPair,
}

impl Client {
    fn new(
        suite: Ciphersuite,
        name: Vec<u8>,
        key: SignatureKeyPair,
        more: Option<&Capabilities>,
    ) -> Result<Self> {
        let crypto = Provider::default();
        let mut extensions = vec![ExtensionType::AppDataDictionary, ExtensionType::LastResort];
        let mut proposals = vec![ProposalType::AppDataUpdate, ProposalType::SelfRemove];
        let mut leaf_extensions = Extensions::empty();
        if let Some(more) = more {
            for kind in more
                .extensions
                .iter()
                .map(|kind| ExtensionType::from(*kind))
            {
                if !extensions.contains(&kind) {
                    extensions.push(kind);
                }
            }
            for kind in more.proposals.iter().map(|kind| ProposalType::from(*kind)) {
                if !proposals.contains(&kind) {
                    proposals.push(kind);
                }
            }
            if !more.app_data.is_empty() {
                leaf_extensions = Extensions::single(Extension::AppDataDictionary(
                    AppDataDictionaryExtension::new(args::dictionary(more.app_data.clone())),
                ))
                .map_err(fault)?;
            }
        }
        let leaf_capabilities = MlsCapabilities::new(
            None,
            Some(&crypto.crypto().supported_ciphersuites()),
            Some(&extensions),
            Some(&proposals),
            Some(&[CredentialType::Basic]),
        );
        Ok(Client {
            suite,
            key,
            name,
            leaf_capabilities,
            leaf_extensions,
        })
    }

    pub fn credential(&self) -> Credential {
        BasicCredential::new(self.name.clone()).into()
    }

    pub fn with_key(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: self.credential(),
            signature_key: SignaturePublicKey::from(self.key.public()),
        }
    }

    /// For every new leaf of ours: what this version of the program understands.
    pub fn leaf_parameters(&self) -> LeafNodeParameters {
        LeafNodeParameters::builder()
            .with_capabilities(self.leaf_capabilities.clone())
            .with_extensions(self.leaf_extensions.clone())
            .build()
    }
}

#[pyclass(frozen, module = "bridgekit_mls")]
pub struct Identity {
    pub client: Arc<Client>,
}

#[pymethods]
impl Identity {
    #[staticmethod]
    #[pyo3(signature = (name, *, cipher_suite = 1, capabilities = None))]
    fn generate(
        py: Python<'_>,
        name: Vec<u8>,
        cipher_suite: u16,
        capabilities: Option<&Capabilities>,
    ) -> PyResult<Self> {
        detached(py, || {
            let suite = args::ciphersuite(cipher_suite)?;
            Provider::default().crypto().supports(suite).map_err(|_| {
                Error::Unsupported(format!("cipher suite {cipher_suite:#06x} is not supported"))
            })?;
            let key = SignatureKeyPair::new(suite.signature_algorithm()).map_err(fault)?;
            let client = Arc::new(Client::new(suite, name, key, capabilities)?);
            Ok(Identity { client })
        })
    }

    #[staticmethod]
    #[pyo3(signature = (exported, *, capabilities = None))]
    fn restore(
        py: Python<'_>,
        exported: &[u8],
        capabilities: Option<&Capabilities>,
    ) -> PyResult<Self> {
        detached(py, || {
            let Exported {
                cipher_suite,
                name,
                key,
            } = decode("identity", exported)?;
            let suite = args::ciphersuite(cipher_suite)?;
            let client = Arc::new(Client::new(suite, name, key, capabilities)?);
            Ok(Identity { client })
        })
    }

    #[staticmethod]
    #[pyo3(signature = (name, private_key, public_key, *, cipher_suite = 1, capabilities = None))]
    fn adopt(
        py: Python<'_>,
        name: Vec<u8>,
        private_key: Vec<u8>,
        public_key: Vec<u8>,
        cipher_suite: u16,
        capabilities: Option<&Capabilities>,
    ) -> PyResult<Self> {
        detached(py, || {
            let suite = args::ciphersuite(cipher_suite)?;
            let key =
                SignatureKeyPair::from_raw(suite.signature_algorithm(), private_key, public_key);
            let content = b"are these two halves of one key?";
            let signature = labels::sign(&key, "KeyCheck", content).map_err(|_| {
                Error::Refused("not a private signature key of this cipher suite".to_string())
            })?;
            if !labels::verify(suite, key.public(), "KeyCheck", content, &signature)? {
                return Err(Error::Refused(
                    "the two halves are of different signature keys".to_string(),
                ));
            }
            let client = Arc::new(Client::new(suite, name, key, capabilities)?);
            Ok(Identity { client })
        })
    }

    fn export(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        #[derive(Serialize)]
        struct Exporting<'a> {
            cipher_suite: u16,
            name: &'a [u8],
            key: &'a SignatureKeyPair,
        }
        detached(py, || {
            let exporting = Exporting {
                cipher_suite: self.client.suite.into(),
                name: &self.client.name,
                key: &self.client.key,
            };
            Ok(encode("identity", &exporting)?)
        })
    }

    #[getter]
    fn name(&self) -> Vec<u8> {
        self.client.name.clone()
    }

    #[getter]
    fn cipher_suite(&self) -> u16 {
        self.client.suite.into()
    }

    #[getter]
    fn signature_key(&self) -> Vec<u8> {
        self.client.key.to_public_vec()
    }

    #[getter]
    fn credential(&self) -> PyResult<Vec<u8>> {
        Ok(args::encoded(&self.client.credential())?)
    }

    fn sign(&self, py: Python<'_>, label: &str, content: &[u8]) -> PyResult<Vec<u8>> {
        detached(py, || labels::sign(&self.client.key, label, content))
    }

    fn __repr__(&self) -> String {
        format!(
            "<Identity {:?}>",
            String::from_utf8_lossy(&self.client.name)
        )
    }
}

#[pyclass(frozen, get_all, module = "bridgekit_mls")]
pub struct KeyPackage {
    message: Vec<u8>,
    reference: Vec<u8>,
    not_after: u64,
    last_resort: bool,
}

impl KeyPackage {
    fn new(provider: &Provider, key_package: MlsKeyPackage) -> Result<Self> {
        Ok(KeyPackage {
            reference: key_package.hash_ref(provider.crypto())?.as_slice().to_vec(),
            not_after: key_package.life_time().not_after(),
            last_resort: key_package.last_resort(),
            message: args::encoded(&MlsMessageOut::from(key_package))?,
        })
    }
}

#[pyclass(frozen, module = "bridgekit_mls")]
pub struct KeyPackages {
    provider: Exclusive<Provider>,
}

#[pymethods]
impl KeyPackages {
    #[new]
    #[pyo3(signature = (records = None))]
    fn new(py: Python<'_>, records: Option<&Bound<'_, PyMapping>>) -> PyResult<Self> {
        let values = args::records(records)?;
        detached(py, || {
            let provider = Provider::new(Records::new(values));
            let packages = KeyPackages {
                provider: Exclusive::new(provider),
            };
            for reference in packages.listed()? {
                packages.bundle(&reference)?;
            }
            Ok(packages)
        })
    }

    #[pyo3(signature = (identity, *, lifetime = 7_257_600, last_resort = false))]
    fn generate(
        &self,
        py: Python<'_>,
        identity: &Identity,
        lifetime: u64,
        last_resort: bool,
    ) -> PyResult<KeyPackage> {
        let client = identity.client.clone();
        self.operate(py, move |provider| {
            if lifetime > messages::LONGEST_LIFE {
                return Err(Error::Refused(
                    "no key package lives longer than two years".to_string(),
                ));
            }
            let lifetime = Lifetime::new(lifetime);
            let mut builder = MlsKeyPackage::builder()
                .key_package_lifetime(lifetime)
                .leaf_node_capabilities(client.leaf_capabilities.clone())
                .leaf_node_extensions(client.leaf_extensions.clone());
            if last_resort {
                // Said twice: as the extension that OpenMLS looks for, and as the draft's component.
                let marks = args::dictionary(Components::from([(LAST_RESORT, Vec::new())]));
                let marks = Extension::AppDataDictionary(AppDataDictionaryExtension::new(marks));
                builder = builder
                    .key_package_extensions(Extensions::single(marks).map_err(fault)?)
                    .mark_as_last_resort();
            }
            let bundle = builder
                .build(client.suite, provider, &client.key, client.with_key())
                .map_err(refused)?;
            KeyPackage::new(provider, bundle.into_key_package())
        })
    }

    fn adopt(
        &self,
        py: Python<'_>,
        message: &[u8],
        init_key: Vec<u8>,
        encryption_key: Vec<u8>,
    ) -> PyResult<KeyPackage> {
        /// As OpenMLS keeps a key package; it has no other door for private halves that it did not make.
        #[derive(Serialize)]
        struct Bundle<'a> {
            key_package: &'a MlsKeyPackage,
            private_init_key: &'a HpkePrivateKey,
            private_encryption_key: EncryptionKey<'a>,
        }
        #[derive(Serialize)]
        struct EncryptionKey<'a> {
            key: &'a HpkePrivateKey,
        }
        let (init_key, encryption_key) = (init_key.into(), encryption_key.into());
        self.operate(py, move |provider| {
            let key_package = messages::own_key_package(message)?;
            let name = format!(
                "{KEY_PACKAGE}/{}",
                hex(key_package.hash_ref(provider.crypto())?.as_slice())
            );
            let bundle = Bundle {
                key_package: &key_package,
                private_init_key: &init_key,
                private_encryption_key: EncryptionKey {
                    key: &encryption_key,
                },
            };
            let value = encode(&name, &bundle)?;
            decode::<KeyPackageBundle>(&name, &value)?;
            provider.records.put(&name, Some(value));
            KeyPackage::new(provider, key_package)
        })
    }

    fn discard(&self, py: Python<'_>, reference: &[u8]) -> PyResult<()> {
        let name = format!("{KEY_PACKAGE}/{}", hex(reference));
        self.operate(py, move |provider| {
            provider.records.put(&name, None);
            Ok(())
        })
    }

    #[getter]
    fn references(&self, py: Python<'_>) -> PyResult<Vec<Vec<u8>>> {
        detached(py, || self.listed())
    }

    fn take_changes(&self, py: Python<'_>) -> PyResult<Changes> {
        detached(py, || Ok(self.provider.hold()?.records.take_changes()))
    }
}

impl KeyPackages {
    fn operate<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Provider) -> Result<T> + Send,
    ) -> PyResult<T> {
        detached(py, || {
            let mut provider = self.provider.hold()?;
            provider.reseed();
            provider.records.begin();
            let done = contained(|| work(&provider));
            match done {
                Ok(_) => provider.records.keep(),
                Err(_) => {
                    provider.records.undo();
                }
            }
            done
        })
    }

    fn listed(&self) -> Result<Vec<Vec<u8>>> {
        let names = self.provider.hold()?.records.names("");
        names
            .iter()
            .map(|name| {
                name.strip_prefix(KEY_PACKAGE)
                    .and_then(|rest| rest.strip_prefix('/'))
                    .and_then(unhex)
                    .ok_or_else(|| {
                        Error::BadState(format!("{name:?} is not a key package's record"))
                    })
            })
            .collect()
    }

    fn bundle(&self, reference: &[u8]) -> Result<Option<KeyPackageBundle>> {
        let name = format!("{KEY_PACKAGE}/{}", hex(reference));
        let value = self.provider.hold()?.records.get(&name);
        Ok(value.map(|value| decode(&name, &value)).transpose()?)
    }

    pub fn public(&self, reference: &[u8]) -> Result<MlsKeyPackage> {
        let bundle = self.bundle(reference)?.ok_or(Error::UnknownKeyPackage)?;
        Ok(bundle.into_key_package())
    }

    /// The records of those packages, as far as they are here: what a Welcome is tried with.
    pub fn records_of(&self, references: &[KeyPackageRef]) -> Result<Values> {
        let provider = self.provider.hold()?;
        Ok(references
            .iter()
            .map(|reference| format!("{KEY_PACKAGE}/{}", hex(reference.as_slice())))
            .filter_map(|name| provider.records.get(&name).map(|value| (name, value)))
            .collect())
    }

    pub fn used_up(&self, names: &[String]) -> Result<()> {
        let provider = self.provider.hold()?;
        provider.records.begin();
        for name in names {
            provider.records.put(name, None);
        }
        provider.records.keep();
        Ok(())
    }
}
