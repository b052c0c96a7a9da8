use super::*;

#[test]
fn it_goes_also_while_somebody_adds_to_it() {
    let parent = tempfile::tempdir().unwrap();
    let scratch = Scratch::create(parent.path(), "scratch-").unwrap();
    let path = scratch.path().to_owned();
    assert!(path.is_dir());
    let adding = std::thread::spawn(move || {
        for number in 0..2_000 {
            let _ = fs::write(path.join(number.to_string()), "x");
        }
    });
    drop(scratch);
    adding.join().unwrap();
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn a_parent_that_is_not_there_is_named() {
    let parent = tempfile::tempdir().unwrap().path().join("absent");
    let error = Scratch::create(&parent, "scratch-").unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}
