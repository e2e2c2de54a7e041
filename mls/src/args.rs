//! What comes in from Python, and the little TLS presentation language that OpenMLS does not show.

use std::collections::BTreeMap;

use openmls::component::ComponentData;
use openmls::extensions::{AppDataDictionary, Extension, ExternalSender};
use openmls::framing::SafeAadItem;
use openmls::group::{AppDataDictionaryUpdater, AppDataUpdates, GroupContext};
use openmls::messages::proposals::{AppDataUpdateOperation, AppDataUpdateProposal};
use openmls::prelude::tls_codec::{Deserialize, Serialize, VLBytes};
use openmls::prelude::{Ciphersuite, Credential, Extensions, SignaturePublicKey};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping};

use crate::errors::{Error, Result, malformed};
use crate::records::Values;

pub type Components = BTreeMap<u16, Vec<u8>>;

/// A mapping of small numbers to bytes; None is an empty one.
pub fn components(mapping: Option<&Bound<'_, PyMapping>>) -> PyResult<Components> {
    let Some(mapping) = mapping else {
        return Ok(Components::new());
    };
    mapping
        .items()?
        .iter()
        .map(|item| item.extract::<(u16, Vec<u8>)>())
        .collect()
}

/// Stored records; None is none.
pub fn records(mapping: Option<&Bound<'_, PyMapping>>) -> PyResult<Values> {
    let Some(mapping) = mapping else {
        return Ok(Values::new());
    };
    mapping
        .items()?
        .iter()
        .map(|item| item.extract::<(String, Vec<u8>)>())
        .collect()
}

pub fn ciphersuite(number: u16) -> Result<Ciphersuite> {
    Ciphersuite::try_from(number)
        .map_err(|_| Error::Unsupported(format!("cipher suite {number:#06x} is not supported")))
}

pub fn credential(bytes: &[u8]) -> Result<Credential> {
    Credential::tls_deserialize_exact(bytes).map_err(malformed("a Credential"))
}

pub fn encoded(value: &impl Serialize) -> Result<Vec<u8>> {
    value
        .tls_serialize_detached()
        .map_err(|error| Error::Fault(error.to_string()))
}

pub fn safe_aad(items: Components) -> Vec<SafeAadItem> {
    items
        .into_iter()
        .map(|(id, data)| SafeAadItem::new(id, data))
        .collect()
}

pub fn dictionary(items: Components) -> AppDataDictionary {
    let mut dictionary = AppDataDictionary::new();
    for (id, data) in items {
        dictionary.insert(id, data);
    }
    dictionary
}

pub fn dictionary_items(dictionary: Option<&AppDataDictionary>) -> Components {
    dictionary
        .into_iter()
        .flat_map(AppDataDictionary::entries)
        .map(|entry| (entry.id(), entry.data().to_vec()))
        .collect()
}

pub fn extension(kind: u16, data: &[u8]) -> Result<Extension> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend(encoded(&VLBytes::from(data))?);
    Extension::tls_deserialize_exact(&bytes)
        .map_err(|error| Error::Malformed(format!("not an extension of type {kind}: {error}")))
}

pub fn extension_items<'a>(extensions: impl Iterator<Item = &'a Extension>) -> Result<Components> {
    extensions
        .map(|extension| {
            let bytes = encoded(extension)?;
            let mut reader = Reader(&bytes);
            Ok((reader.u16()?, reader.vector()?.to_vec()))
        })
        .collect()
}

pub fn group_context_extensions(items: Components) -> Result<Extensions<GroupContext>> {
    let extensions = items
        .into_iter()
        .map(|(kind, data)| extension(kind, &data))
        .collect::<Result<Vec<_>>>()?;
    Extensions::from_vec(extensions).map_err(crate::errors::refused)
}

pub fn external_senders(extensions: &Extensions<GroupContext>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let Some(senders) = extensions.external_senders() else {
        return Ok(Vec::new());
    };
    senders
        .iter()
        .map(|sender| {
            let bytes = encoded(sender)?;
            let mut reader = Reader(&bytes);
            Ok((reader.vector()?.to_vec(), reader.0.to_vec()))
        })
        .collect()
}

pub fn external_sender(signature_key: &[u8], credential_bytes: &[u8]) -> Result<ExternalSender> {
    Ok(ExternalSender::new(
        SignaturePublicKey::from(signature_key),
        credential(credential_bytes)?,
    ))
}

/// A mini-reader for structures whose fields OpenMLS keeps to itself.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        if length > self.0.len() {
            return Err(Error::Malformed("the bytes end too early".to_string()));
        }
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(taken)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(
            self.take(2)?.try_into().expect("two bytes"),
        ))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(
            self.take(4)?.try_into().expect("four bytes"),
        ))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(
            self.take(8)?.try_into().expect("eight bytes"),
        ))
    }

    /// `opaque<V>` (RFC 9420, section 2.1.2): the first two bits say how long the length is, in its shortest form.
    pub fn vector(&mut self) -> Result<&'a [u8]> {
        let first = self.u8()?;
        let length = match first >> 6 {
            0 => u64::from(first),
            1 => u64::from(first & 0x3f) << 8 | u64::from(self.u8()?),
            2 => {
                let rest = self.take(3)?;
                rest.iter().fold(u64::from(first & 0x3f), |length, byte| {
                    length << 8 | u64::from(*byte)
                })
            }
            _ => {
                return Err(Error::Malformed(
                    "a vector of more than 2^30 bytes".to_string(),
                ));
            }
        };
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }
}

/// (component, update; None: remove), as commits and proposals carry them.
pub type Updates = Vec<(u16, Option<Vec<u8>>)>;

pub fn updates<'a>(proposals: impl Iterator<Item = &'a AppDataUpdateProposal>) -> Updates {
    proposals
        .map(|proposal| match proposal.operation() {
            AppDataUpdateOperation::Update(data) => {
                (proposal.component_id(), Some(data.as_slice().to_vec()))
            }
            AppDataUpdateOperation::Remove => (proposal.component_id(), None),
        })
        .collect()
}

/// Python's word on what a component becomes; without one, the last update is the whole new value.
pub struct Resolver(pub Option<Py<PyAny>>);

impl Resolver {
    /// Call it without the GIL.
    pub fn resolve(
        &self,
        mut updater: AppDataDictionaryUpdater<'_>,
        updates: Updates,
    ) -> Result<Option<AppDataUpdates>> {
        let mut by_component: BTreeMap<u16, Vec<Option<Vec<u8>>>> = BTreeMap::new();
        for (component, update) in updates {
            by_component.entry(component).or_default().push(update);
        }
        for (component, updates) in by_component {
            let value = match &self.0 {
                None => updates.into_iter().next_back().flatten(),
                Some(resolve) => {
                    let now = updater.old_value(component).map(<[u8]>::to_vec);
                    Python::attach(|py| -> PyResult<Option<Vec<u8>>> {
                        let now = now.map(|value| PyBytes::new(py, &value));
                        let updates: Vec<_> = updates
                            .iter()
                            .map(|update| update.as_ref().map(|data| PyBytes::new(py, data)))
                            .collect();
                        resolve.bind(py).call1((component, now, updates))?.extract()
                    })?
                }
            };
            match value {
                Some(data) => updater.set(ComponentData::from_parts(component, data.into())),
                None => updater.remove(&component),
            }
        }
        Ok(updater.changes())
    }
}
