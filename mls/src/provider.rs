//! What OpenMLS runs on: crypto in Rust, randomness of the operating system, and the records.

use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use openmls_traits::random::OpenMlsRand;

use crate::records::Records;

/// Asks the operating system each time: no state that a fork or a restored machine could repeat.
#[derive(Debug, Default)]
pub struct SystemRand;

impl OpenMlsRand for SystemRand {
    type Error = getrandom::Error;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], Self::Error> {
        let mut bytes = [0; N];
        getrandom::fill(&mut bytes)?;
        Ok(bytes)
    }

    fn random_vec(&self, len: usize) -> Result<Vec<u8>, Self::Error> {
        let mut bytes = vec![0; len];
        getrandom::fill(&mut bytes)?;
        Ok(bytes)
    }
}

#[derive(Debug, Default)]
pub struct Provider {
    /// Its own generator is seeded when it is made: make a new one for each operation (see SystemRand).
    crypto: RustCrypto,
    pub records: Records,
    rand: SystemRand,
}

impl Provider {
    pub fn new(records: Records) -> Self {
        Provider {
            records,
            ..Provider::default()
        }
    }

    pub fn reseed(&mut self) {
        self.crypto = RustCrypto::default();
    }
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = RustCrypto;
    type RandProvider = SystemRand;
    type StorageProvider = Records;

    fn storage(&self) -> &Records {
        &self.records
    }

    fn crypto(&self) -> &RustCrypto {
        &self.crypto
    }

    fn rand(&self) -> &SystemRand {
        &self.rand
    }
}
