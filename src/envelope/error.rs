//! What can go wrong with sealed objects.

use std::path::PathBuf;

use crate::model::ErrorKind;

use super::WrapError;

/// A failure to seal or open an object.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// A plain object where sealed ones are due.
    #[error(
        "the object {name} is not encrypted although encryption is configured: either it was replaced, or the \
         archive was begun without encryption, which --encryption.allow-plaintext accepts"
    )]
    Plaintext {
        /// The object's name.
        name: String,
    },
    /// A sealed object, and no key at all.
    #[error(
        "the object {name} is encrypted for {}: give the secret key of one of them with \
         --encryption.identity-file",
        listed(recipients)
    )]
    NoKeys {
        /// The object's name.
        name: String,
        /// Whom it was sealed for.
        recipients: Vec<String>,
    },
    /// A sealed object that none of the keys opens.
    #[error(
        "the object {name} is encrypted for {}, and none of the given identities is one of them: give the secret \
         key of one of them with another --encryption.identity-file",
        listed(recipients)
    )]
    WrongKeys {
        /// The object's name.
        name: String,
        /// Whom it was sealed for.
        recipients: Vec<String>,
    },
    /// The key of the object was wrapped in another way than is configured.
    #[error("the key of the object {name} is wrapped by {found:?}, and {configured:?} is configured")]
    Scheme {
        /// The object's name.
        name: String,
        /// How it is wrapped.
        found: String,
        /// What is configured.
        configured: String,
    },
    /// The object is of a later format.
    #[error(
        "the object {name} is encrypted in format {found}, and this program reads up to {known}: use a newer one"
    )]
    Version {
        /// The object's name.
        name: String,
        /// Its format.
        found: u8,
        /// The newest that is read.
        known: u8,
    },
    /// The object was changed after it was sealed.
    #[error("the encrypted object {name} is damaged: {reason}")]
    Damaged {
        /// The object's name.
        name: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// There are identities only, and something is to be sealed.
    #[error("nothing can be encrypted without recipients: name their file with --encryption.recipients-file")]
    NoRecipients,
    /// There are recipients only, and something is to be opened.
    #[error("nothing can be decrypted without a secret key: name its file with --encryption.identity-file")]
    NoIdentities,
    /// A file with keys cannot be read.
    #[error("cannot read the key file {path}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file with keys holds something else. Its content is never quoted, since it may be a secret.
    #[error("the key file {path} is refused: {reason}")]
    KeyText {
        /// The file.
        path: PathBuf,
        /// The line, and what is allowed.
        reason: String,
    },
    /// There are more or longer recipients than a header takes.
    #[error("too many recipients: {reason}")]
    Recipients {
        /// What is over its limit.
        reason: String,
    },
    /// The keys could not be used, for a reason of their own.
    #[error("cannot use the keys for the object {name}")]
    Keys {
        /// The object's name.
        name: String,
        /// Their reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was sealed for the recipients cannot be opened with the identities.
    #[error(
        "what is encrypted for {} cannot be decrypted with the given identities: give the secret key of one of \
         them with --encryption.identity-file, or none at all to write only",
        listed(recipients)
    )]
    SelfTest {
        /// Whom the probe was sealed for.
        recipients: Vec<String>,
        /// Why it did not open; nothing where other bytes came back.
        #[source]
        source: Option<Box<EnvelopeError>>,
    },
    /// The source or target of the bytes failed.
    #[error("cannot read or write the bytes of the object {name}")]
    Stream {
        /// The object's name.
        name: String,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
}

impl EnvelopeError {
    pub(super) fn damaged(name: &str, reason: &'static str) -> Self {
        Self::Damaged { name: name.to_owned(), reason }
    }

    /// Says that a data key could not be wrapped.
    pub(super) fn wrap(name: &str, recipients: Vec<String>, error: WrapError) -> Self {
        match error {
            WrapError::NoKey if recipients.is_empty() => Self::NoRecipients,
            error => Self::unwrap(name, recipients, error),
        }
    }

    /// Says that a data key could not be unwrapped.
    pub(super) fn unwrap(name: &str, recipients: Vec<String>, error: WrapError) -> Self {
        match error {
            WrapError::NoKey => Self::WrongKeys { name: name.to_owned(), recipients },
            WrapError::Damaged => Self::damaged(name, "its wrapped key is not one"),
            WrapError::Failed(source) => Self::Keys { name: name.to_owned(), source },
        }
    }

    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Plaintext { .. } | Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Scheme { .. } | Self::Version { .. } => ErrorKind::Unsupported,
            Self::NoKeys { .. }
            | Self::WrongKeys { .. }
            | Self::NoRecipients
            | Self::NoIdentities
            | Self::KeyFile { .. }
            | Self::KeyText { .. }
            | Self::Recipients { .. }
            | Self::SelfTest { .. } => ErrorKind::Invalid,
            Self::Keys { .. } | Self::Stream { .. } => ErrorKind::Unavailable,
        }
    }
}

fn listed(recipients: &[String]) -> String {
    if recipients.is_empty() { "recipients that it does not name".to_owned() } else { recipients.join(", ") }
}
