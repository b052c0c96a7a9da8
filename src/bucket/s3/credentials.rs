//! The shared credentials file of Amazon's tools, `~/.aws/credentials`.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::time::Instant;

use super::super::BucketError;

/// How often the file is read again: who rotates keys there lets old ones live for longer.
const READ_EVERY: Duration = Duration::from_secs(60);

/// With one of these in the environment the file is not looked at.
const ENVIRONMENT: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// Credentials of one profile of the file.
#[derive(Debug)]
pub(super) struct SharedFile {
    path: PathBuf,
    profile: String,
    last: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

impl SharedFile {
    /// Returns the file that the environment stands for, or nothing where credentials come from elsewhere.
    pub(super) fn of_environment() -> Result<Option<Self>, BucketError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if ENVIRONMENT.iter().any(|name| variable(name).is_some()) {
            return Ok(None);
        }
        let home = || variable("HOME").map(|home| PathBuf::from(home).join(".aws/credentials"));
        let path = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or_else(home);
        match path {
            Some(path) => Self::open(path, variable("AWS_PROFILE")),
            None => Ok(None),
        }
    }

    /// Opens a profile; the default one need not be there, one that was asked for by name must.
    fn open(path: PathBuf, asked: Option<String>) -> Result<Option<Self>, BucketError> {
        let named = asked.is_some();
        let profile = asked.unwrap_or_else(|| "default".to_owned());
        let unusable = |reason: String| BucketError::Config {
            reason: format!("the profile {profile:?} of {}: {reason}", path.display()),
        };
        let found = match std::fs::read_to_string(&path) {
            Ok(text) => read_profile(&text, &profile),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(unusable(e.to_string())),
        };
        if found.is_none() {
            let reason = "it has no aws_access_key_id and aws_secret_access_key; roles, SSO and other programs are not \
                          asked for them: put keys there or into the environment, or unset AWS_PROFILE";
            return if named { Err(unusable(reason.to_owned())) } else { Ok(None) };
        }
        Ok(Some(Self { path, profile, last: Mutex::default() }))
    }
}

#[async_trait]
impl CredentialProvider for SharedFile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let known = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((read, credential)) = &known
            && read.elapsed() < READ_EVERY
        {
            return Ok(Arc::clone(credential));
        }
        let failed = |source| object_store::Error::Generic { store: "S3", source };
        let text = tokio::fs::read_to_string(&self.path).await.map_err(|e| failed(e.into()))?;
        let found = read_profile(&text, &self.profile).ok_or_else(|| {
            failed(format!("{} has no keys for {}", self.path.display(), self.profile).into())
        })?;
        // Whoever holds a client made of the same credentials goes on with it.
        let credential = match known {
            Some((_, same)) if *same == found => same,
            _ => Arc::new(found),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), Arc::clone(&credential)));
        Ok(credential)
    }
}

/// Reads the keys of a profile: lines of `name = value` below `[profile]`.
fn read_profile(text: &str, profile: &str) -> Option<AwsCredential> {
    let (mut key_id, mut secret_key, mut token) = (None, None, None);
    let mut inside = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = name.trim() == profile;
        } else if inside && let Some((name, value)) = line.split_once('=') {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim() {
                "aws_access_key_id" => key_id = value,
                "aws_secret_access_key" => secret_key = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(AwsCredential { key_id: key_id?, secret_key: secret_key?, token })
}
