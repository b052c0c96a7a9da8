//! A proxy in front of an object store that answers 503, never, too late, or half.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const HEAD_BYTES_MAX: usize = 64 << 10;

/// What happens to the next requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They pass.
    None,
    /// They are refused with 503 and never reach the store.
    Unavailable,
    /// The connection is closed before the store sees them.
    Refused,
    /// They wait this long before they pass.
    Slow(Duration),
    /// The store takes them, but its reply is lost.
    ReplyLost,
    /// The store's reply breaks off in the middle.
    ReplyCut,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    port: u16,
    fault: Arc<Mutex<Fault>>,
    hit: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Starts a proxy before `upstream` (`host:port`).
    pub(crate) async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (fault, hit) = (Arc::new(Mutex::new(Fault::None)), Arc::new(AtomicU64::new(0)));
        let (faults, hits, upstream) = (Arc::clone(&fault), Arc::clone(&hit), upstream.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (faults, hits, upstream) = (Arc::clone(&faults), Arc::clone(&hits), upstream.clone());
                // A connection that breaks is what this proxy is for.
                tokio::spawn(async move { drop(pass(client, &upstream, &faults, &hits).await) });
            }
        });
        Self { port, fault, hit, task }
    }

    /// The address to use in place of the store's.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Chooses what happens from now on.
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Returns how many requests a fault has met.
    pub(crate) fn hit(&self) -> u64 {
        self.hit.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes one request and its reply; every connection carries one.
async fn pass(
    mut client: TcpStream,
    upstream: &str,
    fault: &Mutex<Fault>,
    hit: &AtomicU64,
) -> std::io::Result<()> {
    let Some(request) = read_request(&mut client).await? else { return Ok(()) };
    let fault = *fault.lock().unwrap();
    if fault != Fault::None {
        hit.fetch_add(1, Ordering::Relaxed);
    }
    match fault {
        Fault::Refused => return Ok(()),
        Fault::Unavailable => {
            let body = "<Error><Code>SlowDown</Code><Message>try later</Message></Error>";
            let head = format!(
                "HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            return client.write_all(format!("{head}{body}").as_bytes()).await;
        }
        Fault::Slow(wait) => tokio::time::sleep(wait).await,
        Fault::None | Fault::ReplyLost | Fault::ReplyCut => {}
    }
    let mut store = TcpStream::connect(upstream).await?;
    store.write_all(&request).await?;
    let mut reply = Vec::new();
    store.read_to_end(&mut reply).await?;
    match fault {
        Fault::ReplyLost => Ok(()),
        Fault::ReplyCut => client.write_all(&reply[..reply.len() / 2]).await,
        _ => client.write_all(&reply).await,
    }
}

/// Reads a request with its body; the store is told to close, so that its reply ends with the connection.
async fn read_request(client: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > HEAD_BYTES_MAX || client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let header = |name: &str| {
        head.lines().filter_map(|l| l.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name))
    };
    let length: usize = header("content-length").map_or(0, |(_, v)| v.trim().parse().unwrap());
    if header("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    while bytes.len() < head_end + length {
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    let kept = head.lines().filter(|l| {
        let name = l.split(':').next().unwrap_or("").to_ascii_lowercase();
        !l.is_empty() && !["connection", "expect"].contains(&name.as_str())
    });
    let mut request: Vec<u8> = kept.flat_map(|l| [l.as_bytes(), b"\r\n"]).flatten().copied().collect();
    request.extend_from_slice(b"Connection: close\r\n\r\n");
    request.extend_from_slice(&bytes[head_end..head_end + length]);
    Ok(Some(request))
}
