//! The table that is printed at the end.

use std::fmt;

/// Rows of figure, system, value and how the bar is met.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    /// Adds a row and prints it at once, as a run takes minutes.
    pub(crate) fn add(&mut self, figure: &str, system: &str, value: String, bar: String) {
        println!("{figure}: {system}: {value} {bar}");
        self.rows.push([figure.to_owned(), system.to_owned(), value, bar]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | system | value | bar |\n|---|---|---|---|")?;
        for [figure, system, value, bar] in &self.rows {
            writeln!(f, "| {figure} | {system} | {value} | {bar} |")?;
        }
        Ok(())
    }
}

/// Says whether a bar is met.
pub(crate) fn verdict(met: bool, text: &str) -> String {
    format!("{text}: {}", if met { "met" } else { "MISSED" })
}

/// Returns a rate as thousands or millions.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second < 1e6 {
        format!("{:.0} k/CPU-s", per_second / 1e3)
    } else {
        format!("{:.2} M/CPU-s", per_second / 1e6)
    }
}
