//! Versions, modes and the like, as they are written.

use crate::restore::*;

#[test]
fn versions_are_read_as_prometheus_prints_them() {
    for (text, version) in [
        ("2.42", ServerVersion::new(2, 42)),
        ("v3.9.1", ServerVersion::new(3, 9)),
        ("2.42.0+ds", ServerVersion::new(2, 42)),
        ("3.0-rc.1", ServerVersion::new(3, 0)),
    ] {
        assert_eq!(text.split('-').next().unwrap().parse::<ServerVersion>().unwrap(), version, "{text}");
    }
    for text in ["", "2", "x.1", "2.x"] {
        assert!(text.parse::<ServerVersion>().unwrap_err().contains("2.42"), "{text}");
    }
    assert!(ServerVersion::new(2, 55) < ServerVersion::new(3, 0));
}
