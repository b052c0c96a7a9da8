//! Named crash points, compiled in with the feature `failpoints` only.

/// Ends the process at once where the environment says so: `FAILPOINTS=<name>=return`, or
/// `<name>=3*off->return` for the fourth time it is passed (the `fail` crate's syntax).
pub fn crash_point(name: &str) {
    #[cfg(feature = "failpoints")]
    {
        // Read once, and never torn down: the points stay set until the process ends.
        static SET_UP: std::sync::Once = std::sync::Once::new();
        SET_UP.call_once(|| std::mem::forget(fail::FailScenario::setup()));
        fail::fail_point!(name, |_| std::process::abort());
    }
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}
