//! Prometheus' remote read.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::error::StoreError;
use super::frames::{encode_chunks, wire_chunk};
use super::grpc::REASON_WAIT;
use super::metadata::read_body;
use super::parameters::{Form, Hiding};
use super::pump::{Encode, Sink, pump};
use super::reads::{Deadline, Place, Shared};
use super::series_list::{Batch, BatchReader, SeriesList};
use crate::model::{Labels, TenantId};
use crate::runtime::MemoryReservation;
use crate::tsdb::chunk::SampleChunks;
use crate::wire::remote_read::{
    ReadQuery, ReadRequest, ResponseType, SamplesAnswer, decode_request, encode_frames,
};
use crate::wire::snappy;

/// The largest request, before and after decompression.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// The largest answer in the form of samples; the streamed form has no bound.
const ANSWER_BYTES_MAX: usize = 256 << 20;

const METHOD: &str = "remote_read";

/// A read request whose series are found.
#[derive(Debug)]
struct ReadPlan {
    response_type: ResponseType,
    /// Per query its series, and whether only their label sets are wanted.
    queries: Vec<(Arc<SeriesList>, bool)>,
    /// Held until the answer is sent.
    _place: Place,
    _memory: Vec<MemoryReservation>,
}

/// `POST /api/v1/read`.
pub(super) async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let started_ms = shared.clock.monotonic_ms();
    let deadline = shared.deadline(None);
    let outcome = match shared.within(deadline, shared.plan_read(request)).await {
        Ok(plan) if plan.response_type == ResponseType::StreamedXorChunks => {
            let (sink, messages) = mpsc::channel(1);
            tokio::spawn(async move { shared.stream_read(plan, (deadline, started_ms), sink).await });
            let body = Body::from_stream(ReceiverStream::new(messages));
            return response(ResponseType::StreamedXorChunks, body);
        }
        Ok(plan) => shared.within(deadline, shared.samples_answer(plan)).await,
        Err(error) => Err(error),
    };
    let took_ms = shared.clock.monotonic_ms() - started_ms;
    shared.instruments.ended(METHOD, took_ms, outcome.as_ref().err());
    match outcome {
        Ok(body) => response(ResponseType::Samples, Body::from(body)),
        Err(error) => {
            let status = StatusCode::from_u16(error.kind().http_status());
            (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), format!("{error}\n")).into_response()
        }
    }
}

fn response(form: ResponseType, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    if let Some(encoding) = form.content_encoding() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

impl Shared {
    async fn plan_read(&self, request: Request) -> Result<ReadPlan, StoreError> {
        let place = self.place().await?;
        let (parts, body) = request.into_parts();
        let tenant = self.settings.tenant(&parts.headers)?;
        let form = Form::parse(&[parts.uri.query().unwrap_or("").as_bytes()]);
        let hidden = Hiding::parse(&form)?.labels(&self.settings.replica_labels);
        let compressed = read_body(body, REQUEST_BYTES_MAX).await?;
        let decode = move || {
            let mut body = Vec::new();
            snappy::decode_into(&compressed, REQUEST_BYTES_MAX, &mut body)?;
            decode_request(&body)
        };
        let request = self.selector.cpu().run(decode).await??;
        let (queries, memory) = self.with_relief(|| self.find_all(&tenant, &request, &hidden)).await?;
        Ok(ReadPlan { response_type: request.response_type, queries, _place: place, _memory: memory })
    }

    /// Finds the series of every query of a request, and takes the memory for reading them.
    async fn find_all(
        &self,
        tenant: &TenantId,
        ReadRequest { queries, response_type }: &ReadRequest,
        hidden: &[String],
    ) -> Result<(Vec<(Arc<SeriesList>, bool)>, Vec<MemoryReservation>), StoreError> {
        let (mut lists, mut memory) = (Vec::with_capacity(queries.len()), Vec::new());
        let (mut samples, mut bytes, mut batches_bytes) = (0u64, 0u64, 0);
        let (reading, looking) = (self.budget(true), self.budget(false));
        for ReadQuery { matchers, range, labels_only } in queries {
            let labels_only = *labels_only && *response_type == ResponseType::Samples;
            let budget = if labels_only { &looking } else { &reading };
            let found = self.select_one(tenant, matchers, *range, budget).await?;
            memory.push(self.reserve_list(&found)?);
            let (hidden, budgeted) = (hidden.to_vec(), self.settings.memory.clone());
            let list = move || {
                let list = SeriesList::new(found, &hidden, None, &budgeted).merged();
                let batches_bytes = list.two_batches_bytes_max(0);
                (list, batches_bytes)
            };
            let (list, list_batches_bytes) = self.selector.cpu().run(list).await?;
            if !labels_only {
                samples = samples.saturating_add(list.samples_max());
                bytes = bytes.saturating_add(list.all_bytes_max());
                // One query is read after the other.
                batches_bytes = list_batches_bytes.max(batches_bytes);
            }
            lists.push((Arc::new(list), labels_only));
        }
        self.check_samples(samples)?;
        memory.push(self.reserve(batches_bytes)?);
        if *response_type == ResponseType::Samples {
            // The answer is built whole, and compressed from there. A float takes 16 bytes in it instead of 24.
            let answer_bytes = (bytes / 3).saturating_mul(4).min(2 * ANSWER_BYTES_MAX as u64);
            memory.push(self.reserve(answer_bytes)?);
        }
        Ok((lists, memory))
    }

    /// Builds the one message of an answer in samples, compressed.
    async fn samples_answer(&self, plan: ReadPlan) -> Result<Vec<u8>, StoreError> {
        let cpu = self.selector.cpu();
        let mut building = SamplesBuilder::default();
        for (list, labels_only) in &plan.queries {
            if *labels_only {
                let list = Arc::clone(list);
                building = cpu.run(move || building.with_label_sets(&list)).await?;
            } else {
                let mut reader = BatchReader::new(Arc::clone(list), 0);
                while let Some(batch) = reader.read().await? {
                    building = cpu.run(move || building.with_batch(&batch)).await?;
                    if building.answer.byte_len() > ANSWER_BYTES_MAX {
                        return Err(StoreError::AnswerTooLarge(ANSWER_BYTES_MAX));
                    }
                }
            }
            building.answer.end_query();
        }
        self.instruments.served(METHOD, building.series, building.samples);
        Ok(cpu.run(move || snappy::encode(&building.answer.finish())).await??)
    }

    /// Sends chunk frames until the end, the deadline, the process's stop or the client's going.
    async fn stream_read(&self, plan: ReadPlan, (deadline, started_ms): (Deadline, i64), sink: Sink<Bytes>) {
        let work = async {
            for (query, (list, _)) in plan.queries.iter().enumerate() {
                let reader = BatchReader::new(Arc::clone(list), 0);
                let encoder = ChunkFrames { query, ..ChunkFrames::default() };
                let done = pump(reader, encoder, self.selector.cpu(), &sink).await?;
                self.instruments.served(METHOD, done.series, done.samples);
            }
            Ok(())
        };
        let outcome = tokio::select! {
            biased;
            () = sink.closed() => return self.instruments.abandoned(METHOD),
            outcome = self.within(deadline, work) => outcome,
        };
        let took_ms = self.clock.monotonic_ms() - started_ms;
        self.instruments.ended(METHOD, took_ms, outcome.as_ref().err());
        drop(plan);
        if let Err(error) = outcome {
            // Breaks the body off, so that the client cannot take it for whole.
            let _ = tokio::time::timeout(REASON_WAIT, sink.send(Err(error))).await;
        }
    }
}

#[derive(Debug, Default)]
struct SamplesBuilder {
    answer: SamplesAnswer,
    series: u64,
    samples: u64,
}

impl SamplesBuilder {
    fn with_label_sets(mut self, list: &SeriesList) -> Self {
        let mut sets: Vec<&Labels> = (0..list.len()).map(|index| list.labels(index)).collect();
        sets.dedup();
        sets.iter().for_each(|labels| self.answer.push_series(labels, &[]));
        self.series += sets.len() as u64;
        self
    }

    fn with_batch(mut self, batch: &Batch) -> Self {
        for (labels, parts) in batch.iter().filter(|(_, parts)| !parts.is_empty()) {
            self.answer.push_series(labels, parts);
            self.series += 1;
            self.samples += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        }
        self
    }
}

/// Frames of `STREAMED_XOR_CHUNKS`.
#[derive(Debug, Default)]
struct ChunkFrames {
    query: usize,
    chunks: SampleChunks,
    series: u64,
    samples: u64,
}

impl Encode for ChunkFrames {
    type Messages = Bytes;

    fn encode(&mut self, batch: &Batch) -> Result<Bytes, StoreError> {
        let mut out = Vec::new();
        for (labels, parts) in batch.iter().filter(|(_, parts)| !parts.is_empty()) {
            encode_chunks(&mut self.chunks, labels, parts)?;
            encode_frames(self.query, labels, self.chunks.iter().map(wire_chunk), &mut out);
            self.series += 1;
            self.samples += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        }
        Ok(Bytes::from(out))
    }
}
