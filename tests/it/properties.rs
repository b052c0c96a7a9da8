//! Random writes against a plain model: any samples in any order, split, doubled and interleaved over requests,
//! tenants, flushes, stops and kills come back as exactly the set.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::support::{Answer, LabelPairs, Perennial, STALE_BITS, SampleSet, Series, Setup, seeded};

const TENANTS: [&str; 2] = ["team-a", "team.B_2"];
const WHOLE: (i64, i64) = (i64::MIN / 2, i64::MAX / 2);
// The model spans several aligned 8 h windows around 2024-01-01.
const START_MS: i64 = 1_704_067_200_000;
const SPAN_MS: i64 = 3 * 8 * 3_600_000;
const STEPS: usize = 40;

const NAMES: [&str; 8] = ["job", "Job", "instance", "_hidden", "ünit", "le", "a.b/c", "数"];
const VALUES: [&str; 7] = ["a", "B", "10.0.0.1:9100", "°C", " ", "{x=\"y\"}", "\u{1F980}"];
const SPECIAL: [u64; 9] = [
    STALE_BITS,
    0x7ff8_0000_0000_0001,
    0xfff8_0000_0000_0123,
    0x8000_0000_0000_0000,
    0x0000_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x0000_0000_0000_0001,
    0x7fef_ffff_ffff_ffff,
];

/// Which of two values for one series and timestamp stays, as the design says: a value over a stale marker, a number
/// over a NaN, the greater number (0.0 over -0.0), the NaN with the greater bits.
fn winner(a: u64, b: u64) -> u64 {
    let key = |bits: u64| {
        let value = f64::from_bits(bits);
        let rank = if bits == STALE_BITS { 0 } else { 1 + u8::from(!value.is_nan()) };
        let order = if value.is_nan() || bits >> 63 == 0 { bits | (1 << 63) } else { !bits };
        (rank, if value.is_nan() { bits } else { order })
    };
    if key(a) >= key(b) { a } else { b }
}

/// What each tenant must hold.
#[derive(Debug, Default)]
struct Model(BTreeMap<&'static str, BTreeMap<LabelPairs, BTreeMap<i64, u64>>>);

impl Model {
    fn write(&mut self, tenant: &'static str, request: &[Series]) {
        for series in request {
            let held = self.0.entry(tenant).or_default().entry(series.labels.clone()).or_default();
            for (ts, bits) in &series.samples {
                held.entry(*ts).and_modify(|old| *old = winner(*old, *bits)).or_insert(*bits);
            }
        }
    }

    fn held_by(&self, tenant: &str) -> SampleSet {
        let mut set = SampleSet::default();
        for (labels, samples) in self.0.get(tenant).into_iter().flatten() {
            set.append(labels.clone(), samples.iter().map(|(ts, bits)| (*ts, *bits)));
        }
        set
    }

    async fn check(&self, setup: &Setup, when: &str) {
        let store = setup.store_api().await;
        for tenant in TENANTS {
            let held = self.held_by(tenant);
            for answer in [Answer::Samples, Answer::Streamed] {
                let read = setup.remote_read().for_tenant(tenant).all(WHOLE.0, WHOLE.1, answer).await;
                held.assert_same(&read, &format!("{when}: {tenant} by remote read, {answer:?}"));
            }
            let matchers = [(2, "__name__", ".+"), (0, "tenant_id", tenant)];
            let series = store.matching(&matchers, WHOLE.0, WHOLE.1, &["tenant_id"]).await;
            held.assert_same(&series, &format!("{when}: {tenant} by StoreAPI"));
        }
    }
}

fn random_labels(random: &mut StdRng) -> LabelPairs {
    let mut labels = BTreeMap::new();
    let metric = ["up", "http_requests_total", "température", "A:b"].choose(random).unwrap();
    labels.insert("__name__".to_owned(), (*metric).to_owned());
    for _ in 0..random.random_range(0..5) {
        let (name, value) = (NAMES.choose(random).unwrap(), VALUES.choose(random).unwrap());
        labels.insert((*name).to_owned(), (*value).to_owned());
    }
    labels.into_iter().collect()
}

fn random_bits(random: &mut StdRng) -> u64 {
    match random.random_range(0..4) {
        0 => *SPECIAL.choose(random).unwrap(),
        1 => f64::from(random.random_range(-100_000..100_000)).to_bits(),
        2 => (f64::from(random.random_range(0..1_000_000)) / 1000.0).to_bits(),
        _ => random.random(),
    }
}

fn random_request(series: &[LabelPairs], random: &mut StdRng) -> Vec<Series> {
    let mut request: Vec<Series> = (0..random.random_range(1..8))
        .map(|_| {
            let start = START_MS + random.random_range(0..SPAN_MS);
            // Few distinct times, so that the same one comes again with another value.
            let times = (0..random.random_range(1..60))
                .map(|_| start / 60_000 * 60_000 + random.random_range(0..9) * 15_000);
            let samples = times.collect::<Vec<_>>().into_iter().map(|ts| (ts, random_bits(random))).collect();
            Series { labels: series.choose(random).unwrap().clone(), samples }
        })
        .collect();
    request.shuffle(random);
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_in_any_way_is_exactly_what_is_read() {
    let mut random = seeded("what_was_written_in_any_way_is_exactly_what_is_read");
    let setup = Setup::standalone().flags(&["--ingest.max-age=100y"]);
    let series: Vec<_> = (0..30).map(|_| random_labels(&mut random)).collect();
    let mut model = Model::default();
    let mut perennial = setup.start().await;
    for step in 0..STEPS {
        let tenant = TENANTS.choose(&mut random).unwrap();
        let request = random_request(&series, &mut random);
        let times = if random.random_bool(0.2) { 2 } else { 1 };
        for _ in 0..times {
            let remote = setup.remote_write().for_tenant(tenant);
            let v2 = random.random_bool(0.5);
            let ack = if v2 { remote.send_v2(&request).await } else { remote.send(&request).await }.unwrap();
            assert_eq!(ack.status, 204, "step {step}: {}", ack.body);
            let sent: usize = request.iter().map(|s| s.samples.len()).sum();
            assert_eq!(ack.samples_written, Some(sent as u64), "step {step}: doubles count as written");
        }
        model.write(tenant, &request);
        perennial = disturb(perennial, &setup, &mut random).await;
        if step % 8 == 7 {
            model.check(&setup, &format!("step {step}")).await;
        }
    }
    perennial.flush().await;
    model.check(&setup, "at the end, flushed").await;
    perennial.stop();
}

/// Flushes, stops or kills now and then; returns the process that runs after it.
pub(crate) async fn disturb(perennial: Perennial, setup: &Setup, random: &mut StdRng) -> Perennial {
    match random.random_range(0..10) {
        0 | 1 => perennial.flush().await,
        2 => {
            perennial.kill();
            return setup.start().await;
        }
        3 => {
            perennial.stop();
            return setup.start().await;
        }
        _ => {}
    }
    perennial
}
