//! Work on several threads, in scopes: no thread outlives the call that started it, so there is no pool that
//! a `fork` could leave without its threads.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::error::{Error, Result, ensure};
use crate::progress::{Checkpoint, INTERVAL, Progress};
use crate::room;

/// How many threads a call uses: what the caller asked for, or as many as the machine has where that is 0.
pub(crate) fn thread_count(asked: usize) -> usize {
    /// More are no faster on any machine, and a process may have only so many.
    const MAX: usize = 256;
    let count = if asked > 0 { asked } else { thread::available_parallelism().map_or(1, usize::from) };
    count.min(MAX)
}

/// How many threads help the calling one in [`map_ordered`], of `threads` that may be at work, where the calling one has
/// little to do itself.
pub(crate) fn helper_count(threads: usize) -> usize {
    if threads > 1 { threads } else { 0 }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts up to `count` threads; fewer where the system gives no more.
fn spawn<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    count: usize,
    run: &'scope (impl Fn() + Sync),
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    (0..count).map_while(|_| thread::Builder::new().spawn_scoped(scope, run).ok()).collect()
}

/// Does `work` on the calling thread, and `task` on another one, if the system gives one. `task` is told whether `work` still
/// goes on, and waited for.
pub(crate) fn with_background<T>(task: impl FnOnce(&dyn Fn() -> bool) + Send, work: impl FnOnce() -> T) -> T {
    /// Ends the task when it is dropped, by a panic too.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = &done;
        let _end = End(done);
        let _ = thread::Builder::new().spawn_scoped(scope, || task(&|| !done.load(Ordering::Relaxed)));
        work()
    })
}

/// Does `consume` on every item in order, and `map` on another thread, if the system gives one; returns the results of `map`.
///
/// `map` goes ahead, but by no more than `max_lead_bytes`, so that the processor's cache still holds what it looked at when
/// `consume` comes to it. Neither thread waits to be woken by the other, which on a virtual machine can take longer than an
/// item.
///
/// # Errors
///
/// The first of `consume`; no item follows it. `Cancelled`.
pub(crate) fn map_with_lookahead<T: Sync, R: Send>(
    items: &[T],
    max_lead_bytes: usize,
    progress: &Progress<'_>,
    size_of: impl Fn(&T) -> usize + Sync,
    map: impl Fn(&T) -> R + Sync,
    mut consume: impl FnMut(&T) -> Result<()>,
) -> Result<Vec<R>> {
    /// Far shorter than `consume` takes to use up a lead.
    const PAUSE: Duration = Duration::from_micros(200);
    let consumed = AtomicUsize::new(0);
    let mut results = room::list(items.len())?;
    with_background(
        |keep_going| {
            let mut at = 0;
            for item in items {
                while at > consumed.load(Ordering::Relaxed) + max_lead_bytes && keep_going() {
                    thread::sleep(PAUSE);
                }
                if !keep_going() {
                    return;
                }
                results.push(map(item));
                at += size_of(item);
            }
        },
        || {
            items.iter().try_for_each(|item| {
                consume(item)?;
                consumed.fetch_add(size_of(item), Ordering::Relaxed);
                progress.tick()
            })
        },
    )?;
    for item in items.get(results.len()..).unwrap_or_default() {
        results.push(map(item));
        progress.tick()?;
    }
    Ok(results)
}

/// The items of a [`for_each`], and what became of them.
struct Queue<T> {
    items: std::iter::Enumerate<std::vec::IntoIter<T>>,
    failure: Option<(usize, Error)>,
    /// Helpers that have not ended.
    helpers: usize,
}

impl<T> Queue<T> {
    fn take(&mut self) -> Option<(usize, T)> {
        if self.failure.is_some() { None } else { self.items.next() }
    }

    fn fail(&mut self, at: usize, err: Error) {
        if self.failure.as_ref().is_none_or(|(first, _)| at < *first) {
            self.failure = Some((at, err));
        }
    }
}

/// Does `work` on every item, on up to `threads` threads of which the calling one is one. `set_up` makes what
/// each thread needs for itself.
///
/// # Errors
///
/// Of the items that failed, the error of the first. Items are begun in order, and none is begun after a
/// failure, so it is the same error for any number of threads. `Cancelled`.
pub(crate) fn for_each<T: Send, S>(
    threads: usize,
    items: Vec<T>,
    progress: &Progress<'_>,
    set_up: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, T, Checkpoint<'_>) -> Result<()> + Sync,
) -> Result<()> {
    /// Says that a helper has ended, by a panic too.
    struct End<'a, T>(&'a Mutex<Queue<T>>, &'a Condvar);
    impl<T> Drop for End<'_, T> {
        fn drop(&mut self) {
            lock(self.0).helpers -= 1;
            self.1.notify_one();
        }
    }
    let threads = threads.min(items.len());
    let queue = Mutex::new(Queue { items: items.into_iter().enumerate(), failure: None, helpers: 0 });
    let ended = Condvar::new();
    let run = |checkpoint: Checkpoint<'_>| {
        let mut state = None;
        loop {
            let Some((at, item)) = lock(&queue).take() else { return };
            let made = checkpoint().and_then(|()| get_or_set_up(&mut state, &set_up));
            if let Err(err) = made.and_then(|state| work(state, item, checkpoint)) {
                lock(&queue).fail(at, err);
            }
        }
    };
    let tally = progress.tally();
    let helper = || {
        let _end = End(&queue, &ended);
        run(&|| tally.check());
    };
    thread::scope(|scope| {
        let count = threads.saturating_sub(1);
        lock(&queue).helpers = count;
        let helpers = spawn(scope, count, &helper);
        lock(&queue).helpers -= count - helpers.len();
        run(&|| progress.tick());
        let mut guard = lock(&queue);
        while progress.is_watched() && guard.helpers > 0 {
            guard = wait(&ended, guard, progress);
            drop(guard);
            // The helpers end by themselves once the call is cancelled.
            let _ = progress.tick();
            guard = lock(&queue);
        }
        drop(guard);
        join(helpers);
    });
    progress.tally().check()?;
    queue.into_inner().unwrap_or_else(PoisonError::into_inner).failure.map_or(Ok(()), |(_, err)| Err(err))
}

/// What a thread needs for itself, which its first item makes.
fn get_or_set_up<S>(state: &mut Option<S>, set_up: impl Fn() -> Result<S>) -> Result<&mut S> {
    match state {
        Some(state) => Ok(state),
        none => set_up().map(|made| none.insert(made)),
    }
}

/// Waits for a condition, though not for longer than to the next report.
fn wait<'g, T>(condvar: &Condvar, guard: MutexGuard<'g, T>, progress: &Progress<'_>) -> MutexGuard<'g, T> {
    if progress.is_watched() {
        condvar.wait_timeout(guard, INTERVAL).unwrap_or_else(PoisonError::into_inner).0
    } else {
        condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
}

fn join(helpers: Vec<ScopedJoinHandle<'_, ()>>) {
    for helper in helpers {
        helper.join().unwrap_or_else(|payload| resume_unwind(payload));
    }
}

/// The results of a [`map_ordered`] between the helpers and the calling thread.
struct Ordered<R> {
    state: Mutex<OrderedState<R>>,
    ready: Condvar,
    room: Condvar,
    /// Set under the lock, so that nobody misses it who waits.
    stop: AtomicBool,
    len: usize,
    max_in_flight: usize,
}

struct OrderedState<R> {
    /// The next item to be worked on.
    next: usize,
    /// The next item to be consumed.
    consumed: usize,
    /// Results from `consumed` on.
    results: VecDeque<Option<Result<R>>>,
}

/// Stops everyone when a thread leaves, by a panic too, so that nobody waits for it.
struct StopOnExit<'a, R> {
    shared: &'a Ordered<R>,
    only_on_panic: bool,
}

impl<R> Drop for StopOnExit<'_, R> {
    fn drop(&mut self) {
        if !self.only_on_panic || thread::panicking() {
            let _guard = lock(&self.shared.state);
            self.shared.stop.store(true, Ordering::Relaxed);
            self.shared.ready.notify_all();
            self.shared.room.notify_all();
        }
    }
}

impl<R> Ordered<R> {
    fn new(len: usize, max_in_flight: usize) -> Self {
        let state = OrderedState { next: 0, consumed: 0, results: VecDeque::new() };
        Self {
            state: Mutex::new(state),
            ready: Condvar::new(),
            room: Condvar::new(),
            stop: AtomicBool::new(false),
            len,
            max_in_flight,
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The number of the next item to be worked on, once there is room for its result.
    fn take(&self) -> Option<usize> {
        let mut guard = lock(&self.state);
        while !self.is_stopped() && guard.next < self.len && guard.next >= guard.consumed + self.max_in_flight
        {
            guard = self.room.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        if self.is_stopped() || guard.next >= self.len {
            return None;
        }
        guard.next += 1;
        guard.results.push_back(None);
        Some(guard.next - 1)
    }

    fn put(&self, at: usize, result: Result<R>) {
        let mut guard = lock(&self.state);
        let slot = at - guard.consumed;
        guard.results[slot] = Some(result);
        if slot == 0 {
            self.ready.notify_one();
        }
    }

    /// The next result in order; `None` if a helper panicked. Reports progress while it waits.
    fn next(&self, progress: &Progress<'_>) -> Result<Option<R>> {
        let mut guard = lock(&self.state);
        loop {
            if let Some(result) = guard.results.front_mut().and_then(Option::take) {
                guard.results.pop_front();
                guard.consumed += 1;
                self.room.notify_one();
                return result.map(Some);
            }
            if self.is_stopped() {
                return Ok(None);
            }
            guard = wait(&self.ready, guard, progress);
            drop(guard);
            progress.tick()?;
            guard = lock(&self.state);
        }
    }
}

/// Does `work` on items on `helpers` threads and hands the results, in the items' order, to `consume` on the
/// calling thread. At most `2 * helpers` results wait at a time.
///
/// Without helpers everything happens on the calling thread.
///
/// # Errors
///
/// The first error in the items' order, of `work` or of `consume`; nothing is consumed after it. `Cancelled`.
pub(crate) fn map_ordered<T: Sync, S, R: Send>(
    helpers: usize,
    items: &[T],
    progress: &Progress<'_>,
    set_up: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, &T, Checkpoint<'_>) -> Result<R> + Sync,
    mut consume: impl FnMut(&T, R) -> Result<()>,
) -> Result<()> {
    let helpers = if items.len() > 1 { helpers.min(items.len()) } else { 0 };
    let shared = Ordered::new(items.len(), 2 * helpers);
    let run = || {
        let _stop = StopOnExit { shared: &shared, only_on_panic: true };
        let checkpoint = || {
            ensure!(!shared.is_stopped(), Cancelled, "the work has ended");
            Ok(())
        };
        let mut state = None;
        while let Some(at) = shared.take() {
            let made = get_or_set_up(&mut state, &set_up);
            shared.put(at, made.and_then(|state| work(state, &items[at], &checkpoint)));
        }
    };
    thread::scope(|scope| {
        let helpers = spawn(scope, helpers, &run);
        if helpers.is_empty() {
            let mut state = None;
            return items.iter().try_for_each(|item| {
                let state = get_or_set_up(&mut state, &set_up)?;
                consume(item, work(state, item, &|| progress.tick())?)?;
                progress.tick()
            });
        }
        let outcome = {
            let _stop = StopOnExit { shared: &shared, only_on_panic: false };
            items.iter().try_for_each(|item| {
                // Joining a helper that panicked tells.
                let Some(result) = shared.next(progress)? else { return Ok(()) };
                consume(item, result)?;
                progress.tick()
            })
        };
        join(helpers);
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn error(at: usize) -> Error {
        Error::new(ErrorKind::Argument, at.to_string())
    }

    #[test]
    fn every_item_is_worked_on_once() {
        for threads in [1, 2, 5] {
            let sum = AtomicUsize::new(0);
            for_each(
                threads,
                (0..1000).collect(),
                &Progress::none(),
                || Ok(()),
                |(), item, _| {
                    sum.fetch_add(item, Ordering::Relaxed);
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(sum.into_inner(), 499_500);
        }
    }

    #[test]
    fn the_first_failure_is_reported() {
        for threads in [1, 2, 5] {
            let result = for_each(
                threads,
                (0..1000).collect(),
                &Progress::none(),
                || Ok(()),
                |(), item, _| {
                    if item >= 300 { Err(error(item)) } else { Ok(()) }
                },
            );
            assert_eq!(result.unwrap_err().to_string(), "300");
        }
    }

    #[test]
    fn what_is_made_ahead_is_of_every_item() {
        for (len, lead) in [(0, 1), (1, 0), (500, 0), (500, 3), (500, 10_000)] {
            let items: Vec<usize> = (0..len).collect();
            let mut seen = Vec::new();
            let made = map_with_lookahead(
                &items,
                lead,
                &Progress::none(),
                |item| *item,
                |item| item * 2,
                |item| {
                    seen.push(*item);
                    Ok(())
                },
            );
            assert_eq!(made.unwrap(), items.iter().map(|item| item * 2).collect::<Vec<_>>());
            assert_eq!(seen, items);
        }
    }

    #[test]
    fn what_goes_ahead_stops_at_the_lead_and_at_a_failure() {
        let (items, furthest): (Vec<usize>, _) = ((0..500).collect(), AtomicUsize::new(0));
        let result = map_with_lookahead(
            &items,
            10,
            &Progress::none(),
            |_| 1,
            |item| furthest.fetch_max(*item, Ordering::Relaxed),
            |item| {
                if *item < 100 {
                    return Ok(());
                }
                // Time enough to come here, and further if nothing stops it.
                while furthest.load(Ordering::Relaxed) < 110 {
                    thread::yield_now();
                }
                thread::sleep(Duration::from_millis(20));
                Err(error(*item))
            },
        );
        assert_eq!(result.unwrap_err().to_string(), "100");
        assert_eq!(furthest.into_inner(), 110);
    }

    #[test]
    fn results_arrive_map_ordered() {
        for helpers in [0, 1, 2, 5] {
            let items: Vec<usize> = (0..500).collect();
            let mut seen = Vec::new();
            map_ordered(
                helpers,
                &items,
                &Progress::none(),
                || Ok(()),
                |(), item, _| Ok(item * 2),
                |_, result| {
                    seen.push(result);
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(seen, (0..500).map(|item| item * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nothing_is_consumed_after_a_failure() {
        for helpers in [0, 1, 2, 5] {
            let items: Vec<usize> = (0..500).collect();
            let mut seen = 0;
            let result = map_ordered(
                helpers,
                &items,
                &Progress::none(),
                || Ok(()),
                |(), item, _| if *item == 100 { Err(error(*item)) } else { Ok(()) },
                |_, ()| {
                    seen += 1;
                    Ok(())
                },
            );
            assert_eq!((result.unwrap_err().to_string().as_str(), seen), ("100", 100));
        }
    }

    #[test]
    fn a_panic_is_passed_on_and_nobody_waits() {
        let items: Vec<usize> = (0..500).collect();
        let caught = std::panic::catch_unwind(|| {
            map_ordered(
                3,
                &items,
                &Progress::none(),
                || Ok(()),
                |(), item, _| {
                    assert!(*item != 50, "boom");
                    Ok(())
                },
                |_, ()| Ok(()),
            )
        });
        assert!(caught.is_err());
    }

    /// Work that ends when its call is cancelled, and not before.
    fn until_cancelled(checkpoint: Checkpoint<'_>) -> Result<()> {
        loop {
            checkpoint()?;
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_callback_cancels_within_an_item_on_the_thread_of_the_call() {
        let caller = thread::current().id();
        for threads in [1, 2, 5] {
            let mut calls = 0;
            let mut callback = |_, _| {
                assert_eq!(thread::current().id(), caller);
                calls += 1;
                calls < 3
            };
            let progress = Progress::new(Some(&mut callback));
            let set_up = || Ok(());
            let result =
                for_each(threads, vec![(); 9], &progress, set_up, |(), (), check| until_cancelled(check));
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled, "{threads} threads");
            assert_eq!(calls, 3);
        }
        for helpers in [0, 1, 5] {
            let mut calls = 0;
            let mut callback = |_, _| {
                calls += 1;
                calls < 3
            };
            let progress = Progress::new(Some(&mut callback));
            let (set_up, consume) = (|| Ok(()), |_: &(), ()| Ok(()));
            let work = |_: &mut (), _: &(), check: Checkpoint<'_>| until_cancelled(check);
            let result = map_ordered(helpers, &[(); 9], &progress, set_up, work, consume);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled, "{helpers} helpers");
            assert_eq!(calls, 3);
        }
    }

    #[test]
    fn the_calling_thread_reports_while_it_only_waits() {
        // The last item takes long, and the calling thread has nothing left to do.
        let mut calls = 0;
        let mut callback = |_, _| {
            calls += 1;
            true
        };
        let progress = Progress::new(Some(&mut callback));
        let caller = thread::current().id();
        let work = |_: &mut (), (): (), _: Checkpoint<'_>| {
            if thread::current().id() != caller {
                thread::sleep(6 * INTERVAL);
            }
            Ok(())
        };
        for_each(2, vec![(); 100_000], &progress, || Ok(()), work).unwrap();
        assert!(calls >= 2, "{calls} reports");
    }
}
