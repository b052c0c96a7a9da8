//! Every kind of data against a plain model: floats, native histograms of all forms, exemplars, metadata and start
//! timestamps, written in any order over both versions of remote write, read back over every protocol and from the
//! files, with equal bits.

mod kill;
mod made;
mod model;
mod read;
mod sql;
pub(crate) mod wire;

use std::time::Duration;

use rand::Rng;

use crate::properties::disturb;
use crate::support::{Python, Setup, seeded};
use made::Maker;
use model::{Model, assert_same, in_chunks};

const STEPS: usize = 24;

async fn check(model: &Model, setup: &Setup, when: &str) {
    let points = model.points();
    assert_same(&points, &read::samples(setup).await, &format!("{when}: remote read, samples"));
    let told = in_chunks(&points);
    assert_same(&told, &read::streamed(setup).await, &format!("{when}: remote read, chunks"));
    assert_same(&told, &read::store_api(setup).await, &format!("{when}: StoreAPI"));
    assert_eq!(read::exemplars(setup).await, model.exemplars(), "{when}: exemplars");
    assert_eq!(read::metadata(setup).await, model.metadata, "{when}: metadata");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_written_in_any_way_is_read_back_bit_for_bit_by_every_reader() {
    let test = "every_kind_written_in_any_way_is_read_back_bit_for_bit_by_every_reader";
    let mut random = seeded(test);
    let setup = Setup::standalone().flags(&["--ingest.max-age=100y"]);
    let (mut maker, mut model) = (Maker::new(), Model::default());
    let mut perennial = setup.start().await;
    for step in 0..STEPS {
        let request = maker.request(&mut random);
        let times = if random.random_bool(0.2) { 2 } else { 1 };
        for _ in 0..times {
            // What is said of a family later has a later millisecond.
            tokio::time::sleep(Duration::from_millis(2)).await;
            let v2 = random.random_bool(0.5);
            let ack = wire::send(&setup.remote_write(), &request, v2).await.unwrap();
            assert_eq!(ack.status, 204, "step {step}: {}", ack.body);
            let floats: usize = request.iter().map(|one| one.samples.len()).sum();
            assert_eq!(ack.samples_written, Some(floats as u64), "step {step}: doubles count as written");
            if v2 {
                model.write(&request);
            } else {
                model.write(&request.iter().map(|one| one.without_starts()).collect::<Vec<_>>());
            }
        }
        perennial = disturb(perennial, &setup, &mut random).await;
        if step % 8 == 7 {
            check(&model, &setup, &format!("step {step}")).await;
        }
    }
    perennial.flush().await;
    check(&model, &setup, "at the end, flushed").await;
    perennial.stop();
    let (floats, histograms, exemplars) = model.sizes();
    println!("{floats} floats, {histograms} histograms, {exemplars} exemplars were compared");
    assert!(floats > 200 && histograms > 200 && exemplars > 20 && model.metadata.len() == 3);
    if let Some(python) = Python::find(test) {
        sql::check(&python, &setup, &model);
    }
}
