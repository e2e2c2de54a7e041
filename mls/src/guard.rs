//! The border: the GIL is let go, one call at a time, and a panic becomes an error.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use crate::errors::{Error, Result, panicked};

/// Run `work` without the GIL and without letting a panic through.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| contained(work)).map_err(PyErr::from)
}

pub fn contained<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(panicked(payload)))
}

/// A value that one thread at a time works on. The same thread coming back (out of a callback) is refused, not deadlocked.
pub struct Exclusive<T> {
    value: Mutex<T>,
    /// A mark of the thread that holds the lock; 0: nobody.
    owner: AtomicUsize,
}

pub struct Held<'a, T> {
    value: MutexGuard<'a, T>,
    owner: &'a AtomicUsize,
}

thread_local! {
    static MARK: Cell<u8> = const { Cell::new(0) };
}

/// A number that differs between living threads, never 0: the address of something of the thread's own.
fn this_thread() -> usize {
    MARK.with(|mark| std::ptr::from_ref(mark) as usize)
}

impl<T> Exclusive<T> {
    pub fn new(value: T) -> Self {
        Exclusive {
            value: Mutex::new(value),
            owner: AtomicUsize::new(0),
        }
    }

    /// Call it without the GIL: whoever holds the lock may be waiting for the GIL.
    pub fn hold(&self) -> Result<Held<'_, T>> {
        if self.owner.load(Ordering::Relaxed) == this_thread() {
            return Err(Error::Refused(
                "the object is at work: its own callback must not use it".to_string(),
            ));
        }
        // A panic under the lock is contained and undone before the lock is let go.
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        self.owner.store(this_thread(), Ordering::Relaxed);
        Ok(Held {
            value,
            owner: &self.owner,
        })
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        // Before the lock itself goes, which is dropped after this.
        self.owner.store(0, Ordering::Relaxed);
    }
}

impl<T> std::ops::Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> std::ops::DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
