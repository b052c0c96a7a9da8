//! From batches of samples to messages of an answer, one batch ahead of the client.

use tokio::sync::mpsc;

use super::error::StoreError;
use super::series_list::{Batch, BatchReader};
use crate::runtime::Cpu;

/// Turns series into messages; carries what it must remember from batch to batch.
pub(super) trait Encode: Send + 'static {
    /// What is sent for one batch.
    type Messages: Send + 'static;

    /// Encodes a batch, on a compute thread.
    fn encode(&mut self, batch: &Batch) -> Result<Self::Messages, StoreError>;

    /// Returns whether the answer is complete before its series are at an end.
    fn is_complete(&self) -> bool {
        false
    }
}

/// Where messages go; it is bounded, so that a slow client slows the reading down.
pub(super) type Sink<M> = mpsc::Sender<Result<M, StoreError>>;

/// Reads, encodes and sends until the series end, the answer is complete or the client is gone. While a batch is
/// encoded and sent, the next one is read.
pub(super) async fn pump<E: Encode>(
    mut reader: BatchReader,
    mut encoder: E,
    cpu: &Cpu,
    sink: &Sink<E::Messages>,
) -> Result<E, StoreError> {
    let mut batch = reader.read().await?;
    while let Some(current) = batch {
        let encoding = cpu.run(move || {
            let messages = encoder.encode(&current);
            (encoder, messages)
        });
        let send = async {
            let (encoder, messages) = encoding.await?;
            let client_gone = sink.send(Ok(messages?)).await.is_err();
            Ok::<_, StoreError>((encoder, client_gone))
        };
        let (sent, next) = tokio::join!(send, reader.read());
        let client_gone;
        (encoder, client_gone) = sent?;
        if client_gone || encoder.is_complete() {
            break;
        }
        batch = next?;
    }
    Ok(encoder)
}
