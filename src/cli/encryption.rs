//! Flags for the encryption of objects.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::Failure;
use crate::envelope::{AgeKeys, Envelope};
use crate::model::ErrorKind;
use crate::runtime::Random;

/// Who may read what is stored. Without any of these flags objects are stored as they are.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct EncryptionArgs {
    /// File with age public keys, one a line: every object is encrypted, and each of the keys can decrypt it. Give
    /// two or more, kept in different places: objects whose keys are all lost are lost. Default: no encryption.
    #[arg(long = "encryption.recipients-file", value_name = "FILE")]
    recipients_file: Option<PathBuf>,
    /// File with age secret keys, to read encrypted objects. May be repeated: old keys stay needed for old objects.
    #[arg(long = "encryption.identity-file", value_name = "FILE")]
    identity_files: Vec<PathBuf>,
    /// Also accept objects that are not encrypted, in an archive that was begun without encryption.
    #[arg(long = "encryption.allow-plaintext")]
    allow_plaintext: bool,
}

impl EncryptionArgs {
    /// Returns the envelope of a role that stores objects, once it has proven that it can encrypt.
    pub(super) fn sealing(&self, random: &Random) -> Result<Envelope, Failure> {
        let envelope = self.envelope()?;
        envelope.check_sealing(random)?;
        Ok(envelope)
    }

    /// Returns the envelope of a role that only reads objects.
    pub(super) fn opening(&self) -> Result<Envelope, Failure> {
        let envelope = self.envelope()?;
        envelope.check_opening()?;
        Ok(envelope)
    }

    /// Returns the envelope of a role that needs keys only for what it finds encrypted.
    pub(super) fn reading(&self) -> Result<Envelope, Failure> {
        self.envelope()
    }

    fn envelope(&self) -> Result<Envelope, Failure> {
        if self.recipients_file.is_none() && self.identity_files.is_empty() {
            if self.allow_plaintext {
                let message = "--encryption.allow-plaintext means nothing without --encryption.recipients-file or \
                               --encryption.identity-file: objects are not encrypted";
                return Err(Failure::new(ErrorKind::Invalid, message));
            }
            return Ok(Envelope::none());
        }
        let keys = AgeKeys::from_files(self.recipients_file.as_deref(), &self.identity_files)?;
        let envelope = Envelope::encrypting(Arc::new(keys));
        Ok(if self.allow_plaintext { envelope.allowing_plaintext() } else { envelope })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::random_from_seed;

    const PUBLIC: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    const SECRET: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

    fn args(folder: &std::path::Path, recipients: bool, identity: bool, plain: bool) -> EncryptionArgs {
        std::fs::write(folder.join("recipients"), PUBLIC).unwrap();
        std::fs::write(folder.join("identity"), SECRET).unwrap();
        EncryptionArgs {
            recipients_file: recipients.then(|| folder.join("recipients")),
            identity_files: identity.then(|| folder.join("identity")).into_iter().collect(),
            allow_plaintext: plain,
        }
    }

    #[test]
    fn each_role_demands_the_keys_that_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let random = random_from_seed(1);
        let of = |recipients, identity| args(folder.path(), recipients, identity, false);
        assert!(!of(false, false).sealing(&random).unwrap().is_encrypting());
        assert!(of(true, false).sealing(&random).unwrap().is_encrypting());
        assert!(of(true, true).sealing(&random).unwrap().is_encrypting());
        assert!(of(false, true).opening().unwrap().is_encrypting());
        let no_recipients = of(false, true).sealing(&random).unwrap_err();
        assert!(no_recipients.message.contains("--encryption.recipients-file"), "{no_recipients:?}");
        let no_identity = of(true, false).opening().unwrap_err();
        assert!(no_identity.message.contains("--encryption.identity-file"), "{no_identity:?}");
    }

    #[test]
    fn allowing_plaintext_without_keys_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let failure = args(folder.path(), false, false, true).opening().unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Invalid);
        assert!(args(folder.path(), false, true, true).opening().is_ok());
    }
}
