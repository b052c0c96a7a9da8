//! A proxy in front of an object store that answers 503, never, too late, half, or something else.

use std::collections::VecDeque;
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
    /// They are answered with this status and never reach the store.
    Answer(u16),
    /// The connection is reset before the store sees them.
    Reset,
    /// The store takes them, and the connection is reset in the middle of its reply.
    ReplyReset,
    /// The reply comes in pieces with a pause before each, the end of the connection as well.
    Trickle(Duration),
    /// The store's reply is cut to its first half, and its headers say that this is all there was to come.
    ShortRange,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    port: u16,
    plan: Arc<Mutex<Plan>>,
    hit: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Plan {
    /// What happens to the next requests, one after the other.
    next: VecDeque<Fault>,
    /// What happens to those after.
    fault: Fault,
    requests: u64,
}

impl FaultProxy {
    /// Starts a proxy before `upstream` (`host:port`).
    pub(crate) async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::new(Mutex::new(Plan { next: VecDeque::new(), fault: Fault::None, requests: 0 }));
        let hit = Arc::new(AtomicU64::new(0));
        let (faults, hits, upstream) = (Arc::clone(&plan), Arc::clone(&hit), upstream.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (faults, hits, upstream) = (Arc::clone(&faults), Arc::clone(&hits), upstream.clone());
                // A connection that breaks is what this proxy is for.
                tokio::spawn(async move { drop(pass(client, &upstream, &faults, &hits).await) });
            }
        });
        Self { port, plan, hit, task }
    }

    /// The address to use in place of the store's.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Chooses what happens from now on.
    pub(crate) fn set(&self, fault: Fault) {
        let mut plan = self.plan.lock().unwrap();
        plan.next.clear();
        plan.fault = fault;
    }

    /// Chooses what happens to the next requests, one after the other; those after are as [`Self::set`] says.
    pub(crate) fn plan(&self, faults: &[Fault]) {
        self.plan.lock().unwrap().next = faults.iter().copied().collect();
    }

    /// Returns how many requests came.
    pub(crate) fn requests(&self) -> u64 {
        self.plan.lock().unwrap().requests
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
    plan: &Mutex<Plan>,
    hit: &AtomicU64,
) -> std::io::Result<()> {
    let Some(request) = read_request(&mut client).await? else { return Ok(()) };
    let fault = {
        let mut plan = plan.lock().unwrap();
        plan.requests += 1;
        plan.next.pop_front().unwrap_or(plan.fault)
    };
    if fault != Fault::None {
        hit.fetch_add(1, Ordering::Relaxed);
    }
    match fault {
        Fault::Refused => return Ok(()),
        Fault::Reset => return client.set_zero_linger(),
        Fault::Unavailable => return refuse(client, 503, "SlowDown").await,
        Fault::Answer(status) => return refuse(client, status, "Refused").await,
        Fault::Slow(wait) => tokio::time::sleep(wait).await,
        _ => {}
    }
    let mut store = TcpStream::connect(upstream).await?;
    store.write_all(&request).await?;
    let mut reply = Vec::new();
    store.read_to_end(&mut reply).await?;
    match fault {
        Fault::ReplyLost => Ok(()),
        Fault::ReplyCut => client.write_all(&reply[..cut_at(&reply)]).await,
        Fault::ReplyReset => {
            client.write_all(&reply[..cut_at(&reply)]).await?;
            client.set_zero_linger()
        }
        Fault::ShortRange => client.write_all(&shortened(&reply)).await,
        Fault::Trickle(pause) => {
            for piece in reply.chunks(reply.len().div_ceil(4)) {
                tokio::time::sleep(pause).await;
                client.write_all(piece).await?;
            }
            tokio::time::sleep(pause).await;
            Ok(())
        }
        _ => client.write_all(&reply).await,
    }
}

/// Returns where a reply breaks off: in the middle of its body, or of its head where there is no body.
fn cut_at(reply: &[u8]) -> usize {
    let head = reply.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
    if head == reply.len() { head / 2 } else { head + (reply.len() - head) / 2 }
}

async fn refuse(mut client: TcpStream, status: u16, code: &str) -> std::io::Result<()> {
    let body = format!("<Error><Code>{code}</Code><Message>try later</Message></Error>");
    let length = body.len();
    let head = format!("HTTP/1.1 {status} No\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(format!("{head}{body}").as_bytes()).await
}

/// Halves the body of a reply and the numbers about it in its head.
fn shortened(reply: &[u8]) -> Vec<u8> {
    let Some(end) = reply.windows(4).position(|w| w == b"\r\n\r\n") else { return reply.to_vec() };
    let body = &reply[end + 4..];
    let kept = &body[..body.len() / 2];
    let lines = String::from_utf8_lossy(&reply[..end]).into_owned();
    let lines = lines.split("\r\n").map(|line| match line.split_once(':') {
        Some((name, _)) if name.eq_ignore_ascii_case("content-length") => format!("{name}: {}", kept.len()),
        Some((name, value)) if name.eq_ignore_ascii_case("content-range") => {
            let start = value.trim().trim_start_matches("bytes ").split('-').next().unwrap_or("0");
            let start: usize = start.parse().unwrap_or(0);
            let last = (start + kept.len()).saturating_sub(1);
            let total = value.rsplit('/').next().unwrap_or("*");
            format!("{name}: bytes {start}-{last}/{total}")
        }
        _ => line.to_owned(),
    });
    let head = lines.collect::<Vec<_>>().join("\r\n");
    [head.as_bytes(), b"\r\n\r\n", kept].concat()
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
