//! HTTP as the stores are spoken to: requests are counted, waits for an answer are bounded, and an answer that the
//! object store crate would give back as text only becomes an [`Answer`] that can be judged.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use tokio::time::Instant;

use super::instruments::Instruments;

/// The most that is read of a refusal.
const REFUSAL_BYTES_MAX: usize = 16 << 10;

/// How long a refusal may take to arrive once its head has.
const REFUSAL_WAIT: Duration = Duration::from_secs(5);

/// Of a refusal's text so much is kept.
const MESSAGE_CHARS_MAX: usize = 200;

/// A longer wait that a store asks for is cut to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// A refusal of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store answered {status} {code}: {message}")]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// The store's word for it, such as `SlowDown`; else the status' own.
    code: String,
    message: String,
    /// How long the store asks to wait.
    pub(super) retry_after: Option<Duration>,
}

/// No answer came in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(super) struct NoAnswer(pub(super) Duration);

/// Makes the clients of one store.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) instruments: Instruments,
    /// How long the head of an answer may take, of requests without a body to send.
    pub(super) answer_within: Duration,
    /// Whether refusals are judged by the bucket's own attempts. Uploads in parts are tried again by the object store
    /// crate, which wants to see the status itself.
    pub(super) judged: bool,
    /// Whether each request is logged.
    pub(super) traced: bool,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Counted { client, connector: self.clone() }))
    }
}

#[derive(Debug)]
struct Counted {
    client: HttpClient,
    connector: Connector,
}

#[async_trait]
impl HttpService for Counted {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let started = Instant::now();
        let answered = self.bounded(&method, request).await;
        let status = answered.as_ref().ok().map(HttpResponse::status);
        self.connector.instruments.count_request(&method, status);
        if self.connector.traced {
            let (status, duration_ms) = (status.map(|s| s.as_u16()), started.elapsed().as_millis());
            tracing::debug!(%method, path, status, duration_ms, "request to object storage");
        }
        let answer = answered?;
        if self.connector.judged && is_judged(answer.status()) {
            return Err(HttpError::new(HttpErrorKind::Unknown, read_refusal(answer).await));
        }
        Ok(answer)
    }
}

impl Counted {
    async fn bounded(&self, method: &Method, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // The answer to a body comes after the body, which takes what it takes; whoever sends it bounds that.
        if !matches!(*method, Method::GET | Method::HEAD | Method::DELETE) {
            return self.client.execute(request).await;
        }
        let wait = self.connector.answer_within;
        match tokio::time::timeout(wait, self.client.execute(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(HttpError::new(HttpErrorKind::Timeout, NoAnswer(wait))),
        }
    }
}

/// Returns whether the object store crate would tell this status only in its text. The others it has errors for.
fn is_judged(status: StatusCode) -> bool {
    let known = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
        StatusCode::CONFLICT,
        StatusCode::PRECONDITION_FAILED,
    ];
    (status.is_client_error() || status.is_server_error()) && !known.contains(&status)
}

async fn read_refusal(response: HttpResponse) -> Answer {
    let (status, retry_after) = (response.status(), retry_after(response.headers()));
    let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect();
    let text = match tokio::time::timeout(REFUSAL_WAIT, body).await {
        Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        _ => String::new(),
    };
    let code = element(&text, "Code").or_else(|| status.canonical_reason()).unwrap_or_default().to_owned();
    let message = element(&text, "Message").unwrap_or(&text);
    let message = message.chars().take(MESSAGE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c });
    Answer { status: status.as_u16(), code, message: message.collect(), retry_after }
}

/// Returns what stands in the first element of a name: the stores' refusals are small XML documents.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!("<{name}>"))?;
    after.split_once("</").map(|(inner, _)| inner)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

impl Answer {
    /// Returns whether the same request may succeed later.
    pub(super) fn is_transient(&self) -> bool {
        match self.status {
            408 | 425 | 429 => true,
            400 => self.code == "RequestTimeout",
            501 | 505 => false,
            status => status >= 500,
        }
    }

    /// Returns whether the store does not know what it was asked for.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self.status, 405 | 501)
    }
}

#[cfg(test)]
pub(super) fn answer(status: u16, code: &str) -> object_store::Error {
    let answer = Answer { status, code: code.to_owned(), message: String::new(), retry_after: None };
    let source = Box::new(HttpError::new(HttpErrorKind::Unknown, answer));
    object_store::Error::Generic { store: "test", source }
}
