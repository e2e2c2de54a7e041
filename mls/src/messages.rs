//! Messages without a group: what a message says of itself, key packages of others, and the frame around the bare structures.

use openmls::framing::{MlsMessageBodyIn, MlsMessageIn, ProtocolMessage};
use openmls::messages::Welcome;
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::tls_codec::Deserialize;
use openmls::prelude::{
    KeyPackage as MlsKeyPackage, KeyPackageIn, KeyPackageRef, OpenMlsCrypto, OpenMlsProvider,
    ProtocolVersion, RatchetTreeIn,
};
use pyo3::prelude::*;

use crate::args::{self, Components, Reader};
use crate::errors::{Error, Result, fault, invalid, malformed};
use crate::guard::detached;
use crate::provider::Provider;
use crate::views::Sender;

const KINDS: [&str; 5] = [
    "public_message",
    "private_message",
    "welcome",
    "group_info",
    "key_package",
];

/// mls10 (RFC 9420, section 6): the protocol's version, in front of every message.
const MLS10: u16 = 1;

/// Seconds. RFC 9420, section 7.2: an application MUST set a longest lifetime and refuse what lives longer. Other
/// implementations give a year and more; ours lives for 84 days.
pub const LONGEST_LIFE: u64 = 2 * 366 * 24 * 60 * 60;

#[pyclass(frozen, get_all, module = "bridgekit_mls")]
#[derive(Default)]
pub struct Parsed {
    kind: &'static str,
    group_id: Option<Vec<u8>>,
    epoch: Option<u64>,
    content: Option<&'static str>,
    sender: Option<Sender>,
    aad: Option<Vec<u8>>,
    cipher_suite: Option<u16>,
    key_package_refs: Vec<Vec<u8>>,
    name: Option<Vec<u8>>,
    signature_key: Option<Vec<u8>>,
    lifetime: Option<(u64, u64)>,
    last_resort: bool,
    extensions: Components,
    app_data: Components,
}

/// The kind's number (RFC 9420, section 17.2) and the bare structure.
fn unframed(message: &[u8]) -> Result<(usize, &[u8])> {
    let mut reader = Reader(message);
    let version = reader.u16()?;
    if version != MLS10 {
        return Err(Error::Unsupported(format!(
            "MLS version {version} is not supported"
        )));
    }
    let wire_format = usize::from(reader.u16()?);
    if !(1..=KINDS.len()).contains(&wire_format) {
        return Err(Error::Unsupported(format!(
            "wire format {wire_format} is not supported"
        )));
    }
    Ok((wire_format, reader.0))
}

pub fn decoded(message: &[u8]) -> Result<MlsMessageBodyIn> {
    unframed(message)?;
    let message =
        MlsMessageIn::tls_deserialize_exact(message).map_err(malformed("an MLSMessage"))?;
    Ok(message.extract())
}

fn not_a(what: &str) -> Error {
    Error::Malformed(format!("the message is not a {what}"))
}

pub fn protocol_message(message: &[u8]) -> Result<ProtocolMessage> {
    match decoded(message)? {
        MlsMessageBodyIn::PublicMessage(message) => Ok(ProtocolMessage::from(message)),
        MlsMessageBodyIn::PrivateMessage(message) => Ok(ProtocolMessage::from(message)),
        _ => Err(not_a("message to a group")),
    }
}

pub fn welcome(message: &[u8]) -> Result<Welcome> {
    match decoded(message)? {
        MlsMessageBodyIn::Welcome(welcome) => Ok(welcome),
        _ => Err(not_a("Welcome")),
    }
}

pub fn group_info(message: &[u8]) -> Result<VerifiableGroupInfo> {
    match decoded(message)? {
        MlsMessageBodyIn::GroupInfo(group_info) => Ok(group_info),
        _ => Err(not_a("GroupInfo")),
    }
}

fn key_package(message: &[u8]) -> Result<KeyPackageIn> {
    match decoded(message)? {
        MlsMessageBodyIn::KeyPackage(key_package) => Ok(key_package),
        _ => Err(not_a("KeyPackage")),
    }
}

/// A key package of our own that was made elsewhere: whoever holds its private keys need not prove it to themselves.
pub fn own_key_package(message: &[u8]) -> Result<MlsKeyPackage> {
    let key_package = key_package(message)?;
    if parsed(message)?.lifetime.is_none() {
        return Err(Error::Malformed(
            "the leaf is not a key package's".to_string(),
        ));
    }
    Ok(key_package.into_unchecked())
}

/// A key package of a peer: signed, of now, as the protocol has it, and not for ever.
pub fn verified_key_package(message: &[u8], crypto: &impl OpenMlsCrypto) -> Result<MlsKeyPackage> {
    let key_package = key_package(message)?
        .validate(crypto, ProtocolVersion::Mls10)
        .map_err(invalid)?;
    let (from, to) = (
        key_package.life_time().not_before(),
        key_package.life_time().not_after(),
    );
    if to.saturating_sub(from) > LONGEST_LIFE {
        return Err(Error::InvalidMessage(
            "the key package lives longer than two years".to_string(),
        ));
    }
    Ok(key_package)
}

pub fn ratchet_tree(bytes: Option<&[u8]>) -> Result<Option<RatchetTreeIn>> {
    bytes
        .map(|bytes| {
            RatchetTreeIn::tls_deserialize_exact(bytes).map_err(malformed("a ratchet tree"))
        })
        .transpose()
}

pub fn key_package_refs(welcome: &Welcome) -> Vec<KeyPackageRef> {
    welcome
        .secrets()
        .iter()
        .map(|secrets| secrets.new_member())
        .collect()
}

/// Public and private messages begin alike; the private one says what it holds before the authenticated data.
fn parse_framed(parsed: &mut Parsed, body: &[u8], public: bool) -> Result<()> {
    let mut reader = Reader(body);
    parsed.group_id = Some(reader.vector()?.to_vec());
    parsed.epoch = Some(reader.u64()?);
    let content;
    if public {
        let kind = reader.u8()?;
        let index = if kind <= 2 { Some(reader.u32()?) } else { None };
        parsed.sender = Some(Sender::unverified(kind, index)?);
        parsed.aad = Some(reader.vector()?.to_vec());
        content = reader.u8()?;
    } else {
        content = reader.u8()?;
        parsed.aad = Some(reader.vector()?.to_vec());
    }
    parsed.content = Some(match content {
        1 => "application",
        2 => "proposal",
        3 => "commit",
        _ => {
            return Err(Error::Malformed(format!(
                "content type {content} does not exist"
            )));
        }
    });
    Ok(())
}

/// KeyPackage (RFC 9420, section 10) with the LeafNode of section 7.2 in it.
fn parse_key_package(parsed: &mut Parsed, key_package: &KeyPackageIn, body: &[u8]) -> Result<()> {
    let mut reader = Reader(body);
    reader.u16()?; // version
    let suite = args::ciphersuite(reader.u16()?)?;
    reader.vector()?; // init_key
    reader.vector()?; // encryption_key
    parsed.signature_key = Some(reader.vector()?.to_vec());
    let unverified = key_package.unverified_credential();
    parsed.name = crate::views::name_of(&unverified.credential);
    reader.u16()?; // credential type
    reader.vector()?; // its content, which is one vector for each type that there is
    for _ in 0..5 {
        reader.vector()?; // capabilities
    }
    if reader.u8()? == 1 {
        parsed.lifetime = Some((reader.u64()?, reader.u64()?));
    }
    reader.vector()?; // extensions of the leaf
    reader.vector()?; // signature of the leaf
    let mut extensions = Reader(reader.vector()?);
    while !extensions.0.is_empty() {
        let (kind, data) = (extensions.u16()?, extensions.vector()?);
        parsed.last_resort |= kind == 10 || kind == 6 && marks_last_resort(data)?;
    }
    let reference = KeyPackageRef::new(
        body,
        suite,
        Provider::default().crypto(),
        b"MLS 1.0 KeyPackage Reference",
    )
    .map_err(|_| Error::Unsupported("no hash for this cipher suite".to_string()))?;
    parsed.cipher_suite = Some(suite.into());
    parsed.key_package_refs = vec![reference.as_slice().to_vec()];
    Ok(())
}

fn marks_last_resort(dictionary: &[u8]) -> Result<bool> {
    let mut entries = Reader(Reader(dictionary).vector()?);
    while !entries.0.is_empty() {
        let component = entries.u16()?;
        entries.vector()?;
        if component == 4 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn parsed(message: &[u8]) -> Result<Parsed> {
    let (wire_format, body) = unframed(message)?;
    let mut parsed = Parsed {
        kind: KINDS[wire_format - 1],
        ..Parsed::default()
    };
    match decoded(message)? {
        MlsMessageBodyIn::PublicMessage(_) => parse_framed(&mut parsed, body, true)?,
        MlsMessageBodyIn::PrivateMessage(_) => parse_framed(&mut parsed, body, false)?,
        MlsMessageBodyIn::Welcome(welcome) => {
            parsed.cipher_suite = Some(welcome.ciphersuite().into());
            parsed.key_package_refs = key_package_refs(&welcome)
                .iter()
                .map(|reference| reference.as_slice().to_vec())
                .collect();
        }
        MlsMessageBodyIn::GroupInfo(group_info) => {
            let context = group_info.group_context();
            parsed.group_id = Some(context.group_id().to_vec());
            parsed.epoch = Some(context.epoch().as_u64());
            parsed.cipher_suite = Some(context.ciphersuite().into());
            parsed.extensions = args::extension_items(context.extensions().iter())?;
            let dictionary = context.extensions().app_data_dictionary();
            parsed.app_data = args::dictionary_items(dictionary.map(|found| found.dictionary()));
        }
        MlsMessageBodyIn::KeyPackage(key_package) => {
            parse_key_package(&mut parsed, &key_package, body)?;
        }
    }
    Ok(parsed)
}

#[pyfunction]
pub fn parse(py: Python<'_>, message: &[u8]) -> PyResult<Parsed> {
    detached(py, || parsed(message))
}

#[pyfunction]
pub fn verify_key_package(py: Python<'_>, message: &[u8]) -> PyResult<Parsed> {
    detached(py, || {
        verified_key_package(message, Provider::default().crypto())?;
        parsed(message)
    })
}

#[pyfunction]
pub fn frame(kind: &str, body: &[u8]) -> PyResult<Vec<u8>> {
    let Some(index) = KINDS.iter().position(|known| *known == kind) else {
        return Err(Error::Unsupported(format!("{kind:?} is no kind of message")).into());
    };
    let wire_format = u16::try_from(index + 1).map_err(fault)?;
    let mut message = Vec::with_capacity(body.len() + 4);
    message.extend(MLS10.to_be_bytes());
    message.extend(wire_format.to_be_bytes());
    message.extend(body);
    Ok(message)
}

#[pyfunction]
pub fn unframe(message: &[u8]) -> PyResult<Vec<u8>> {
    Ok(unframed(message)?.1.to_vec())
}
