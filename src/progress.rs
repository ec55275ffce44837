//! How far a long call has come, and whether it is to go on.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Result, ensure};

/// The time between two reports, and before the first one.
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);

/// Receives the bytes done and the bytes to do. If it returns false, the call stops with `Cancelled`.
pub type ProgressFn<'a> = dyn FnMut(u64, u64) -> bool + 'a;

/// Is called between the slices of a long piece of work, on whichever thread does it. An error ends the work.
pub(crate) type Checkpoint<'a> = &'a dyn Fn() -> Result<()>;

/// The part of a [`Progress`] that helper threads share.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    done: AtomicU64,
    cancelled: AtomicBool,
}

impl Tally {
    /// Counts bytes as done.
    pub(crate) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Fails once the caller has asked to stop.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(!self.cancelled.load(Ordering::Relaxed), Cancelled, "the progress callback asked to stop");
        Ok(())
    }
}

/// Reports the progress of one call to its caller, on the thread of the call.
pub(crate) struct Progress<'a> {
    tally: Tally,
    total: Cell<u64>,
    callback: Option<RefCell<&'a mut ProgressFn<'a>>>,
    /// When the call began, or made its last report.
    last: Cell<Option<Instant>>,
    /// Whether the end is reported even if nothing was reported before.
    reports_end: Cell<bool>,
}

impl<'a> Progress<'a> {
    /// The progress of a call that nobody watches.
    pub(crate) fn none() -> Self {
        Self::new(None)
    }

    /// The progress of a call that begins now.
    pub(crate) fn new(callback: Option<&'a mut ProgressFn<'a>>) -> Self {
        Self {
            tally: Tally::default(),
            total: Cell::new(0),
            last: Cell::new(callback.is_some().then(Instant::now)),
            callback: callback.map(RefCell::new),
            reports_end: Cell::new(false),
        }
    }

    /// As [`Progress::new`], but the end is reported however short the call is.
    pub(crate) fn to_the_end(callback: &'a mut ProgressFn<'a>) -> Self {
        let progress = Self::new(Some(callback));
        progress.reports_end.set(true);
        progress
    }

    /// Sets the bytes to do.
    pub(crate) fn expect(&self, bytes: u64) {
        self.total.set(bytes);
    }

    /// What helper threads get to see.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether there is a callback: a thread that only waits has to wake up for it.
    pub(crate) fn is_watched(&self) -> bool {
        self.callback.is_some()
    }

    /// Reports if it is time to. To be called often.
    ///
    /// # Errors
    ///
    /// `Cancelled` if the callback asks to stop, or did so before.
    pub(crate) fn tick(&self) -> Result<()> {
        let Some(last) = self.last.get() else { return Ok(()) };
        self.tally.check()?;
        if last.elapsed() < INTERVAL { Ok(()) } else { self.report() }
    }

    /// Reports that all is done, unless the call was so short that it made no report.
    ///
    /// # Errors
    ///
    /// As [`Progress::tick`].
    pub(crate) fn finish(&self) -> Result<()> {
        if self.is_watched() && self.reports_end.get() {
            self.tally.done.store(self.total.get(), Ordering::Relaxed);
            self.report()?;
        }
        Ok(())
    }

    fn report(&self) -> Result<()> {
        let Some(callback) = &self.callback else { return Ok(()) };
        let total = self.total.get();
        let goes_on = callback.borrow_mut()(self.tally.done.load(Ordering::Relaxed).min(total), total);
        self.reports_end.set(true);
        self.last.set(Some(Instant::now()));
        if !goes_on {
            self.tally.cancelled.store(true, Ordering::Relaxed);
        }
        self.tally.check()
    }
}

impl fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Progress({:?} of {}, watched: {})", self.tally, self.total.get(), self.is_watched())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::thread::sleep;

    #[test]
    fn a_short_call_reports_nothing_and_a_longer_one_its_end() {
        let mut reports = Vec::new();
        let mut callback = |done, total| {
            reports.push((done, total));
            true
        };
        let progress = Progress::new(Some(&mut callback));
        progress.expect(10);
        progress.tick().unwrap();
        progress.finish().unwrap();
        sleep(INTERVAL);
        progress.tally().add(3);
        progress.tick().unwrap();
        progress.tick().unwrap();
        progress.finish().unwrap();
        assert_eq!(reports, [(3, 10), (10, 10)]);
    }

    #[test]
    fn the_end_is_reported_where_that_is_asked_for() {
        let mut reports = 0;
        let mut callback = |done, total| {
            reports += usize::from((done, total) == (5, 5));
            true
        };
        let progress = Progress::to_the_end(&mut callback);
        progress.expect(5);
        progress.finish().unwrap();
        assert_eq!(reports, 1);
    }

    #[test]
    fn a_call_that_was_cancelled_stays_so() {
        let mut callback = |_, _| false;
        let progress = Progress::new(Some(&mut callback));
        assert!(progress.tally().check().is_ok());
        sleep(INTERVAL);
        for _ in 0..2 {
            assert_eq!(progress.tick().unwrap_err().kind(), ErrorKind::Cancelled);
            assert_eq!(progress.tally().check().unwrap_err().kind(), ErrorKind::Cancelled);
        }
    }

    #[test]
    fn a_call_that_nobody_watches_cannot_be_cancelled() {
        let progress = Progress::none();
        progress.expect(1);
        sleep(INTERVAL);
        progress.tick().unwrap();
        progress.finish().unwrap();
    }
}
