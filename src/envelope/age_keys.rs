//! Keys of age: a data key is wrapped as a small age file.

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use age::DecryptError;
use age::x25519::{Identity, Recipient};
use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox, SecretString};

use super::frames::read_full;
use super::{DataKey, EnvelopeError, KeyWrap, WrapError};

/// A file of keys is a few lines; anything larger is another file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The most recipients of an archive: each costs some 100 bytes in every object.
const RECIPIENTS_MAX: usize = 16;

/// X25519 keys of age: recipients to seal for, identities to open with. Either may be missing.
pub struct AgeKeys {
    recipients: Vec<Recipient>,
    identities: Vec<Identity>,
}

impl AgeKeys {
    /// Reads keys from files as `age-keygen` writes them: one key a line, `#` begins a comment.
    ///
    /// New objects are sealed for all recipients, any one of which suffices to open them. Identities are tried one
    /// after the other, so that old ones can be kept for old objects.
    ///
    /// # Errors
    /// A file that cannot be read, holds anything else, or no key at all; and no file at all.
    pub fn from_files(
        recipients_file: Option<&Path>,
        identity_files: &[PathBuf],
    ) -> Result<Self, EnvelopeError> {
        let mut keys = Self { recipients: Vec::new(), identities: Vec::new() };
        if let Some(path) = recipients_file {
            keys.recipients = parse_lines(path, recipient)?;
            keys.recipients.sort_by_cached_key(Recipient::to_string);
            keys.recipients.dedup_by_key(|r| r.to_string());
            if keys.recipients.len() > RECIPIENTS_MAX {
                let reason = format!("{} keys, at most {RECIPIENTS_MAX} are allowed", keys.recipients.len());
                return Err(EnvelopeError::KeyText { path: path.to_owned(), reason });
            }
        }
        for path in identity_files {
            keys.identities.extend(parse_lines(path, identity)?);
        }
        if keys.recipients.is_empty() && keys.identities.is_empty() {
            return Err(EnvelopeError::NoRecipients);
        }
        Ok(keys)
    }
}

impl KeyWrap for AgeKeys {
    fn scheme(&self) -> &str {
        "age"
    }

    fn recipients(&self) -> Vec<String> {
        self.recipients.iter().map(Recipient::to_string).collect()
    }

    fn can_unwrap(&self) -> bool {
        !self.identities.is_empty()
    }

    fn wrap(&self, key: &DataKey) -> Result<Vec<u8>, WrapError> {
        if self.recipients.is_empty() {
            return Err(WrapError::NoKey);
        }
        let recipients = self.recipients.iter().map(|r| r as &dyn age::Recipient);
        let encryptor =
            age::Encryptor::with_recipients(recipients).map_err(|e| WrapError::Failed(e.into()))?;
        let mut wrapped = Vec::new();
        let write = || -> std::io::Result<()> {
            let mut writer = encryptor.wrap_output(&mut wrapped)?;
            writer.write_all(key.expose())?;
            writer.finish().map(drop)
        };
        write().map_err(|e| WrapError::Failed(e.into()))?;
        Ok(wrapped)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<DataKey, WrapError> {
        let decryptor = age::Decryptor::new(wrapped).map_err(|_| WrapError::Damaged)?;
        let identities = self.identities.iter().map(|i| i as &dyn age::Identity);
        let mut reader = decryptor.decrypt(identities).map_err(|e| match e {
            DecryptError::NoMatchingKeys => WrapError::NoKey,
            _ => WrapError::Damaged,
        })?;
        // One byte more than a key has, so that a longer content is seen.
        let mut content = SecretBox::new(Box::new([0; 33]));
        let length = read_full(&mut reader, content.expose_secret_mut()).map_err(|_| WrapError::Damaged)?;
        DataKey::from_bytes(&content.expose_secret()[..length]).ok_or(WrapError::Damaged)
    }
}

impl fmt::Debug for AgeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgeKeys")
            .field("recipients", &self.recipients)
            .field("identities", &self.identities.len())
            .finish()
    }
}

fn recipient(text: &str) -> Result<Recipient, &'static str> {
    if text.starts_with("AGE-SECRET-KEY-") {
        return Err(
            "is a secret key; this file takes public keys (age1…). Give it as --encryption.identity-file",
        );
    }
    text.parse().map_err(|_| "is not an age public key (age1…, as `age-keygen -y` prints it)")
}

fn identity(text: &str) -> Result<Identity, &'static str> {
    if text.starts_with("age1") {
        return Err("is a public key; this file takes secret keys (AGE-SECRET-KEY-1…)");
    }
    if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE") {
        return Err("begins an identity file locked with a passphrase: decrypt it first");
    }
    text.parse().map_err(|_| "is not an age secret key (AGE-SECRET-KEY-1…, as `age-keygen` writes it)")
}

fn parse_lines<T>(path: &Path, parse: fn(&str) -> Result<T, &'static str>) -> Result<Vec<T>, EnvelopeError> {
    let refused = |reason: String| EnvelopeError::KeyText { path: path.to_owned(), reason };
    let text = read_secret(path)?;
    let mut keys = Vec::new();
    for (number, line) in text.expose_secret().lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            keys.push(parse(line).map_err(|reason| refused(format!("line {} {reason}", number + 1)))?);
        }
    }
    if keys.is_empty() { Err(refused("it holds no key".to_owned())) } else { Ok(keys) }
}

fn read_secret(path: &Path) -> Result<SecretString, EnvelopeError> {
    let unreadable = |source| EnvelopeError::KeyFile { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let reason = format!("it has more than {FILE_BYTES_MAX} bytes, which no file of keys has");
        return Err(EnvelopeError::KeyText { path: path.to_owned(), reason });
    }
    Ok(SecretString::from(text))
}
