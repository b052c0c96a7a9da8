//! `thanos.Store` over gRPC.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Response, Status};

use super::error::StoreError;
use super::frames::FrameEncoder;
use super::label_sets::{Truncated, label_names, label_values};
use super::pump::{Encode, Sink, pump};
use super::reads::{Deadline, LookedUp, Shared};
use super::series_list::{BatchReader, SeriesList};
use crate::model::{Matcher, TimeRange};
use crate::runtime::MemoryReservation;
use crate::select::LabelQuery;
use crate::wire::WireError;
use crate::wire::store_api::store_server::{Store, StoreServer};
use crate::wire::store_api::{
    LabelMatcher, LabelNamesRequest, LabelNamesResponse, LabelValuesRequest, LabelValuesResponse,
    REQUEST_BYTES_MAX, SeriesRequest, SeriesResponse, decode_matchers,
};

/// So many series without chunks are encoded at once.
const LABEL_SETS_AT_ONCE: usize = 4_096;

/// How long a client is given to take the reason for which its answer ends.
pub(super) const REASON_WAIT: Duration = Duration::from_secs(10);

/// `thanos.Store` over all tenants.
#[derive(Debug)]
pub(super) struct StoreApi(pub(super) Arc<Shared>);

impl StoreApi {
    pub(super) fn service(shared: Arc<Shared>) -> StoreServer<Self> {
        StoreServer::new(Self(shared))
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    }
}

/// Turns a failure into a gRPC status.
pub(super) fn status(error: &StoreError) -> Status {
    Status::new(Code::from(error.kind().grpc_code()), error.to_string())
}

/// Returns how long the client waits for an answer, where it says so.
pub(super) fn client_waits<T>(request: &Request<T>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.saturating_mul(3_600))),
        "M" => Some(Duration::from_secs(number.saturating_mul(60))),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

impl Shared {
    /// Turns matchers of the wire into the model's; expressions are compiled on a compute thread.
    async fn matchers(&self, matchers: Vec<LabelMatcher>) -> Result<Vec<Matcher>, StoreError> {
        let decoded: Result<_, WireError> =
            self.selector.cpu().run(move || decode_matchers(&matchers)).await?;
        Ok(decoded?)
    }

    /// Finds the series of a request. The memory for their list and for reading them is taken until it is dropped.
    async fn plan(
        &self,
        request: &SeriesRequest,
        series_max: usize,
    ) -> Result<(SeriesList, [MemoryReservation; 2]), StoreError> {
        if request.matchers.is_empty() {
            return Err(StoreError::NoMatchers);
        }
        let matchers = self.matchers(request.matchers.clone()).await?;
        let range = TimeRange::from_inclusive(request.min_time, request.max_time);
        let budget = self.budget(!request.skip_chunks);
        let found = self.select_all(&matchers, range, &budget).await?;
        let (replica_labels, shard) = (request.without_replica_labels.clone(), request.shard_info.clone());
        let (cpu, of_list) = (self.selector.cpu(), self.reserve_list(&found)?);
        let memory = self.settings.memory.clone();
        let list = cpu.run(move || {
            let list = SeriesList::new(found, &replica_labels, shard.as_ref(), &memory);
            let bytes = list.two_batches_bytes_max(series_max);
            (list, bytes)
        });
        let (list, batches_bytes) = list.await?;
        if request.skip_chunks {
            return Ok((list, [of_list, self.reserve(0)?]));
        }
        self.check_samples(list.samples_max())?;
        Ok((list, [of_list, self.reserve(batches_bytes)?]))
    }

    pub(super) async fn answer_series(
        &self,
        request: &SeriesRequest,
        sink: &Sink<Vec<SeriesResponse>>,
    ) -> Result<(), StoreError> {
        let _place = self.place().await?;
        let series_max = usize::try_from(request.limit).unwrap_or(0);
        let (list, _memory) = self.with_relief(|| self.plan(request, series_max)).await?;
        let list = Arc::new(list);
        let mut encoder = FrameEncoder::new(request);
        if request.skip_chunks {
            encoder = self.send_label_sets(&list, encoder, sink).await?;
        } else {
            encoder = pump(BatchReader::new(list, series_max), encoder, self.selector.cpu(), sink).await?;
        }
        self.instruments.served("Series", encoder.series, encoder.samples);
        Ok(())
    }

    async fn send_label_sets(
        &self,
        list: &Arc<SeriesList>,
        mut encoder: FrameEncoder,
        sink: &Sink<Vec<SeriesResponse>>,
    ) -> Result<FrameEncoder, StoreError> {
        for start in (0..list.len()).step_by(LABEL_SETS_AT_ONCE) {
            let list = Arc::clone(list);
            let encoding = self.selector.cpu().run(move || {
                let end = list.len().min(start + LABEL_SETS_AT_ONCE);
                (start..end).for_each(|index| encoder.push_labels(list.labels(index)));
                let frames = encoder.take();
                (encoder, frames)
            });
            let frames;
            (encoder, frames) = encoding.await?;
            if sink.send(Ok(frames)).await.is_err() || encoder.is_complete() {
                break;
            }
        }
        Ok(encoder)
    }

    /// Answers until the end, the deadline, the process's stop or the client's going.
    async fn stream_series(
        &self,
        request: SeriesRequest,
        deadline: Deadline,
        sink: Sink<Vec<SeriesResponse>>,
    ) {
        let started_ms = self.clock.monotonic_ms();
        let answer = self.within(deadline, self.answer_series(&request, &sink));
        let outcome = tokio::select! {
            biased;
            () = sink.closed() => return self.instruments.abandoned("Series"),
            outcome = answer => outcome,
        };
        let took_ms = self.clock.monotonic_ms() - started_ms;
        self.instruments.ended("Series", took_ms, outcome.as_ref().err());
        if let Err(error) = outcome {
            // A client that has stopped reading has no use for it; the listener cuts it off.
            let _ = tokio::time::timeout(REASON_WAIT, sink.send(Err(error))).await;
        }
    }

    /// Runs a unary call within its deadline and counts it.
    pub(super) async fn call<T>(
        &self,
        method: &'static str,
        waits: Option<Duration>,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<Response<T>, Status> {
        let started_ms = self.clock.monotonic_ms();
        let placed = async {
            let _place = self.place().await?;
            work.await
        };
        let outcome = self.within(self.deadline(waits), placed).await;
        let took_ms = self.clock.monotonic_ms() - started_ms;
        self.instruments.ended(method, took_ms, outcome.as_ref().err());
        outcome.map(Response::new).map_err(|error| status(&error))
    }

    async fn looked_up(
        &self,
        matchers: Vec<LabelMatcher>,
        (start, end): (i64, i64),
        query: &LabelQuery,
    ) -> Result<Vec<LookedUp>, StoreError> {
        let matchers = self.matchers(matchers).await?;
        let range = TimeRange::from_inclusive(start, end);
        self.with_relief(|| self.look_up_all(&matchers, range, query)).await
    }
}

#[tonic::async_trait]
impl Store for StoreApi {
    type SeriesStream = Pin<Box<dyn Stream<Item = Result<SeriesResponse, Status>> + Send>>;

    async fn series(&self, request: Request<SeriesRequest>) -> Result<Response<Self::SeriesStream>, Status> {
        let deadline = self.0.deadline(client_waits(&request));
        let (shared, request) = (Arc::clone(&self.0), request.into_inner());
        // One message waits while another one is sent and the next is read.
        let (sink, messages) = mpsc::channel(1);
        tokio::spawn(async move { shared.stream_series(request, deadline, sink).await });
        let frames = ReceiverStream::new(messages).flat_map(|message| {
            let frames: Vec<Result<SeriesResponse, Status>> = match message {
                Ok(frames) => frames.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(status(&error))],
            };
            futures::stream::iter(frames)
        });
        Ok(Response::new(Box::pin(frames)))
    }

    async fn label_names(
        &self,
        request: Request<LabelNamesRequest>,
    ) -> Result<Response<LabelNamesResponse>, Status> {
        let (shared, waits, request) = (&self.0, client_waits(&request), request.into_inner());
        let work = async {
            let times = (request.start, request.end);
            let found = shared.looked_up(request.matchers, times, &LabelQuery::Names).await?;
            let (drop, limit) = (request.without_replica_labels, request.limit);
            let cpu = shared.selector.cpu();
            let Truncated { items, .. } =
                cpu.run(move || Truncated::new(label_names(found, &drop), limit)).await?;
            Ok(LabelNamesResponse { names: items, ..Default::default() })
        };
        shared.call("LabelNames", waits, work).await
    }

    async fn label_values(
        &self,
        request: Request<LabelValuesRequest>,
    ) -> Result<Response<LabelValuesResponse>, Status> {
        let (shared, waits, request) = (&self.0, client_waits(&request), request.into_inner());
        let work = async {
            if request.label.is_empty() {
                let (name, allowed) = ("label", "a label name");
                return Err(StoreError::Parameter { name, value: String::new(), allowed });
            }
            if request.without_replica_labels.contains(&request.label) {
                return Ok(LabelValuesResponse::default());
            }
            let (label, limit, times) = (request.label, request.limit, (request.start, request.end));
            let query = LabelQuery::Values(label.clone());
            let found = shared.looked_up(request.matchers, times, &query).await?;
            let cpu = shared.selector.cpu();
            let Truncated { items, .. } =
                cpu.run(move || Truncated::new(label_values(found, &label), limit)).await?;
            Ok(LabelValuesResponse { values: items, ..Default::default() })
        };
        shared.call("LabelValues", waits, work).await
    }
}
