//! A process as its tasks: what can be killed between any two polls, or not polled for a while.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::world::World;

type Slot = Mutex<Option<BoxFuture<'static, ()>>>;

/// All tasks of one incarnation of a process.
pub(super) struct Gate {
    world: Arc<World>,
    who: String,
    dead: AtomicBool,
    ended: Notify,
    /// Polls until the process dies; 0 for never.
    polls_left: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    paused: bool,
    waiting: Vec<Waker>,
    tasks: Vec<Arc<Slot>>,
}

impl Gate {
    pub(super) fn new(world: &Arc<World>, who: &str) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            who: who.to_owned(),
            dead: AtomicBool::new(false),
            ended: Notify::new(),
            polls_left: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    /// Starts a task of the process; one that is gone starts nothing.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        if self.is_dead() {
            return;
        }
        let slot: Arc<Slot> = Arc::new(Mutex::new(Some(Box::pin(task))));
        let mut state = self.state();
        state.tasks.retain(|task| Arc::strong_count(task) > 1);
        state.tasks.push(Arc::clone(&slot));
        drop(state);
        tokio::spawn(Gated { gate: Arc::clone(self), slot });
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Ends the process as it stands: nothing of it runs again.
    pub(super) fn kill(&self) {
        if self.dead.swap(true, Ordering::SeqCst) {
            return;
        }
        self.world.note(&self.who, format_args!("is dead"));
        let State { waiting, tasks, .. } = std::mem::take(&mut *self.state());
        for task in tasks {
            // The one that is being polled ends itself after that.
            let future = task.try_lock().ok().and_then(|mut slot| slot.take());
            drop(future);
        }
        waiting.into_iter().for_each(Waker::wake);
        self.ended.notify_one();
    }

    /// Ends the process after so many more polls of its tasks; 0 for never.
    pub(super) fn kill_after_polls(&self, polls: u64) {
        self.polls_left.store(polls, Ordering::SeqCst);
    }

    /// Stops polling the process, or goes on.
    pub(super) fn pause(&self, paused: bool) {
        let waiting = {
            let mut state = self.state();
            state.paused = paused;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until the process is dead; for one supervisor.
    pub(super) async fn ended(&self) {
        while !self.is_dead() {
            self.ended.notified().await;
        }
    }

    /// Returns whether a task may be polled now.
    fn enter(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        if state.paused {
            state.waiting.push(waker.clone());
            return false;
        }
        drop(state);
        let left = self.polls_left.load(Ordering::SeqCst);
        self.polls_left.store(left.saturating_sub(1), Ordering::SeqCst);
        if left == 1 {
            self.kill();
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("who", &self.who).finish_non_exhaustive()
    }
}

struct Gated {
    gate: Arc<Gate>,
    slot: Arc<Slot>,
}

impl Future for Gated {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.gate.is_dead() && !self.gate.enter(context.waker()) {
            return Poll::Pending;
        }
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let dead = self.gate.is_dead();
        let Some(task) = slot.as_mut().filter(|_| !dead) else {
            let future = slot.take();
            drop(slot);
            drop(future);
            return Poll::Ready(());
        };
        let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context)));
        let over = !matches!(polled, Ok(Poll::Pending)) || self.gate.is_dead();
        let future = if over { slot.take() } else { None };
        drop(slot);
        drop(future);
        if polled.is_err() {
            self.gate.world.violate(format_args!("{} panicked", self.gate.who));
            self.gate.kill();
        }
        if over { Poll::Ready(()) } else { Poll::Pending }
    }
}
