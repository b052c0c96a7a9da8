//! Requests made to hurt: refused as the sender's fault, with memory bounded, also a hundred at once.

use std::time::Duration;

use crate::support::{RemoteWrite, Series, Setup, label_pairs};

const AT_ONCE: usize = 100;
// A receiver with too much in flight must not answer 4xx, or senders would drop good data.
const OVERLOADED: u16 = 503;
const RETRIES: usize = 600;
// What the process may take above its size at rest; all that is in flight together stays below it.
const GROWTH_BYTES_MAX: u64 = 768 << 20;

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of protobuf's wire type 2.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![(number << 3) | 2];
    varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

fn claims_a_gibibyte() -> Vec<u8> {
    let mut body = Vec::new();
    varint(1 << 30, &mut body);
    body.extend_from_slice(&[0x00, 0x41]);
    assert_eq!(body.len(), 7);
    body
}

fn ten_million_symbols() -> Vec<u8> {
    let mut message = field(4, b"");
    message.extend([0x22, 0x01, b'a'].repeat(10_000_000));
    message.extend(field(5, &field(1, &[1, 1])));
    snappy(&message)
}

fn a_million_labels() -> Vec<u8> {
    let mut series = Vec::new();
    for number in 0..1_000_000 {
        let label = [field(1, format!("l{number}").as_bytes()), field(2, b"v")].concat();
        series.extend(field(1, &label));
    }
    series.extend(field(2, &[0x10, 0x01]));
    snappy(&field(1, &series))
}

fn a_million_label_refs() -> Vec<u8> {
    let refs: Vec<u8> = [1, 2].repeat(1_000_000);
    let series = [field(1, &refs), field(2, &[0x10, 0x01])].concat();
    snappy(&[field(4, b""), field(4, b"name"), field(4, &[b'v'; 1024]), field(5, &series)].concat())
}

fn nested_messages() -> Vec<u8> {
    let message = (0..20_000).fold(Vec::new(), |inner, _| field(1, &inner));
    snappy(&message)
}

fn nested_groups() -> Vec<u8> {
    snappy(&field(1, &[0x0b].repeat(1_000_000)))
}

const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_with_bounded_memory_also_a_hundred_at_once() {
    let setup = Setup::standalone();
    let mut perennial = setup.start().await;
    let rest = perennial.process.memory_bytes("VmHWM");
    let bombs = [
        ("a snappy body that claims 1 GiB", V1, claims_a_gibibyte()),
        ("10 M symbols", V2, ten_million_symbols()),
        ("1 M labels", V1, a_million_labels()),
        ("1 M label references", V2, a_million_label_refs()),
        ("nested messages", V1, nested_messages()),
        ("nested groups", V1, nested_groups()),
    ];
    for (name, kind, body) in bombs {
        let remote = setup.remote_write();
        let alone = remote.send_body(body.clone(), kind).await.unwrap();
        assert!((400..500).contains(&alone.status), "{name}: {} {}", alone.status, alone.body);
        let crowd = (0..AT_ONCE).map(|_| tokio::spawn(refused(remote.clone(), body.clone(), kind)));
        for status in crowd.collect::<Vec<_>>() {
            let status = status.await.unwrap();
            assert!((400..500).contains(&status), "{name} in a crowd: {status}");
        }
        assert!(perennial.ended().is_none(), "{name}: the process lives");
        let peak = perennial.process.memory_bytes("VmHWM");
        assert!(
            peak < rest + GROWTH_BYTES_MAX,
            "{name}: {} MiB at the peak, {} MiB before",
            peak >> 20,
            rest >> 20
        );
    }
    a_good_request_is_still_served(&setup).await;
    perennial.stop();
}

/// Sends a body until it is not put off any more, as a sender does, and returns the final status.
async fn refused(remote: RemoteWrite, body: Vec<u8>, kind: &'static str) -> u16 {
    for _ in 0..RETRIES {
        let answer = remote.send_body(body.clone(), kind).await.unwrap();
        if answer.status != OVERLOADED {
            return answer.status;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    OVERLOADED
}

async fn a_good_request_is_still_served(setup: &Setup) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let sample = (i64::try_from(now.as_millis()).unwrap(), 1.0f64.to_bits());
    let series = Series { labels: label_pairs(&[("__name__", "fine")]), samples: vec![sample] };
    let send = setup.remote_write();
    let ack = tokio::time::timeout(Duration::from_secs(10), send.send(&[series])).await.unwrap().unwrap();
    assert_eq!(ack.status, 204, "{}", ack.body);
}
