//! Thanos' keys for S3.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::BucketError;
use super::super::s3::{Lookup, S3Settings, ServerSideEncryption};
use super::http::{HttpYaml, RetrySettings};
use super::{PART_BYTES_ALLOWED, Secret, refused};

/// The user metadata that is none: it chooses the storage class.
const STORAGE_CLASS_KEY: &str = "x-amz-storage-class";

/// Storage classes whose objects cannot be read before somebody restores them.
const CLASSES_OFFLINE: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// An SSE-C key has so many bytes.
const CUSTOMER_KEY_BYTES: usize = 32;

/// Keys of type `IgnoredAny` are accepted because nothing depends on them here.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct S3Yaml {
    bucket: String,
    endpoint: String,
    region: String,
    aws_sdk_auth: bool,
    access_key: String,
    secret_key: Secret,
    session_token: Secret,
    insecure: bool,
    signature_version2: bool,
    put_user_metadata: BTreeMap<String, String>,
    http_config: HttpYaml,
    list_objects_version: String,
    bucket_lookup_type: String,
    disable_multipart: bool,
    part_size: Option<u64>,
    sse_config: SseYaml,
    sts_endpoint: String,
    max_retries: Option<u32>,
    trace: TraceYaml,
    #[serde(rename = "disable_dualstack")]
    _disable_dualstack: IgnoredAny,
    send_content_md5: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TraceYaml {
    enable: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SseYaml {
    #[serde(rename = "type")]
    kind: String,
    kms_key_id: String,
    kms_encryption_context: BTreeMap<String, String>,
    encryption_key: PathBuf,
}

impl S3Yaml {
    pub(super) fn check(mut self) -> Result<S3Settings, BucketError> {
        if self.bucket.is_empty() {
            return Err(refused("config.bucket is empty: name the S3 bucket"));
        }
        if self.endpoint.contains("://") || self.endpoint.contains('/') {
            return Err(refused(format!(
                "config.endpoint {:?} must be host or host:port without scheme and path; insecure: true selects http",
                self.endpoint
            )));
        }
        self.check_credentials()?;
        if self.signature_version2 {
            return Err(refused(
                "config.signature_version2 is not supported: only version 4 signatures are made; set false",
            ));
        }
        if !matches!(self.list_objects_version.as_str(), "" | "v2") {
            return Err(refused("config.list_objects_version is not supported: only v2 is spoken; set v2"));
        }
        let part_bytes = self.part_size.filter(|size| *size > 0);
        if part_bytes.is_some_and(|size| !PART_BYTES_ALLOWED.contains(&size)) {
            return Err(refused("config.part_size must lie between 5242880 (5 MiB) and 1073741824 (1 GiB)"));
        }
        let storage_class = take_storage_class(&mut self.put_user_metadata)?;
        Ok(S3Settings {
            lookup: check_lookup(&self.bucket_lookup_type)?,
            encryption: self.sse_config.check(self.insecure)?,
            http: self.http_config.check()?,
            retries: RetrySettings {
                retries_max: self.max_retries.filter(|max| *max > 0),
                ..RetrySettings::default()
            },
            bucket: self.bucket,
            endpoint: self.endpoint,
            region: self.region,
            access_key: self.access_key,
            secret_key: self.secret_key,
            session_token: self.session_token,
            sts_endpoint: self.sts_endpoint,
            insecure: self.insecure,
            part_bytes,
            whole_puts_only: self.disable_multipart,
            // A SHA-256 does what the MD5 is for: some stores demand one, and a few refuse any.
            checksums: self.send_content_md5.unwrap_or(true),
            storage_class,
            user_metadata: self.put_user_metadata,
            traced: self.trace.enable,
        })
    }

    fn check_credentials(&self) -> Result<(), BucketError> {
        if self.access_key.is_empty() != self.secret_key.0.is_empty() {
            return Err(refused(
                "config.access_key and config.secret_key go together: give both, or neither to use the \
                 environment's credentials",
            ));
        }
        if self.aws_sdk_auth && !self.access_key.is_empty() {
            return Err(refused("config.aws_sdk_auth: true excludes access_key: leave one of them out"));
        }
        Ok(())
    }
}

fn take_storage_class(metadata: &mut BTreeMap<String, String>) -> Result<Option<String>, BucketError> {
    let Some(key) = metadata.keys().find(|key| key.eq_ignore_ascii_case(STORAGE_CLASS_KEY)).cloned() else {
        return Ok(None);
    };
    let class = metadata.remove(&key).unwrap_or_default();
    if CLASSES_OFFLINE.contains(&class.as_str()) {
        return Err(refused(format!(
            "config.put_user_metadata.{key}: {class} is refused, its objects cannot be read at once: choose a class \
             such as STANDARD_IA, INTELLIGENT_TIERING or GLACIER_IR"
        )));
    }
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    if class.is_empty() || !class.bytes().all(plain) {
        return Err(refused(format!(
            "config.put_user_metadata.{key}: {class:?} is no storage class: A-Z 0-9 _ are allowed, as in STANDARD_IA"
        )));
    }
    Ok(Some(class))
}

impl SseYaml {
    fn check(self, insecure: bool) -> Result<ServerSideEncryption, BucketError> {
        if !self.kms_encryption_context.is_empty() {
            return Err(refused(
                "config.sse_config.kms_encryption_context is not supported: leave it out, S3 then takes its own",
            ));
        }
        if !self.encryption_key.as_os_str().is_empty() && self.kind != "SSE-C" {
            return Err(refused("config.sse_config.encryption_key goes with type SSE-C only: leave it out"));
        }
        match self.kind.as_str() {
            "" => Ok(ServerSideEncryption::StoreDefault),
            "SSE-S3" => Ok(ServerSideEncryption::S3),
            "SSE-KMS" if self.kms_key_id.is_empty() => {
                Err(refused("config.sse_config.kms_key_id is missing"))
            }
            "SSE-KMS" => Ok(ServerSideEncryption::Kms(self.kms_key_id)),
            "SSE-C" if insecure => Err(refused(
                "config.sse_config.type SSE-C sends its key with each request and needs https: set insecure: false",
            )),
            "SSE-C" => self.read_customer_key().map(ServerSideEncryption::Customer),
            other => Err(refused(format!(
                "config.sse_config.type {other:?} is refused: SSE-S3, SSE-KMS and SSE-C are allowed"
            ))),
        }
    }

    fn read_customer_key(&self) -> Result<Secret, BucketError> {
        let file = &self.encryption_key;
        let unusable = |reason: String| {
            refused(format!("config.sse_config.encryption_key {:?}: {reason}", file.display().to_string()))
        };
        let key = std::fs::read(file).map_err(|e| unusable(e.to_string()))?;
        if key.len() != CUSTOMER_KEY_BYTES {
            return Err(unusable(format!(
                "the file has {} bytes, the key has to have {CUSTOMER_KEY_BYTES}",
                key.len()
            )));
        }
        Ok(Secret(base64(&key)))
    }
}

fn check_lookup(text: &str) -> Result<Lookup, BucketError> {
    match text {
        "" | "auto" => Ok(Lookup::Auto),
        "path" => Ok(Lookup::Path),
        "virtual-hosted" => Ok(Lookup::VirtualHosted),
        _ => Err(refused(format!(
            "config.bucket_lookup_type {text:?} is refused: auto, virtual-hosted and path are allowed"
        ))),
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digit =
            move |n: usize| if n > chunk.len() { b'=' } else { DIGITS[(bits >> (18 - 6 * n) & 63) as usize] };
        (0..4).map(digit)
    });
    digits.map(char::from).collect()
}
