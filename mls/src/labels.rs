//! The labelled operations of RFC 9420, section 5.1, which protocols above MLS use too; OpenMLS keeps its own to itself.

use openmls::ciphersuite::signature::SignContent;
use openmls::prelude::tls_codec::VLBytes;
use openmls::prelude::{Ciphersuite, HpkeCiphertext, OpenMlsCrypto, OpenMlsProvider, OpenMlsRand};
use openmls_traits::signatures::Signer;
use pyo3::prelude::*;

use crate::args;
use crate::errors::{Error, Result, fault};
use crate::guard::detached;
use crate::provider::Provider;

fn sign_content(label: &str, content: &[u8]) -> Result<Vec<u8>> {
    args::encoded(&SignContent::new(label, content.into()))
}

pub fn sign(signer: &impl Signer, label: &str, content: &[u8]) -> Result<Vec<u8>> {
    signer
        .sign(&sign_content(label, content)?)
        .map_err(|_| Error::Fault("signing failed".to_string()))
}

pub fn verify(
    suite: Ciphersuite,
    signature_key: &[u8],
    label: &str,
    content: &[u8],
    signature: &[u8],
) -> Result<bool> {
    let content = sign_content(label, content)?;
    let provider = Provider::default();
    Ok(provider
        .crypto()
        .verify_signature(
            suite.signature_algorithm(),
            &content,
            signature_key,
            signature,
        )
        .is_ok())
}

/// EncryptContext: label<V>, context<V>.
fn encrypt_context(label: &str, context: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = args::encoded(&VLBytes::from(format!("MLS 1.0 {label}").into_bytes()))?;
    bytes.extend(args::encoded(&VLBytes::from(context))?);
    Ok(bytes)
}

#[pyfunction]
pub fn verify_with_label(
    py: Python<'_>,
    cipher_suite: u16,
    signature_key: &[u8],
    label: &str,
    content: &[u8],
    signature: &[u8],
) -> PyResult<bool> {
    detached(py, || {
        verify(
            args::ciphersuite(cipher_suite)?,
            signature_key,
            label,
            content,
            signature,
        )
    })
}

#[pyfunction]
#[pyo3(signature = (cipher_suite = 1))]
pub fn generate_hpke_key(py: Python<'_>, cipher_suite: u16) -> PyResult<(Vec<u8>, Vec<u8>)> {
    detached(py, || {
        let suite = args::ciphersuite(cipher_suite)?;
        let provider = Provider::default();
        let seed = provider
            .rand()
            .random_vec(suite.hash_length())
            .map_err(fault)?;
        let pair = provider
            .crypto()
            .derive_hpke_keypair(suite.hpke_config(), &seed)
            .map_err(|_| {
                Error::Unsupported(format!("no HPKE for cipher suite {cipher_suite:#06x}"))
            })?;
        Ok((pair.private.to_vec(), pair.public))
    })
}

#[pyfunction]
pub fn encrypt_with_label(
    py: Python<'_>,
    cipher_suite: u16,
    public_key: &[u8],
    label: &str,
    context: &[u8],
    plaintext: &[u8],
) -> PyResult<(Vec<u8>, Vec<u8>)> {
    detached(py, || {
        let suite = args::ciphersuite(cipher_suite)?;
        let sealed = Provider::default()
            .crypto()
            .hpke_seal(
                suite.hpke_config(),
                public_key,
                &encrypt_context(label, context)?,
                &[],
                plaintext,
            )
            .map_err(|_| {
                Error::Refused("not a public HPKE key of this cipher suite".to_string())
            })?;
        Ok((sealed.kem_output.into(), sealed.ciphertext.into()))
    })
}

#[pyfunction]
pub fn decrypt_with_label(
    py: Python<'_>,
    cipher_suite: u16,
    private_key: &[u8],
    label: &str,
    context: &[u8],
    kem_output: &[u8],
    ciphertext: &[u8],
) -> PyResult<Vec<u8>> {
    detached(py, || {
        let suite = args::ciphersuite(cipher_suite)?;
        let sealed = HpkeCiphertext {
            kem_output: kem_output.into(),
            ciphertext: ciphertext.into(),
        };
        Provider::default()
            .crypto()
            .hpke_open(
                suite.hpke_config(),
                &sealed,
                private_key,
                &encrypt_context(label, context)?,
                &[],
            )
            .map_err(|_| Error::Undecryptable("the key does not open the ciphertext".to_string()))
    })
}
