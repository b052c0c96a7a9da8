use super::*;

#[tokio::test]
async fn a_panicking_compute_job_is_an_error_not_a_crash() {
    let cpu = Cpu::start(1).unwrap();
    assert_eq!(cpu.run(|| 1 + 1).await.unwrap(), 2);
    assert!(matches!(cpu.run(|| panic!("planted")).await, Err::<(), _>(CpuError::Panicked)));
    assert_eq!(cpu.run(|| 3).await.unwrap(), 3);
}

#[test]
fn a_seed_replays_the_same_ids() {
    let (a, b) = (random_from_seed(7), random_from_seed(7));
    assert_eq!(a.ulid(1_000), b.ulid(1_000));
    assert_ne!(a.ulid(1_000), a.ulid(1_000));
}
