//! The state as records: a map of short names to bytes, which knows what changed.
//!
//! An operation runs between `begin` and `keep` or `undo`, so one that fails leaves the records as they were. What
//! was kept waits in `take_changes` for the caller, who stores it. A name is `kind` or `kind/key`; a value is a version byte
//! and MessagePack with the names of the fields, so that a field may be added later.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rmp_serde::config::BytesMode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroize;

pub const VERSION: u8 = 1;

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

pub const KEY_PACKAGE: &str = "key_package";

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
}
