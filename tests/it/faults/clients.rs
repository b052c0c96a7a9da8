//! Clients that are slow, that vanish, and that are many.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::book::Book;
use crate::support::Setup;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_and_half_sent_connections_hold_up_no_write() {
    let setup = Setup::standalone();
    let perennial = setup.start().await;
    let mut book = Book::new(&setup, 20);
    book.send_well(10).await;
    let before = perennial.process.memory_bytes("VmRSS");
    let mut clients = Vec::new();
    for number in 0..900 {
        // As many as a test process may have open, itself at the other end of none.
        let mut client = TcpStream::connect(("127.0.0.1", setup.write_port())).await.unwrap();
        if number % 3 == 1 {
            client.write_all(b"POST /api/v1/receive HTTP/1.1\r\nHost: a\r\nContent-").await.unwrap();
        }
        if number % 3 == 2 {
            let head = "POST /api/v1/receive HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\n\
                        Content-Encoding: snappy\r\nContent-Length: 1000\r\n\r\nhalf a body";
            client.write_all(head.as_bytes()).await.unwrap();
        }
        clients.push(client);
    }
    let started = Instant::now();
    for _ in 0..10 {
        book.send_well(10).await;
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let grown = perennial.process.memory_bytes("VmRSS").saturating_sub(before);
    assert!(grown < 100 << 20, "{} KiB a connection", grown / 900 / 1024);

    // The half headers go first, long before the idle ones.
    let half = &mut clients[1];
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), half.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "a header that does not end is cut off");
    book.check(&setup, "beside a thousand others").await;
    drop(clients);
    perennial.stop();
}
