//! Random times.

use futures::StreamExt;
use rand::Rng;

use super::scene::scene;
use crate::support::seeded;

const AT_ONCE: usize = 3;

/// How many times are drawn: 8, or `PERENNIAL_RESTORE_TIMES`.
fn count() -> usize {
    std::env::var("PERENNIAL_RESTORE_TIMES").map_or(8, |n| n.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn random_times_restore_as_of_then_bit_for_bit_and_the_first_start_succeeds() {
    let test = "random_times_restore_as_of_then_bit_for_bit_and_the_first_start_succeeds";
    let Some(scene) = scene(test).await else { return };
    let mut random = seeded(test);
    let times: Vec<i64> =
        (0..count()).map(|_| random.random_range(scene.window_ms.0..=scene.window_ms.1)).collect();
    let checks = times.into_iter().map(|time_ms| async move {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data");
        tokio::task::block_in_place(|| scene.restore().as_of(time_ms, &to));
        scene.check_as_of(&to, time_ms).await;
    });
    futures::stream::iter(checks).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_times_restore_until_then_without_a_sample_more_or_less() {
    let test = "random_times_restore_until_then_without_a_sample_more_or_less";
    let Some(scene) = scene(test).await else { return };
    let mut random = seeded(test);
    let times: Vec<i64> =
        (0..count() / 2).map(|_| random.random_range(scene.window_ms.0..=scene.window_ms.1)).collect();
    let checks = times.into_iter().map(|time_ms| async move {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("data");
        tokio::task::block_in_place(|| scene.restore().until(time_ms, &to));
        scene.check_until(&to, time_ms).await;
    });
    futures::stream::iter(checks).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}
