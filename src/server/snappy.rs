//! gRPC messages compressed with `snappy`, which Thanos speaks and tonic does not.
//!
//! Stands before the services: decompresses what a client sends so, and compresses the answer to it, as servers of Go
//! do. A client that sends plain messages gets plain ones.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::Stream;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tonic::{Code, Status};

use crate::runtime::Cpu;
use crate::wire::snappy_stream;
use crate::wire::store_api::REQUEST_BYTES_MAX;

const ENCODING: &str = "grpc-encoding";
const SNAPPY: &str = "snappy";

/// Before a message stand whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Larger messages are compressed on a compute thread.
const INLINE_BYTES_MAX: usize = 16 << 10;

/// Takes and sends compressed messages, where a client does.
pub(super) async fn snappy(State(cpu): State<Cpu>, mut request: Request, next: Next) -> Response {
    if request.headers().get(ENCODING).is_none_or(|value| value != SNAPPY) {
        return next.run(request).await;
    }
    request.headers_mut().remove(ENCODING);
    let mut response = next.run(request.map(|body| transform(body, Direction::Decompress))).await;
    // An answer without messages has its status among the headers.
    if response.headers().contains_key("grpc-status") {
        return response;
    }
    response.headers_mut().insert(ENCODING, HeaderValue::from_static(SNAPPY));
    response.map(|body| transform(body, Direction::Compress(cpu)))
}

#[derive(Debug)]
enum Direction {
    Decompress,
    Compress(Cpu),
}

/// What a body consists of.
enum Part {
    Message { compressed: bool, data: Bytes },
    Trailers(HeaderMap),
}

/// Takes a body apart.
#[derive(Debug)]
struct Parts {
    body: Body,
    buffer: BytesMut,
    message_bytes_max: usize,
}

impl Parts {
    async fn next(&mut self) -> Result<Option<Part>, Status> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                let whole = self.buffer.is_empty();
                return if whole { Ok(None) } else { Err(Status::internal("a message is cut off")) };
            };
            let frame = frame.map_err(|error| Status::unavailable(error.to_string()))?;
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => return Ok(frame.into_trailers().ok().map(Part::Trailers)),
            }
        }
    }

    fn take_message(&mut self) -> Result<Option<Part>, Status> {
        let Some((flag, rest)) = self.buffer.split_first() else { return Ok(None) };
        let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
        let (compressed, length) = (*flag == 1, u32::from_be_bytes(*length) as usize);
        if length > self.message_bytes_max {
            let allowed = self.message_bytes_max;
            return Err(Status::out_of_range(format!(
                "the message has {length} bytes and {allowed} are allowed"
            )));
        }
        if self.buffer.len() - PREFIX_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(Part::Message { compressed, data: self.buffer.split_to(length).freeze() }))
    }
}

fn message(compressed: bool, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + data.len());
    out.put_u8(compressed.into());
    // A message is far below 4 GiB: neither side takes larger ones.
    out.put_u32(u32::try_from(data.len()).unwrap_or(u32::MAX));
    out.put_slice(data);
    out.freeze()
}

impl Direction {
    async fn apply(&self, compressed: bool, data: Bytes) -> Result<Bytes, Status> {
        let refused = |error: crate::wire::WireError| {
            Status::new(Code::from(error.kind().grpc_code()), error.to_string())
        };
        match self {
            Self::Decompress if compressed => {
                let plain = snappy_stream::decode(&data, REQUEST_BYTES_MAX).map_err(refused)?;
                Ok(message(false, &plain))
            }
            Self::Decompress => Ok(message(false, &data)),
            Self::Compress(cpu) => {
                let is_small = data.len() <= INLINE_BYTES_MAX;
                let compress = move || snappy_stream::encode(&data).map(|bytes| message(true, &bytes));
                let done = match is_small {
                    true => compress(),
                    false => cpu.run(compress).await.map_err(|e| Status::internal(e.to_string()))?,
                };
                done.map_err(refused)
            }
        }
    }
}

fn transform(body: Body, direction: Direction) -> Body {
    let message_bytes_max = match direction {
        Direction::Decompress => REQUEST_BYTES_MAX,
        Direction::Compress(_) => usize::MAX,
    };
    let parts = Parts { body, buffer: BytesMut::new(), message_bytes_max };
    Body::new(StreamBody::new(frames(parts, direction)))
}

fn frames(parts: Parts, direction: Direction) -> impl Stream<Item = Result<Frame<Bytes>, Status>> + Send {
    futures::stream::try_unfold((parts, direction), |(mut parts, direction)| async move {
        let frame = match parts.next().await? {
            None => return Ok(None),
            Some(Part::Trailers(trailers)) => Frame::trailers(trailers),
            Some(Part::Message { compressed, data }) => Frame::data(direction.apply(compressed, data).await?),
        };
        Ok(Some((frame, (parts, direction))))
    })
}
