//! Faults of the operating system, injected into a running process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{process::program, say_skipped};

const ATTACH_LIMIT: Duration = Duration::from_secs(20);

/// An strace that is attached to a process; dropped, it lets go of it.
#[derive(Debug)]
pub(crate) struct Strace {
    child: Child,
    attached: bool,
}

impl Strace {
    /// Attaches to all threads of a process; nothing where that is not possible.
    pub(crate) fn attach(test: &str, pid: u32, arguments: &[&str]) -> Option<Self> {
        if program("strace").is_none() {
            super::skip(test, "strace");
            return None;
        }
        let mut child = Command::new("strace")
            .args(["-f", "-p", &pid.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = child.stderr.take().unwrap();
        let (say, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if line.contains("attached") {
                    let _ = say.send(());
                }
            }
        });
        let (mut strace, started) = (Self { child, attached: false }, Instant::now());
        while started.elapsed() < ATTACH_LIMIT && strace.child.try_wait().unwrap().is_none() {
            match said.recv_timeout(Duration::from_millis(500)) {
                Ok(()) => strace.attached = true,
                // It has gone through all threads.
                Err(_) if strace.attached => return Some(strace),
                Err(_) => {}
            }
        }
        say_skipped(test, "permission to trace a process");
        None
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // SIGTERM lets it detach in order.
        let kill = format!("kill -TERM {}", self.child.id());
        let _ = Command::new("sh").args(["-c", &kill]).status();
        let _ = self.child.wait();
    }
}
