//! What the tests need of Google Cloud Storage and of Azure Blob Storage, in memory: put, put if absent, reads of
//! ranges, listings, deletes, uploads in parts. Signatures are not looked at.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const BODY_BYTES_MAX: usize = 64 << 20;
const MODIFIED: &str = "Mon, 23 Nov 2026 12:00:00 GMT";
/// Listings come in pages of so many objects.
const PAGE: usize = 3;

/// Whose protocol it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Gcs,
    Azure,
}

#[derive(Debug)]
struct Objects {
    protocol: Protocol,
    /// The bucket or container, with a slash before it.
    root: String,
    stored: Mutex<BTreeMap<String, Bytes>>,
    /// Parts of uploads by upload or object and part.
    parts: Mutex<HashMap<(String, String), Bytes>>,
}

/// A running fake.
#[derive(Debug)]
pub(crate) struct FakeStore {
    address: String,
    objects: Arc<Objects>,
    task: JoinHandle<()>,
}

impl FakeStore {
    pub(crate) async fn start(protocol: Protocol, root: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let objects = Arc::new(Objects {
            protocol,
            root: format!("/{root}"),
            stored: Mutex::default(),
            parts: Mutex::default(),
        });
        let routes = Router::new().fallback(serve).with_state(Arc::clone(&objects));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, objects, task }
    }

    /// `host:port`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.address
    }

    /// The names of all objects.
    pub(crate) fn names(&self) -> Vec<String> {
        self.objects.stored.lock().unwrap().keys().cloned().collect()
    }
}

impl Drop for FakeStore {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(State(objects): State<Arc<Objects>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.unwrap();
    let query: HashMap<String, String> =
        form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes()).into_owned().collect();
    let path = decoded(parts.uri.path());
    let Some(name) = path.strip_prefix(&objects.root).map(|name| name.trim_matches('/').to_owned()) else {
        return refuse(StatusCode::NOT_FOUND, "NoSuchBucket");
    };
    match (&parts.method, name.is_empty()) {
        (&Method::GET, true) => objects.list(&query),
        (&Method::POST, true) => objects.delete_batch(&parts.headers, &body),
        (&Method::GET | &Method::HEAD, false) => objects.read(&name, &parts.headers),
        (&Method::PUT, false) => objects.put(&name, &query, &parts.headers, body),
        (&Method::POST, false) => objects.finish(&name, &query, &body),
        (&Method::DELETE, false) if query.contains_key("uploadId") => {
            reply(StatusCode::NO_CONTENT, Body::empty())
        }
        (&Method::DELETE, false) => match objects.stored.lock().unwrap().remove(&name) {
            Some(_) => reply(StatusCode::NO_CONTENT, Body::empty()),
            None => refuse(StatusCode::NOT_FOUND, "NoSuchKey"),
        },
        _ => refuse(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
    }
}

impl Objects {
    fn put(&self, name: &str, query: &HashMap<String, String>, headers: &HeaderMap, body: Bytes) -> Response {
        let part = query.get("partNumber").or(query.get("blockid"));
        if let Some(part) = part {
            let upload = query.get("uploadId").map_or(name, String::as_str);
            self.parts.lock().unwrap().insert((upload.to_owned(), part.clone()), body);
            return reply(StatusCode::CREATED, Body::empty());
        }
        if query.get("comp").is_some_and(|comp| comp == "blocklist") {
            return self.finish(name, query, &body);
        }
        let create = match self.protocol {
            Protocol::Gcs => headers.get("x-goog-if-generation-match").is_some_and(|v| v == "0"),
            Protocol::Azure => headers.get(header::IF_NONE_MATCH).is_some_and(|v| v == "*"),
        };
        let mut stored = self.stored.lock().unwrap();
        if create && stored.contains_key(name) {
            return match self.protocol {
                Protocol::Gcs => refuse(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
                Protocol::Azure => refuse(StatusCode::CONFLICT, "BlobAlreadyExists"),
            };
        }
        stored.insert(name.to_owned(), body);
        reply(StatusCode::CREATED, Body::empty())
    }

    /// Begins and ends uploads in parts. The parts are joined in the order of their numbers, or of the list.
    fn finish(&self, name: &str, query: &HashMap<String, String>, body: &[u8]) -> Response {
        if query.contains_key("uploads") {
            let text = format!(
                "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>{name}</Key><UploadId>up-{name}</UploadId>\
                 </InitiateMultipartUploadResult>"
            );
            return reply(StatusCode::OK, text.into());
        }
        let upload = query.get("uploadId").map_or(name, String::as_str);
        let mut parts = self.parts.lock().unwrap();
        let mut found: Vec<(String, Bytes)> =
            parts.extract_if(|(of, _), _| of == upload).map(|((_, part), bytes)| (part, bytes)).collect();
        match self.protocol {
            Protocol::Gcs => found.sort_by_key(|(number, _)| number.parse::<u32>().unwrap()),
            Protocol::Azure => {
                let list = String::from_utf8_lossy(body).into_owned();
                found.sort_by_key(|(id, _)| list.find(&format!(">{id}<")).unwrap());
            }
        }
        assert!(!found.is_empty() && !body.is_empty(), "an upload has parts and a list of them");
        let whole: Vec<Bytes> = found.into_iter().map(|(_, bytes)| bytes).collect();
        self.stored.lock().unwrap().insert(name.to_owned(), whole.concat().into());
        let text = "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>";
        reply(StatusCode::CREATED, text.into())
    }

    fn read(&self, name: &str, headers: &HeaderMap) -> Response {
        let Some(bytes) = self.stored.lock().unwrap().get(name).cloned() else {
            return refuse(StatusCode::NOT_FOUND, "NoSuchKey");
        };
        let range = headers.get(header::RANGE).or(headers.get("x-ms-range"));
        let Some(range) = range.map(|v| v.to_str().unwrap().trim_start_matches("bytes=").to_owned()) else {
            return reply(StatusCode::OK, bytes.into());
        };
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        if first >= bytes.len() {
            return refuse(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");
        }
        let end = bytes.len().min(last + 1);
        let mut response = reply(StatusCode::PARTIAL_CONTENT, bytes.slice(first..end).into());
        let said = format!("bytes {first}-{}/{}", end - 1, bytes.len());
        response.headers_mut().insert(header::CONTENT_RANGE, said.parse().unwrap());
        response
    }

    fn list(&self, query: &HashMap<String, String>) -> Response {
        let get = |name: &str| query.get(name).map_or("", String::as_str);
        let prefix = get("prefix");
        let stored = self.stored.lock().unwrap();
        let after = [get("continuation-token"), get("start-after"), get("marker")];
        let after = after.into_iter().find(|text| !text.is_empty()).unwrap_or("");
        let from = get("startFrom");
        let mut left = stored
            .iter()
            .filter(|(name, _)| name.starts_with(prefix) && name.as_str() > after && name.as_str() >= from);
        let page: Vec<(&String, &Bytes)> = left.by_ref().take(PAGE).collect();
        let next = left.next().and(page.last()).map(|(name, _)| (*name).clone());
        let text = match self.protocol {
            Protocol::Gcs => {
                let objects: String = page
                    .iter()
                    .map(|(name, bytes)| {
                        format!(
                            "<Contents><Key>{name}</Key><Size>{}</Size><LastModified>2026-11-23T12:00:00Z\
                             </LastModified><ETag>\"e\"</ETag></Contents>",
                            bytes.len()
                        )
                    })
                    .collect();
                let next = next.map(|next| format!("<NextContinuationToken>{next}</NextContinuationToken>"));
                format!("<ListBucketResult>{objects}{}</ListBucketResult>", next.unwrap_or_default())
            }
            Protocol::Azure => {
                let objects: String = page
                    .iter()
                    .map(|(name, bytes)| {
                        format!(
                            "<Blob><Name>{name}</Name><Properties><Last-Modified>{MODIFIED}</Last-Modified>\
                             <Content-Length>{}</Content-Length><Content-Type>x</Content-Type><Etag>e</Etag>\
                             </Properties></Blob>",
                            bytes.len()
                        )
                    })
                    .collect();
                let next = next.unwrap_or_default();
                format!(
                    "<EnumerationResults><Blobs>{objects}</Blobs><NextMarker>{next}</NextMarker>\
                     </EnumerationResults>"
                )
            }
        };
        reply(StatusCode::OK, text.into())
    }

    /// Azure deletes by a request of requests.
    fn delete_batch(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        assert_eq!(self.protocol, Protocol::Azure);
        let kind = headers[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let boundary = kind.split_once("boundary=").unwrap().1;
        let text = String::from_utf8_lossy(body);
        let mut answer = String::new();
        let deletes = text.lines().filter_map(|line| line.strip_prefix("DELETE "));
        for (id, line) in deletes.enumerate() {
            let path = decoded(line.split(' ').next().unwrap());
            let name = path.split_once(&self.root).unwrap().1.trim_start_matches('/');
            let status = match self.stored.lock().unwrap().remove(name) {
                Some(_) => "202 Accepted",
                None => "404 NotFound",
            };
            answer += &format!(
                "--{boundary}\r\nContent-Type: application/http\r\nContent-ID: {id}\r\n\r\nHTTP/1.1 {status}\r\n\
                 x-ms-version: 2018-11-09\r\n\r\n"
            );
        }
        answer += &format!("--{boundary}--\r\n");
        let mut response = reply(StatusCode::ACCEPTED, answer.into());
        response.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        response
    }
}

fn reply(status: StatusCode, body: Body) -> Response {
    let response = Response::builder().status(status).header(header::ETAG, "\"e\"");
    response.header(header::LAST_MODIFIED, MODIFIED).body(body).unwrap()
}

fn refuse(status: StatusCode, code: &str) -> Response {
    reply(status, format!("<Error><Code>{code}</Code><Message>refused</Message></Error>").into())
}

/// Resolves `%2F` and its like.
fn decoded(path: &str) -> String {
    let mut pieces = path.split('%');
    let mut text = pieces.next().unwrap_or("").to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_at(2);
        text.push(char::from(u8::from_str_radix(code, 16).unwrap()));
        text.push_str(rest);
    }
    text
}
