//! The remote-write endpoint over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::batch::{Batch, BatchRoom, Count, Tally, decode_request};
use super::commit::{Commands, CommitError};
use super::growth::GrowthFull;
use super::settings::{IngestSettings, Room, TenantSettings};
use crate::head::Heads;
use crate::model::{ErrorKind, TenantError, TenantId, error_chain};
use crate::runtime::{Clock, Cpu, CpuError, MemoryFull, MemoryReservation, MemoryUse, Metrics};
use crate::wire::remote_write::Protocol;
use crate::wire::{WireError, snappy};

/// How long a request waits for room among the bytes in flight before it is sent away.
const ROOM_WAIT: Duration = Duration::from_secs(10);

/// How long the body of a request may take to arrive, and how long a part of it.
const BODY_WAIT: Duration = Duration::from_secs(60);
const BODY_PART_WAIT: Duration = Duration::from_secs(10);

/// What a sender is told to wait before it tries again: while something is short for a moment, and while the disk holds
/// all it may.
const RETRY_SOON: &str = "5";
const RETRY_LATER: &str = "30";

/// While a request is decoded it counts as three times its body: as it came, as samples with their series, and as an entry
/// of the log. Then it is known what the samples take.
const DECODED_FACTOR: u64 = 3;

/// No request counts for more than this share of the memory budget.
const REQUEST_PERCENT_MAX: u64 = 25;

/// Why a request was refused as a whole.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Tenant(#[from] TenantError),
    #[error(
        "content encoding {0:?} is not supported: send snappy's block format with Content-Encoding: snappy"
    )]
    Encoding(String),
    #[error("the body is larger than {0} bytes (--ingest.max-body-bytes): send fewer samples in one request")]
    BodyTooLarge(usize),
    #[error("the body did not arrive: {0}")]
    Body(String),
    #[error("too many bytes in flight (--ingest.max-in-flight-bytes): send again later")]
    NoRoom,
    #[error(transparent)]
    NoMemory(#[from] MemoryFull),
    #[error(transparent)]
    DiskBound(#[from] GrowthFull),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Cpu(#[from] CpuError),
}

impl WriteError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Tenant(_) => ErrorKind::Invalid,
            Self::Encoding(_) => ErrorKind::Unsupported,
            Self::BodyTooLarge(_) => ErrorKind::TooLarge,
            // Neither 429 nor 400: a Prometheus drops its data then, and these pass by themselves.
            Self::Body(_) | Self::NoRoom | Self::NoMemory(_) | Self::Commit(_) => ErrorKind::Unavailable,
            Self::DiskBound(full) => full.kind(),
            Self::Wire(error) => error.kind(),
            Self::Cpu(_) => ErrorKind::Internal,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    code: u16,
}

#[derive(Debug)]
struct WriteMetrics {
    requests: Family<Status, Counter>,
    samples: Counter,
    others: Family<Kind, Counter>,
    refused: Counter,
    others_refused: Family<Kind, Counter>,
}

/// Takes remote-write requests; clones share it.
#[derive(Debug, Clone)]
pub struct WriteEndpoint(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ingest: IngestSettings,
    tenants: TenantSettings,
    room: Room,
    heads: Arc<Heads>,
    commands: Commands,
    cpu: Cpu,
    clock: Arc<dyn Clock>,
    compressed_room: Arc<Semaphore>,
    decoded_room: Arc<Semaphore>,
    metrics: WriteMetrics,
}

impl WriteEndpoint {
    /// Prepares the endpoint.
    #[must_use]
    pub fn new(
        (ingest, tenants, room): (IngestSettings, TenantSettings, Room),
        heads: Arc<Heads>,
        commands: Commands,
        cpu: Cpu,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        let places = || Arc::new(Semaphore::new(ingest.in_flight_bytes_max.min(Semaphore::MAX_PERMITS)));
        let (compressed_room, decoded_room) = (places(), places());
        let metrics = WriteMetrics {
            requests: metrics.register(
                "write_requests",
                "Remote-write requests by status",
                Family::default(),
            ),
            samples: metrics.register("write_samples", "Float samples acknowledged", Counter::default()),
            others: metrics.register(
                "write_others",
                "Histograms, exemplars and metadata entries acknowledged",
                Family::default(),
            ),
            refused: metrics.register("write_samples_refused", "Float samples refused", Counter::default()),
            others_refused: metrics.register(
                "write_others_refused",
                "Histograms, exemplars and metadata entries refused",
                Family::default(),
            ),
        };
        Self(Arc::new(Shared {
            ingest,
            tenants,
            room,
            heads,
            commands,
            cpu,
            clock,
            compressed_room,
            decoded_room,
            metrics,
        }))
    }

    /// Returns the routes: `POST /api/v1/receive` and `POST /api/v1/write`.
    pub fn routes(self) -> axum::Router {
        axum::Router::new()
            .route("/api/v1/receive", post(handle))
            .route("/api/v1/write", post(handle))
            .with_state(self)
    }
}

async fn handle(State(endpoint): State<WriteEndpoint>, request: Request<Body>) -> Response {
    let shared = &endpoint.0;
    let response = match shared.write(request).await {
        Ok(tally) => shared.answer(&tally),
        Err(error) => {
            let kind = error.kind();
            // Both are told by whoever makes room; a line for each request would be a flood of its own.
            let told = matches!(error, WriteError::NoMemory(_) | WriteError::DiskBound(_));
            if kind.http_status() >= 500 && !told {
                tracing::warn!(error = error_chain(&error), "a write was not taken");
            }
            let mut answer = answer(kind.http_status(), [0; 3], error_chain(&error));
            if let Some(wait) = retry_after(&error) {
                answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(wait));
            }
            answer
        }
    };
    shared.metrics.requests.get_or_create(&Status { code: response.status().as_u16() }).inc();
    response
}

/// Returns how long a sender should wait, where trying again can help.
fn retry_after(error: &WriteError) -> Option<&'static str> {
    match error {
        WriteError::DiskBound(_) => Some(RETRY_LATER),
        error => (error.kind() == ErrorKind::Unavailable).then_some(RETRY_SOON),
    }
}

/// Makes an answer with the headers of remote write 2.0, which say exactly what was written: samples, histograms and
/// exemplars.
fn answer(status: u16, written: [u64; 3], text: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response =
        if text.is_empty() { status.into_response() } else { (status, text + "\n").into_response() };
    let names = [
        "x-prometheus-remote-write-samples-written",
        "x-prometheus-remote-write-histograms-written",
        "x-prometheus-remote-write-exemplars-written",
    ];
    for (name, written) in names.into_iter().zip(written) {
        response.headers_mut().insert(name, HeaderValue::from(written));
    }
    response
}

impl Shared {
    async fn write(&self, request: Request<Body>) -> Result<Tally, WriteError> {
        let (parts, body) = request.into_parts();
        let tenant = self.tenants.tenant(&parts.headers)?;
        let protocol = Protocol::from_content_type(text_of(&parts.headers, &header::CONTENT_TYPE))?;
        let encoding = text_of(&parts.headers, &header::CONTENT_ENCODING);
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("snappy") {
            return Err(WriteError::Encoding(encoding.chars().take(100).collect()));
        }
        self.room.growth.check()?;
        let (compressed, _compressed_room) = self.read_body(&parts.headers, body).await?;
        let length = snappy::declared_len(&compressed)?;
        if length > self.ingest.body_bytes_max {
            return Err(WireError::BodyTooLarge { bytes: length, limit: self.ingest.body_bytes_max }.into());
        }
        // Goes with the batch until its samples are in the head, even where the client does not wait for that.
        let bytes = self.wait_for_room(&self.decoded_room, length).await?;
        let mut memory = self.reserve(DECODED_FACTOR * length as u64)?;
        let (mut batch, tally) = self.decode(compressed, protocol, tenant).await?;
        // Many small histograms take a lot more than their bytes.
        memory.resize(self.at_most((batch.parts.memory_bytes() + length) as u64))?;
        batch.room = Some(BatchRoom { bytes, memory });
        if !batch.is_empty() {
            self.commands.write(batch).await?;
        }
        Ok(tally)
    }

    /// Reads the compressed body, within the limit and the bytes in flight.
    async fn read_body(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(bytes::Bytes, BatchRoom), WriteError> {
        // Snappy never grows bytes by more than a sixth.
        let limit = self.ingest.body_bytes_max + self.ingest.body_bytes_max / 6 + 64;
        let claimed = text_of(headers, &header::CONTENT_LENGTH).parse::<usize>();
        if claimed.is_ok_and(|claimed| claimed > limit) {
            return Err(WriteError::BodyTooLarge(limit));
        }
        match tokio::time::timeout(BODY_WAIT, self.gather_body(body, limit)).await {
            Ok(gathered) => gathered,
            Err(_) => Err(WriteError::Body(format!("not within {} s", BODY_WAIT.as_secs()))),
        }
    }

    /// Gathers a body. It takes room as it arrives, not for what its sender says that it will send: clients that send
    /// nothing must not keep out others.
    async fn gather_body(
        &self,
        mut body: Body,
        limit: usize,
    ) -> Result<(bytes::Bytes, BatchRoom), WriteError> {
        let bytes = self.wait_for_room(&self.compressed_room, 0).await?;
        let mut room = BatchRoom { bytes, memory: self.reserve(0)? };
        let mut gathered = BytesMut::new();
        loop {
            let part = tokio::time::timeout(BODY_PART_WAIT, body.frame()).await;
            let Ok(part) = part else {
                return Err(WriteError::Body(format!("nothing came for {} s", BODY_PART_WAIT.as_secs())));
            };
            let Some(part) = part else { return Ok((gathered.freeze(), room)) };
            let Ok(part) = part.map_err(|error| WriteError::Body(error.to_string()))?.into_data() else {
                continue;
            };
            let size = gathered.len() + part.len();
            if size > limit {
                return Err(WriteError::BodyTooLarge(limit));
            }
            room.memory.resize(self.at_most(size as u64))?;
            let more = size.min(self.ingest.in_flight_bytes_max).saturating_sub(room.bytes.num_permits());
            room.bytes.merge(self.wait_for_room(&self.compressed_room, more).await?);
            gathered.extend_from_slice(&part);
        }
    }

    /// Takes a part of the memory budget; a request that could never fit takes as much as one may.
    fn reserve(&self, bytes: u64) -> Result<MemoryReservation, MemoryFull> {
        self.room.memory.reserve(MemoryUse::Requests, self.at_most(bytes))
    }

    fn at_most(&self, bytes: u64) -> u64 {
        self.room.memory.at_most(bytes, REQUEST_PERCENT_MAX)
    }

    /// Reserves bytes; a request that could never fit reserves all there is.
    async fn wait_for_room(
        &self,
        room: &Arc<Semaphore>,
        bytes: usize,
    ) -> Result<OwnedSemaphorePermit, WriteError> {
        let bytes = bytes.min(self.ingest.in_flight_bytes_max);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let acquire = Arc::clone(room).acquire_many_owned(bytes);
        match tokio::time::timeout(ROOM_WAIT, acquire).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(WriteError::NoRoom),
        }
    }

    async fn decode(
        &self,
        compressed: bytes::Bytes,
        protocol: Protocol,
        tenant: TenantId,
    ) -> Result<(Batch, Tally), WriteError> {
        let (heads, settings) = (Arc::clone(&self.heads), self.ingest.clone());
        let now_ms = self.clock.now_ms();
        let job = move || decode_request(&compressed, protocol, &tenant, &heads, (&settings, now_ms));
        Ok(self.cpu.run(job).await??)
    }

    /// Answers a request that was read: 204 where all is written, else 400 with what is not and why.
    fn answer(&self, tally: &Tally) -> Response {
        let Tally { samples, histograms, exemplars, metadata, .. } = tally;
        self.metrics.samples.inc_by(samples.written);
        self.metrics.refused.inc_by(samples.refused);
        for (kind, count) in [("histogram", histograms), ("exemplar", exemplars), ("metadata", metadata)] {
            if count.written > 0 {
                self.metrics.others.get_or_create(&Kind { kind }).inc_by(count.written);
            }
            if count.refused > 0 {
                self.metrics.others_refused.get_or_create(&Kind { kind }).inc_by(count.refused);
            }
        }
        let written = [samples.written, histograms.written, exemplars.written];
        let Some(first) = &tally.first_refusal else { return answer(204, written, String::new()) };
        let kinds = [
            ("samples", samples),
            ("histograms", histograms),
            ("exemplars", exemplars),
            ("metadata entries", metadata),
        ];
        let said = |count: fn(&Count) -> u64| {
            let some = kinds.iter().filter(|(_, counts)| count(counts) > 0);
            let some: Vec<_> = some.map(|(name, counts)| format!("{} {name}", count(counts))).collect();
            if some.is_empty() { "nothing".to_owned() } else { some.join(", ") }
        };
        let (refused, kept) = (said(|count| count.refused), said(|count| count.written));
        let text = format!(
            "refused: {refused} of {} series; written: {kept}; first refusal: {first}",
            tally.series_refused
        );
        answer(400, written, text)
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}
