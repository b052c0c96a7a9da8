//! The data key of one object, and what wraps it.

use std::fmt;

use secrecy::{ExposeSecret, SecretBox};

use crate::runtime::Random;

/// The bytes of a data key.
const KEY_BYTES: usize = 32;

/// The key of one object. It is zeroed when dropped and not printed.
pub struct DataKey(SecretBox<[u8; KEY_BYTES]>);

impl DataKey {
    /// Draws a new key.
    #[must_use]
    pub fn random(random: &Random) -> Self {
        Self(SecretBox::init_with_mut(|key: &mut [u8; KEY_BYTES]| {
            for part in key.chunks_exact_mut(8) {
                part.copy_from_slice(&random.next_u64().to_le_bytes());
            }
        }))
    }

    /// Takes a key that was unwrapped; nothing where the length is not that of a key.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == KEY_BYTES)
            .then(|| Self(SecretBox::init_with_mut(|key: &mut [u8; KEY_BYTES]| key.copy_from_slice(bytes))))
    }

    /// Returns the secret itself, to wrap it.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(<secret>)")
    }
}

/// Why keys could not wrap or unwrap a data key.
#[derive(Debug)]
pub enum WrapError {
    /// None of the keys at hand may do it.
    NoKey,
    /// The wrapped key is not something that this scheme made.
    Damaged,
    /// The keys could not be used now, such as a service that did not answer.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// Wraps data keys for those who may read: the place for a key management service.
///
/// It is called once for each object, on a compute thread, so an implementation may wait for its service there. It
/// must not keep data keys, and must not answer an unwrap from anything but the wrapped bytes: then an object can be
/// opened as long as one of its keys exists.
pub trait KeyWrap: fmt::Debug + Send + Sync {
    /// Returns what this way of wrapping is called in objects: up to 32 of `a-z 0-9 -`, and never changed.
    fn scheme(&self) -> &str;

    /// Returns the names of those for whom new objects are sealed. They stand in each object, in the clear.
    fn recipients(&self) -> Vec<String>;

    /// Returns whether there is a key to unwrap with; without one objects can only be sealed.
    fn can_unwrap(&self) -> bool;

    /// Encrypts a data key for all recipients, any of whom can decrypt it alone. At most 32 KiB.
    ///
    /// # Errors
    /// [`WrapError::NoKey`] without recipients, or the failure of a service.
    fn wrap(&self, key: &DataKey) -> Result<Vec<u8>, WrapError>;

    /// Decrypts a data key.
    ///
    /// # Errors
    /// [`WrapError::NoKey`] where it was wrapped for others, damage, or the failure of a service.
    fn unwrap(&self, wrapped: &[u8]) -> Result<DataKey, WrapError>;
}
