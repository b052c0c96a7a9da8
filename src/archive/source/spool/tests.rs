use super::*;

/// A file that can be read, and linked nowhere.
const ELSEWHERE: &str = "/proc/self/status";

#[test]
fn files_are_held_from_the_first_link_on_that_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    let own = dir.path().join("own");
    fs::write(&own, "linked").unwrap();
    spool.keep("wal/00000000-1", &own).unwrap();
    assert_eq!(spool.mode(), SpoolMode::Links);
    spool.keep("wal/00000001-2", Path::new(ELSEWHERE)).unwrap();
    assert_eq!(spool.mode(), SpoolMode::Descriptors);
    spool.keep("wal/00000000-1", &own).unwrap();
    spool.keep("base/held", &own).unwrap();
    fs::remove_file(&own).unwrap();
    let held: Vec<String> = spool.held().keys().cloned().collect();
    assert_eq!(held, ["base/held", "wal/00000001-2"], "what is linked is not held as well");
    for name in ["wal/00000000-1", "wal/00000001-2", "base/held"] {
        assert!(spool.open_kept(name).is_ok(), "{name}");
    }
    assert_eq!(spool.bytes(), 6);
    spool.release("wal/00000000-1").unwrap();
    spool.release("wal/00000001-2").unwrap();
    spool.release_folder("base").unwrap();
    for name in ["wal/00000000-1", "wal/00000001-2", "base/held"] {
        assert_eq!(spool.open_kept(name).unwrap_err().kind(), ErrorKind::NotFound, "{name}");
    }
}

#[test]
fn a_file_that_cannot_be_opened_says_nothing_of_links() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    assert!(spool.keep("wal/00000000-1", &dir.path().join("missing")).is_err());
    assert_eq!(spool.mode(), SpoolMode::Links);
}
