//! Named crash points, compiled in with the feature `failpoints` only.

/// Ends the process at once where the environment says so: `FAILPOINTS=<name>=return`, or
/// `<name>=3*off->return` for the fourth time it is passed (the `fail` crate's syntax).
pub fn crash_point(name: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |_| std::process::abort());
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}
