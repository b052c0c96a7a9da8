//! What the server says of itself over HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::archive::ServerFacts;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Only these flags matter for a restore.
const FLAGS: &str = "storage.tsdb.";

/// Asks one server.
#[derive(Debug, Clone)]
pub(super) struct FactsClient {
    http: reqwest::Client,
    url: String,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Build {
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeInfo {
    start_time: String,
}

#[derive(Deserialize)]
struct ConfigText {
    yaml: String,
}

#[derive(Deserialize, Default)]
struct Config {
    #[serde(default)]
    global: GlobalConfig,
}

#[derive(Deserialize, Default)]
struct GlobalConfig {
    #[serde(default)]
    external_labels: BTreeMap<String, String>,
}

impl FactsClient {
    /// Makes a client for the address of a server.
    ///
    /// # Errors
    /// A client that cannot be set up.
    pub(super) fn new(url: &str) -> Result<Self, reqwest::Error> {
        // Another part of the process may have chosen one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned() })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, reqwest::Error> {
        let request = self.http.get(format!("{}/api/v1/status/{path}", self.url));
        let answer: Answer<T> = request.send().await?.error_for_status()?.json().await?;
        Ok(answer.data)
    }

    /// Returns when the server's process started.
    pub(super) async fn started_ms(&self) -> Result<Option<i64>, reqwest::Error> {
        let info: RuntimeInfo = self.get("runtimeinfo").await?;
        let started = chrono::DateTime::parse_from_rfc3339(&info.start_time).ok();
        Ok(started.map(|time| time.timestamp_millis()))
    }

    /// Returns what a restore needs to know of the server.
    pub(super) async fn facts(&self) -> Result<ServerFacts, reqwest::Error> {
        let build: Build = self.get("buildinfo").await?;
        let mut flags: BTreeMap<String, String> = self.get("flags").await?;
        flags.retain(|flag, _| flag.starts_with(FLAGS));
        let config: ConfigText = self.get("config").await?;
        let config: Config = serde_yaml_ng::from_str(&config.yaml).unwrap_or_default();
        Ok(ServerFacts {
            version: Some(build.version),
            external_labels: config.global.external_labels,
            flags,
            started_ms: self.started_ms().await?,
        })
    }
}
