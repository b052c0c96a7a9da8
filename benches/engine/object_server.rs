//! A local folder served as an S3 bucket: GET with ranges, HEAD and LIST, each answered after a pause.
//!
//! The S3 server of the tests takes about 10 ms of one thread a request, more than what is measured here.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{Method, StatusCode, header};

const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    pause: Duration,
    block_requests: AtomicU64,
    block_bytes: AtomicU64,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct ObjectServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl ObjectServer {
    /// Serves a folder; every answer waits for `pause` first.
    pub(crate) async fn start(folder: &Path, pause: Duration) -> Self {
        let counters = (AtomicU64::new(0), AtomicU64::new(0));
        let (block_requests, block_bytes) = counters;
        let shared = Arc::new(Shared { folder: folder.to_owned(), pause, block_requests, block_bytes });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, task }
    }

    /// The bucket as Thanos would be told of it.
    pub(crate) fn objstore_config(&self) -> String {
        format!(
            "type: S3\nconfig:\n  bucket: bench\n  endpoint: {}\n  region: us-east-1\n  insecure: true\n  \
             access_key: test\n  secret_key: test\n",
            self.address
        )
    }

    /// Returns requests for blocks and the bytes they were answered with since the last call.
    pub(crate) fn take(&self) -> (u64, u64) {
        let Shared { block_requests, block_bytes, .. } = self.shared.as_ref();
        (block_requests.swap(0, Ordering::Relaxed), block_bytes.swap(0, Ordering::Relaxed))
    }
}

impl Drop for ObjectServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    tokio::time::sleep(shared.pause).await;
    let key = request.uri().path().trim_start_matches("/bench").trim_matches('/').to_owned();
    let query = request.uri().query().unwrap_or("").to_owned();
    if key.is_empty() {
        let list = query.contains("list-type=2");
        return if list { listing(&shared.folder, &query) } else { failure("NotImplemented") };
    }
    let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let head = request.method() == Method::HEAD;
    object(&shared, &key, range.as_deref(), head).unwrap_or_else(|| failure("NoSuchKey"))
}

fn failure(code: &str) -> Response {
    let status = if code == "NoSuchKey" { StatusCode::NOT_FOUND } else { StatusCode::NOT_IMPLEMENTED };
    let body = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

fn object(shared: &Shared, key: &str, range: Option<&str>, head: bool) -> Option<Response> {
    let mut file = std::fs::File::open(shared.folder.join(key)).ok()?;
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    let asked = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (start, end) = match asked {
        Some((start, end)) => (start.parse().ok()?, size.min(end.parse::<u64>().ok()? + 1)),
        None => (0, size),
    };
    let mut bytes = Vec::new();
    if !head {
        file.seek(SeekFrom::Start(start)).ok()?;
        file.take(end - start).read_to_end(&mut bytes).ok()?;
    }
    if key.contains("/blocks/") {
        shared.block_requests.fetch_add(1, Ordering::Relaxed);
        shared.block_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    let mut response = Response::builder()
        .header(header::ETAG, format!("\"{size}\""))
        .header(header::LAST_MODIFIED, DATE)
        .header(header::CONTENT_LENGTH, end - start);
    if asked.is_some() {
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", end.saturating_sub(1)));
    }
    Some(response.body(Body::from(bytes)).unwrap())
}

fn listing(folder: &Path, query: &str) -> Response {
    let parameter = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
    };
    let prefix = parameter("prefix").unwrap_or_default();
    let (mut keys, mut folders) = (Vec::new(), BTreeSet::new());
    for (key, size) in files(folder, folder) {
        let Some(rest) = key.strip_prefix(&prefix) else { continue };
        match rest.split_once('/').filter(|_| parameter("delimiter").is_some()) {
            Some((name, _)) => drop(folders.insert(format!("{prefix}{name}/"))),
            None => keys.push((key.clone(), size)),
        }
    }
    let mut body = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
    for (key, size) in keys {
        write!(
            body,
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"{size}\"</ETag>\
             <Size>{size}</Size></Contents>"
        )
        .unwrap();
    }
    for name in folders {
        write!(body, "<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>").unwrap();
    }
    body.push_str("</ListBucketResult>");
    Response::new(Body::from(body))
}

/// Returns the keys of all files below a folder, sorted, with their sizes.
fn files(root: &Path, folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(root, &path));
        } else {
            let key = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.push((key, path.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}
