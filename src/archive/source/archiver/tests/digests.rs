use super::rig::{Rig, START_MS, Server};
use super::*;
use crate::archive::{Digest, DigestRow};
use crate::model::Labels;

const RANGE_MS: i64 = 10_000;

impl Rig {
    async fn digesting(&self) -> Archiver {
        let settings =
            ArchiverSettings { digest_range: Duration::from_millis(RANGE_MS as u64), ..self.settings() };
        let opening = Archiver::open(settings, self.parts(), self.stop.clone()).await.unwrap();
        self.open_at_once(opening).await
    }

    /// Scrapes each second, as the clock goes.
    async fn scrape_for(&self, server: &mut Server, archiver: &mut Archiver, seconds: usize) {
        for _ in 0..seconds {
            server.scrapes(1);
            self.turns(archiver, 1).await;
        }
    }

    async fn digests(&self) -> Vec<Digest> {
        let mut digests = Vec::new();
        for entry in self.view().await.digests {
            digests.push(self.archive().read_digest(&entry).await.unwrap());
        }
        digests
    }
}

/// What the three series of the server have in a range, by one sample a second.
fn expected(digest: &Digest) -> Vec<DigestRow> {
    let mut rows = Vec::new();
    for n in 1..=3 {
        let pairs = [("__name__", "up".to_owned()), ("n", n.to_string())];
        let labels = Labels::from_pairs(pairs).unwrap().series_hash();
        let mut row = DigestRow { labels, ..DigestRow::default() };
        let times = (digest.min_time_ms..digest.max_time_ms).filter(|t| (t - START_MS) % 1_000 == 0);
        times.for_each(|ts_ms| row.add(ts_ms, ts_ms as u64));
        rows.push(row);
    }
    rows.sort_by_key(|row| row.labels);
    rows
}

#[tokio::test]
async fn ranges_that_have_passed_have_digests_in_the_catalog() {
    let rig = Rig::new();
    let mut server = rig.server();
    let mut archiver = rig.digesting().await;
    rig.scrape_for(&mut server, &mut archiver, 55).await;
    let digests = rig.digests().await;
    let starts: Vec<i64> = digests.iter().map(|digest| digest.min_time_ms - START_MS).collect();
    assert_eq!(starts, [20_000, 30_000], "the first ranges were not seen from their beginning");
    for digest in &digests {
        assert!(digest.is_whole && digest.undeclared == 0);
        assert_eq!(digest.rows, expected(digest));
    }
    let view = rig.view().await;
    let entry = &view.digests[0];
    assert!(view.is_before(&entry.position, &view.newest_timeline().unwrap().end));
    assert_eq!((entry.series, entry.min_time_ms), (3, digests[0].min_time_ms));
}

#[tokio::test]
async fn an_archiver_that_begins_in_the_middle_knows_the_series_and_drops_the_open_range() {
    let rig = Rig::new();
    let mut server = rig.server();
    let mut archiver = rig.digesting().await;
    rig.scrape_for(&mut server, &mut archiver, 45).await;
    drop(archiver);
    let before = rig.digests().await.len();
    server.rotate();
    let mut archiver = rig.digesting().await;
    rig.scrape_for(&mut server, &mut archiver, 50).await;
    let digests = rig.digests().await;
    let starts: Vec<i64> = digests[before..].iter().map(|digest| digest.min_time_ms - START_MS).collect();
    assert_eq!(starts, [60_000, 70_000]);
    assert_eq!(digests[before].rows, expected(&digests[before]));
    assert_eq!(digests[before].undeclared, 0);
}

#[tokio::test]
async fn a_repair_drops_the_open_range() {
    let rig = Rig::new();
    let mut server = rig.server();
    let mut archiver = rig.digesting().await;
    rig.scrape_for(&mut server, &mut archiver, 25).await;
    server.repair(0, 20);
    rig.scrape_for(&mut server, &mut archiver, 50).await;
    let digests = rig.digests().await;
    let starts: Vec<i64> = digests.iter().map(|digest| digest.min_time_ms - START_MS).collect();
    assert_eq!(starts, [40_000, 50_000], "{:?}", rig.view().await.events);
}
