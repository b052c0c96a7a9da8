//! Flags that several subcommands share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Failure;
use crate::bucket::{Bucket, BucketConfig};
use crate::catalog::CatalogSettings;
use crate::model::{ErrorKind, Labels, TenantId, parse_duration_ms};
use crate::receive::{GrowthBound, IngestSettings, TenantSettings};
use crate::runtime::default_memory_limit;
use crate::select::{CacheSettings, SelectLimits};
use crate::wire::remote_write::Limits;

/// The memory that open blocks may take.
pub(super) const READER_BYTES_MAX: u64 = 256 << 20;

/// Connections of a listener where no flag says otherwise.
pub(super) const CONNECTIONS_MAX: usize = 4_096;

/// The log refuses larger label sets.
const LABEL_SET_BYTES_MAX: usize = 1 << 20;

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let ms = parse_duration_ms(text).map_err(|e| e.to_string())?;
    Ok(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("the duration must be above 0".to_owned()),
        positive => Ok(positive),
    }
}

pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let parsed: bytesize::ByteSize =
        text.parse().map_err(|_| "write a number with B, KiB, MiB or GiB, such as 32MiB".to_owned())?;
    let size = usize::try_from(parsed.as_u64()).map_err(|_| "too large for this machine".to_owned())?;
    if size == 0 { Err("the size must be above 0".to_owned()) } else { Ok(size) }
}

/// Reads a size of which 0 stands for no limit.
pub(super) fn bytes_or_none(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    bytes(text).map(|size| size as u64)
}

/// An empty entry every 10 s says that a receiver lives; nothing may be slower.
fn flush_interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        interval if interval > Duration::from_secs(5) => Err("at most 5s are allowed".to_owned()),
        interval => Ok(interval),
    }
}

fn receiver_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    match text.len() {
        1..=128 if text.chars().all(allowed) => Ok(text.to_owned()),
        _ => Err("use 1 to 128 of A-Z a-z 0-9 _ . : -".to_owned()),
    }
}

pub(super) fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("write a whole number above 0".to_owned()),
        Ok(count) => Ok(count),
    }
}

fn header_name(text: &str) -> Result<http::HeaderName, String> {
    text.parse().map_err(|_| "write the name of an HTTP header, such as THANOS-TENANT".to_owned())
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let refused = || "write name=\"value\", such as --label 'cluster=\"eu-1\"'".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(refused)?;
    let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let value = quoted.unwrap_or(value);
    if name.is_empty() || value.is_empty() || value.contains('"') {
        return Err(refused());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Writes a word so that a shell takes it for one.
pub(super) fn quoted(word: &str) -> String {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':' | ',' | '+' | '@');
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LogFormat {
    /// `key=value` lines.
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// How a command prints its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Which log a receiver keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogKind {
    /// Segments in the data directory.
    Disk,
    /// Objects in the bucket.
    Object,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// YAML file with flags as keys; flags on the command line win.
    #[arg(long = "config-file", id = "config_file", value_name = "FILE")]
    pub(super) config_file: Option<PathBuf>,
    /// What is logged: error, warn, info, debug or trace.
    #[arg(long = "log.level", default_value = "info", value_name = "LEVEL",
          value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub(super) log_level: String,
    /// How log lines look.
    #[arg(long = "log.format", default_value = "logfmt", value_name = "FORMAT")]
    pub(super) log_format: LogFormat,
    /// Where local state lies: log, pending blocks, read cache and, by default, the bucket.
    #[arg(long = "data-dir", default_value = "./data", value_name = "DIR")]
    pub(super) data_dir: PathBuf,
    /// Object storage as Thanos' YAML (`type`, `config`, `prefix`). Default: FILESYSTEM in <data-dir>/bucket.
    #[arg(long = "objstore.config", value_name = "YAML", conflicts_with = "objstore_config_file")]
    objstore_config: Option<String>,
    /// File with the object storage's YAML.
    #[arg(long = "objstore.config-file", value_name = "FILE")]
    objstore_config_file: Option<PathBuf>,
}

/// Starts logging to standard error.
pub(super) fn start_logging(level: &str, format: LogFormat) {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let filter = tracing_subscriber::EnvFilter::new(format!("{level},h2=warn,hyper=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests) keeps the first one.
    let _ = match format {
        LogFormat::Logfmt => {
            registry.with(tracing_logfmt::builder().layer().with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init()
        }
    };
}

impl CommonArgs {
    /// Starts logging to standard error.
    pub(super) fn start_logging(&self) {
        start_logging(&self.log_level, self.log_format);
    }

    /// Refuses a data directory without a bucket, where that is what the command would read.
    pub(super) fn check_local_bucket(&self) -> Result<(), Failure> {
        let folder = self.data_dir.join("bucket");
        if self.objstore_config.is_some() || self.objstore_config_file.is_some() || folder.is_dir() {
            return Ok(());
        }
        let message =
            format!("there is no bucket at {}: check --data-dir or --objstore.config", folder.display());
        Err(Failure::new(ErrorKind::NotFound, message))
    }

    /// Returns the flags that name the bucket, each after a space, for commands that are printed to be pasted.
    pub(super) fn bucket_flags(&self) -> String {
        let file = |flag: &str, path: &Option<PathBuf>| {
            path.as_ref().map(|path| format!(" --{flag}={}", quoted(&path.display().to_string())))
        };
        let mut flags = file("config-file", &self.config_file).unwrap_or_default();
        flags.push_str(&file("objstore.config-file", &self.objstore_config_file).unwrap_or_default());
        if self.objstore_config.is_some() {
            // It may hold secrets, which do not belong on a screen.
            flags.push_str(" --objstore.config=\"$OBJSTORE_CONFIG\"");
        } else if self.objstore_config_file.is_none() {
            flags.push_str(&file("data-dir", &Some(self.data_dir.clone())).unwrap_or_default());
        }
        flags
    }

    /// Reads the object storage's configuration.
    pub(super) fn bucket_config(&self) -> Result<BucketConfig, Failure> {
        if let Some(path) = &self.objstore_config_file {
            let text = std::fs::read_to_string(path).map_err(|e| {
                let message = format!("--objstore.config-file {}: cannot read it: {e}", path.display());
                Failure::new(ErrorKind::Invalid, message)
            })?;
            return BucketConfig::from_yaml(&text).map_err(|e| {
                Failure::new(e.kind(), format!("--objstore.config-file {}: {e}", path.display()))
            });
        }
        match &self.objstore_config {
            Some(text) => BucketConfig::from_yaml(text)
                .map_err(|e| Failure::new(e.kind(), format!("--objstore.config: {e}"))),
            None => Ok(BucketConfig::filesystem(self.data_dir.join("bucket"))),
        }
    }
}

/// Flags of what serves HTTP and gRPC.
#[derive(Debug, Args)]
pub(super) struct ListenArgs {
    /// Where HTTP listens: queries, remote read, /metrics and probes; with a receiver also POST /-/flush.
    #[arg(long = "http-address", default_value = "127.0.0.1:10902", value_name = "ADDRESS")]
    pub(super) http_address: SocketAddr,
    /// Where the gRPC StoreAPI listens.
    #[arg(long = "grpc-address", default_value = "127.0.0.1:10901", value_name = "ADDRESS")]
    pub(super) grpc_address: SocketAddr,
    /// Most connections of each listener at once; more wait until one ends. Each takes a file descriptor.
    #[arg(long = "http.max-connections", default_value_t = CONNECTIONS_MAX, value_name = "N")]
    pub(super) connections_max: usize,
}

/// Flags about tenants.
#[derive(Debug, Args)]
pub(super) struct TenantArgs {
    /// HTTP header that names the tenant.
    #[arg(long = "receive.tenant-header", default_value = "THANOS-TENANT", value_name = "HEADER",
          value_parser = header_name)]
    pub(super) tenant_header: http::HeaderName,
    /// Tenant of requests without that header.
    #[arg(long = "receive.default-tenant-id", default_value = "default-tenant", value_name = "TENANT")]
    pub(super) default_tenant: TenantId,
    /// Label with the tenant's name on every series that StoreAPI serves.
    #[arg(long = "receive.tenant-label-name", default_value = "tenant_id", value_name = "LABEL")]
    pub(super) tenant_label: String,
}

impl TenantArgs {
    pub(super) fn settings(&self) -> TenantSettings {
        TenantSettings { header: self.tenant_header.clone(), default_tenant: self.default_tenant.clone() }
    }
}

/// Flags about queries.
#[derive(Debug, Args)]
pub(super) struct QueryArgs {
    /// How long a query may take.
    #[arg(long = "query.timeout", default_value = "2m", value_name = "DURATION", value_parser = positive_duration)]
    pub(super) query_timeout: Duration,
    /// How many queries are served at once; further ones wait.
    #[arg(long = "query.max-concurrency", default_value_t = 20, value_name = "N")]
    pub(super) query_concurrency: usize,
    /// Label that tells HA replicas apart, hidden where an HTTP query asks for dedup=true; may be given several times.
    /// StoreAPI clients name such labels themselves.
    #[arg(long = "query.replica-label", value_name = "NAME")]
    pub(super) replica_labels: Vec<String>,
    /// Most series that one query may select; 0 for no limit.
    #[arg(long = "store.limits.request-series", default_value_t = 0, value_name = "N")]
    request_series: usize,
    /// Most samples that one query may select; 0 for no limit.
    #[arg(long = "store.limits.request-samples", default_value_t = 0, value_name = "N")]
    request_samples: u64,
    /// Most bytes of label columns, samples and exemplars that one query may fetch from the bucket; 0 for no limit.
    #[arg(long = "store.grpc.downloaded-bytes-limit", default_value = "0B", value_name = "BYTES")]
    downloaded_bytes: bytesize::ByteSize,
    /// Memory for footers, page indexes and label columns of blocks; at most 12 % of --memory-limit.
    #[arg(long = "store.cache-memory-bytes", default_value = "256MiB", value_name = "BYTES")]
    cache_memory: bytesize::ByteSize,
    /// Folder for footers, page indexes and label columns of blocks in a remote bucket. Default: <data-dir>/read-cache.
    #[arg(long = "store.cache-dir", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Most bytes of files in that folder; 0 for none. A bucket in a local folder is not cached on disk.
    #[arg(long = "store.cache-disk-bytes", default_value = "2GiB", value_name = "BYTES")]
    cache_disk: bytesize::ByteSize,
}

impl QueryArgs {
    /// Hides further labels of replicas on demand.
    pub(super) fn hide_too(&mut self, replica_labels: &[String]) {
        let new: Vec<String> =
            replica_labels.iter().filter(|name| !self.replica_labels.contains(name)).cloned().collect();
        self.replica_labels.extend(new);
    }

    pub(super) fn limits(&self) -> SelectLimits {
        SelectLimits {
            series_max: self.request_series,
            samples_max: self.request_samples,
            bytes_max: self.downloaded_bytes.as_u64(),
        }
    }

    /// Returns how much reads of a bucket may keep; `bounded` is what the process allows of the memory asked for.
    pub(super) fn cache(
        &self,
        common: &CommonArgs,
        bucket: &Bucket,
        bounded: impl FnOnce(u64) -> u64,
    ) -> CacheSettings {
        let folder = (!bucket.is_local()).then(|| {
            let folder = self.cache_dir.clone().unwrap_or_else(|| common.data_dir.join("read-cache"));
            (folder, self.cache_disk.as_u64())
        });
        CacheSettings { memory_bytes_max: bounded(self.cache_memory.as_u64()), folder }
    }
}

/// Flags about the catalog.
#[derive(Debug, Args)]
pub(super) struct CatalogArgs {
    /// How often readers look for newer catalog versions. Each look costs a LIST and one GET a tenant.
    #[arg(long = "catalog.refresh", default_value = "10s", value_name = "DURATION", value_parser = positive_duration)]
    pub(super) refresh: Duration,
}

/// Flags about the catalog that writers have.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// How long replaced catalog versions and what they name are kept; at least 1d.
    #[arg(long = "catalog.history", default_value = "7d", value_name = "DURATION", value_parser = duration)]
    history: Duration,
}

impl HistoryArgs {
    pub(super) fn settings(&self) -> Result<CatalogSettings, Failure> {
        let history_ms = i64::try_from(self.history.as_millis()).unwrap_or(i64::MAX);
        if history_ms < 86_400_000 {
            let message =
                "--catalog.history: at least 1d is allowed, so that no slow writer meets a deleted version";
            return Err(Failure::new(ErrorKind::Invalid, message));
        }
        Ok(CatalogSettings { history_ms, ..CatalogSettings::default() })
    }
}

/// Flags of what takes remote write.
#[derive(Debug, Args)]
pub(super) struct IngestArgs {
    /// Where remote write listens; nothing else is served there.
    #[arg(long = "remote-write.address", default_value = "127.0.0.1:19291", value_name = "ADDRESS")]
    pub(super) remote_write_address: SocketAddr,
    /// External label, `name="value"`, that identifies this producer; may be given several times.
    #[arg(long = "label", value_name = "NAME=\"VALUE\"", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Label that tells HA replicas apart; may be given several times: a --label of this receiver, or a label that senders
    /// give. Reads hide it on demand, as those of --query.replica-label.
    #[arg(long = "receive.replica-label", id = "receive_replica_labels", value_name = "NAME")]
    pub(super) replica_labels: Vec<String>,
    /// How far back samples may lie.
    #[arg(long = "ingest.max-age", default_value = "7d", value_name = "DURATION", value_parser = duration)]
    max_age: Duration,
    /// How far ahead samples may lie.
    #[arg(long = "ingest.max-future", default_value = "10m", value_name = "DURATION", value_parser = duration)]
    max_future: Duration,
    /// Largest request body after decompression.
    #[arg(long = "ingest.max-body-bytes", default_value = "32MiB", value_name = "BYTES", value_parser = bytes)]
    max_body_bytes: usize,
    /// Bytes that all requests in flight may hold, compressed and decoded each.
    #[arg(long = "ingest.max-in-flight-bytes", default_value = "256MiB", value_name = "BYTES", value_parser = bytes)]
    max_in_flight_bytes: usize,
    /// Most labels of a series.
    #[arg(long = "ingest.max-labels", default_value = "64", value_name = "N", value_parser = count)]
    max_labels: usize,
    /// Longest label name.
    #[arg(long = "ingest.max-label-name-bytes", default_value = "1KiB", value_name = "BYTES", value_parser = bytes)]
    max_label_name_bytes: usize,
    /// Longest label value.
    #[arg(long = "ingest.max-label-value-bytes", default_value = "2KiB", value_name = "BYTES", value_parser = bytes)]
    max_label_value_bytes: usize,
    /// How often the head is cut into blocks. Shorter: less memory and log, more and smaller blocks, one PUT of a
    /// block and two of the catalog per tenant each time.
    #[arg(long = "head.cut-interval", default_value = "30m", value_name = "DURATION", value_parser = positive_duration)]
    pub(super) cut_interval: Duration,
    /// Where a write is stored before it is acknowledged. disk: <data-dir>/log, with an fsync; the volume must outlive
    /// the process. object: the bucket, and no volume is needed; a write then waits up to --log.flush-interval and for
    /// a PUT. At 250ms these are up to 345,600 PUTs a day and receiver (1.73 USD at 5 USD a million), idle 8,640.
    #[arg(long = "log.kind", default_value = "disk", value_name = "KIND")]
    pub(super) log_kind: LogKind,
    /// Shortest time between two entries of the object log. Longer: fewer PUTs, and acknowledgements that come later.
    #[arg(long = "log.flush-interval", default_value = "250ms", value_name = "DURATION", value_parser = flush_interval)]
    pub(super) flush_interval: Duration,
    /// Name of this receiver in the object log; no two that run at once may share it. A restart under the same name takes
    /// back at once what its predecessor logged, others after a minute. Default: the host's name.
    #[arg(long = "receive.name", value_name = "NAME", value_parser = receiver_name)]
    pub(super) receiver_name: Option<String>,
    /// Start although log segments are damaged: what can be read is replayed, the files are kept in <data-dir>/log/damaged.
    /// Damaged entries of an object log are passed over: copy log/<epoch> out of the bucket first.
    #[arg(long = "log.skip-damaged")]
    pub(super) skip_damaged: bool,
    /// Bytes of log and waiting blocks that may lie on this machine while object storage takes nothing; 0 for no
    /// bound. Beyond it writes are refused until it takes some. 20GiB are some 20 h at
    /// 100,000 samples a second of real exporters.
    #[arg(long = "receive.local-bytes-max", default_value = "20GiB", value_name = "BYTES", value_parser = bytes_or_none)]
    local_bytes_max: u64,
    /// What writes beyond --receive.local-bytes-max are answered with. A Prometheus drops samples on 429 unless its
    /// queue_config has retry_on_http_429: true; it keeps them on 503.
    #[arg(long = "receive.local-full-status", default_value = "429", value_name = "STATUS",
          value_parser = ["429", "503"])]
    local_full_status: String,
    #[command(flatten)]
    pub(super) history: HistoryArgs,
}

/// Flags about memory.
#[derive(Debug, Args)]
pub(super) struct MemoryArgs {
    /// Memory that heads, requests and queries may hold together, with all else of the process; 0 for no limit.
    /// [default: 75 % of the cgroup's or the machine's memory]
    #[arg(long = "memory-limit", value_name = "BYTES", value_parser = bytes_or_none)]
    memory_limit: Option<u64>,
}

impl MemoryArgs {
    pub(super) fn limit_bytes(&self) -> u64 {
        self.memory_limit.unwrap_or_else(default_memory_limit)
    }
}

impl IngestArgs {
    /// Returns the bound on what waits on this machine.
    pub(super) fn growth_bound(&self) -> GrowthBound {
        let refusal =
            if self.local_full_status == "429" { ErrorKind::Overloaded } else { ErrorKind::Unavailable };
        GrowthBound { bytes_max: self.local_bytes_max, refusal }
    }

    pub(super) fn settings(&self) -> IngestSettings {
        IngestSettings {
            max_age_ms: i64::try_from(self.max_age.as_millis()).unwrap_or(i64::MAX),
            max_future_ms: i64::try_from(self.max_future.as_millis()).unwrap_or(i64::MAX),
            body_bytes_max: self.max_body_bytes,
            in_flight_bytes_max: self.max_in_flight_bytes,
            labels: Limits {
                labels_max: self.max_labels,
                name_bytes_max: self.max_label_name_bytes,
                value_bytes_max: self.max_label_value_bytes,
            },
        }
    }

    /// Refuses limits that let a label set grow beyond what a log entry takes.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let label_bytes =
            self.max_label_name_bytes.saturating_add(self.max_label_value_bytes).saturating_add(24);
        if self.max_labels.saturating_mul(label_bytes) <= LABEL_SET_BYTES_MAX {
            return Ok(());
        }
        let message = format!(
            "--ingest.max-labels times (--ingest.max-label-name-bytes plus --ingest.max-label-value-bytes) may be at most \
             {LABEL_SET_BYTES_MAX} bytes: lower one of them"
        );
        Err(Failure::new(ErrorKind::Invalid, message))
    }

    /// Returns the external labels; none may be the tenant's. A label of replicas that is not among them has to come
    /// with the series.
    pub(super) fn external_labels(&self, tenant_label: &str) -> Result<Labels, Failure> {
        let invalid = |reason: String| Failure::new(ErrorKind::Invalid, format!("--label: {reason}"));
        if self.labels.iter().any(|(name, _)| name == tenant_label) {
            return Err(invalid(format!(
                "{tenant_label:?} is the tenant's label (--receive.tenant-label-name): choose another name"
            )));
        }
        let is_label = |name: &String| self.labels.iter().any(|(own, _)| own == name);
        for name in self.replica_labels.iter().filter(|name| !is_label(name)) {
            tracing::info!(
                name,
                "no --label has the name of --receive.replica-label, senders have to give it"
            );
        }
        Labels::from_pairs(self.labels.iter().map(|(n, v)| (n, v))).map_err(|e| invalid(e.to_string()))
    }
}
