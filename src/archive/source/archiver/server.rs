//! The part of the loop that asks the server who it is.

use super::Archiver;
use crate::archive::{ArchiveError, ServerFacts, Stamp};
use crate::model::error_chain;

/// How often the server is asked when it was started.
const ASK_MS: i64 = 5_000;

impl Archiver {
    /// Asks the server who it is, now and then.
    pub(super) fn ask(&mut self, now: Stamp) {
        let Some(client) = &self.server else { return };
        if self.asking.is_some() || now.monotonic_ms.saturating_sub(self.last_ask_ms) < ASK_MS {
            return;
        }
        self.last_ask_ms = now.monotonic_ms;
        let known = self.facts.as_ref().filter(|_| self.announced).and_then(|facts| facts.started_ms);
        let client = client.clone();
        self.asking = Some(tokio::spawn(async move {
            if known.is_some() && client.started_ms().await? == known {
                return Ok(None);
            }
            client.facts().await.map(Some)
        }));
    }

    pub(super) fn told(&mut self, told: Result<Result<Option<ServerFacts>, reqwest::Error>, ArchiveError>) {
        match told {
            Ok(Ok(Some(facts))) => {
                let before = self.facts.as_ref().and_then(|facts| facts.started_ms);
                if let Some(started_ms) = facts.started_ms.filter(|now| before.is_some_and(|b| b != *now)) {
                    self.tailer().tell_restart(started_ms);
                }
                self.facts_are_news |= self.facts.as_ref() != Some(&facts);
                self.facts = Some(facts);
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                let source = &self.settings.source;
                tracing::debug!(%source, error = error_chain(&error), "the server does not answer");
            }
            Err(error) => tracing::warn!(error = error_chain(&error), "asking the server failed"),
        }
    }
}
