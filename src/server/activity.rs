//! What a connection has been doing, and whether its client still earns the memory that it takes.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A header that has begun to arrive must be whole within this time.
pub(super) const HEADER_WAIT: Duration = Duration::from_secs(10);

/// A connection without a request is closed after this time. Go's clients close theirs after 90 s, so that they are
/// seldom surprised.
pub(super) const IDLE_WAIT: Duration = Duration::from_secs(120);

/// A client must take some bytes of an answer within this time.
pub(super) const STALL_WAIT: Duration = Duration::from_secs(60);

/// What HTTP/2 clients send first.
const HTTP2_START: &[u8] = b"PRI";

/// Why a connection is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    SlowHeader,
    Idle,
    StalledReader,
    LongRequest,
}

impl Expired {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SlowHeader => "slow_header",
            Self::Idle => "idle",
            Self::StalledReader => "stalled_reader",
            Self::LongRequest => "long_request",
        }
    }
}

#[derive(Debug)]
struct Times {
    first_bytes: Vec<u8>,
    had_request: bool,
    /// When the last request ended, or the connection began.
    idle_since: Instant,
    /// When bytes came that are no request yet.
    header_since: Option<Instant>,
    /// Since when the client takes no bytes.
    blocked_since: Option<Instant>,
    /// When the requests under way began.
    requests: BTreeMap<u64, Instant>,
    next_request: u64,
}

/// What one connection has been doing; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<Times>>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Times {
            first_bytes: Vec::new(),
            had_request: false,
            idle_since: Instant::now(),
            header_since: None,
            blocked_since: None,
            requests: BTreeMap::new(),
            next_request: 0,
        })))
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn received(&self, bytes: &[u8]) {
        let mut times = self.times();
        let missing = HTTP2_START.len().saturating_sub(times.first_bytes.len());
        times.first_bytes.extend(bytes.iter().take(missing));
        if times.requests.is_empty() && !bytes.is_empty() {
            times.header_since.get_or_insert_with(Instant::now);
        }
    }

    fn sent(&self, blocked: bool) {
        let mut times = self.times();
        if blocked {
            times.blocked_since.get_or_insert_with(Instant::now);
        } else {
            times.blocked_since = None;
        }
    }

    /// Notes the start of a request; it lasts until the guard is dropped.
    pub(super) fn begin_request(&self) -> RequestGuard {
        let mut times = self.times();
        let number = times.next_request;
        times.next_request += 1;
        times.had_request = true;
        times.header_since = None;
        times.requests.insert(number, Instant::now());
        drop(times);
        RequestGuard { activity: self.clone(), number }
    }

    /// Returns why the connection should be cut off, if it should.
    pub(super) fn expired(&self, request_wait: Duration) -> Option<Expired> {
        let (times, now) = (self.times(), Instant::now());
        let passed = |since: Instant, wait: Duration| now.saturating_duration_since(since) > wait;
        if times.blocked_since.is_some_and(|since| passed(since, STALL_WAIT)) {
            return Some(Expired::StalledReader);
        }
        if let Some(began) = times.requests.values().min() {
            return passed(*began, request_wait).then_some(Expired::LongRequest);
        }
        let is_http2 = times.first_bytes == HTTP2_START;
        // HTTP/2 probes its connections itself once there was a request; its frames without one are no header.
        if !is_http2 && times.header_since.is_some_and(|since| passed(since, HEADER_WAIT)) {
            return Some(Expired::SlowHeader);
        }
        let may_idle = is_http2 && times.had_request;
        (!may_idle && passed(times.idle_since, IDLE_WAIT)).then_some(Expired::Idle)
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct RequestGuard {
    activity: Activity,
    number: u64,
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut times = self.activity.times();
        times.requests.remove(&self.number);
        times.idle_since = Instant::now();
    }
}

/// The body of an answer; its request lasts until it is sent or given up.
#[derive(Debug)]
pub(super) struct AnswerBody {
    inner: Body,
    _request: RequestGuard,
}

impl AnswerBody {
    pub(super) fn new(inner: Body, request: RequestGuard) -> Self {
        Self { inner, _request: request }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A connection that notes what passes.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    activity: Activity,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, activity: Activity) -> Self {
        Self { stream, activity }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if outcome.is_ready() {
            self.activity.received(buffer.filled().get(before..).unwrap_or_default());
        }
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.sent(outcome.is_pending());
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.activity.sent(outcome.is_pending());
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
