//! Named crash points, compiled in with the feature `failpoints` only.

/// Ends the process at once where the environment says so: `FAILPOINTS=<name>=return`, or
/// `<name>=3*off->return` for the fourth time it is passed (the `fail` crate's syntax).
pub fn crash_point(name: &str) {
    #[cfg(feature = "failpoints")]
    {
        set_up();
        fail::fail_point!(name, |_| std::process::abort());
    }
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

/// Returns whether the environment wants something to fail here: `FAILPOINTS=<name>=return`.
#[must_use]
pub fn fails_here(name: &str) -> bool {
    #[cfg(feature = "failpoints")]
    {
        set_up();
        fail::fail_point!(name, |_| true);
    }
    let _ = name;
    false
}

/// Reads the environment once, and never tears down: the points stay set until the process ends.
#[cfg(feature = "failpoints")]
fn set_up() {
    static SET_UP: std::sync::Once = std::sync::Once::new();
    SET_UP.call_once(|| std::mem::forget(fail::FailScenario::setup()));
}
