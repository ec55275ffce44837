//! Work on several threads, in scopes: no thread outlives the call that started it, so there is no pool that
//! a `fork` could leave without its threads.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::error::Result;
use crate::room;

/// How many threads a call uses: what the caller asked for, or as many as the machine has where that is 0.
pub(crate) fn thread_count(asked: usize) -> usize {
    /// More are no faster on any machine, and a process may have only so many.
    const MAX: usize = 256;
    let count = if asked > 0 { asked } else { thread::available_parallelism().map_or(1, usize::from) };
    count.min(MAX)
}

/// How many threads help the calling one in [`in_order`], of `threads` that may be at work, where the calling one has
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
    run: impl FnOnce() + Copy + Send + 'scope,
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    (0..count).map_while(|_| thread::Builder::new().spawn_scoped(scope, run).ok()).collect()
}

/// Does `work` on the calling thread, and `aside` on another one, if the system gives one. `aside` is told whether `work`
/// still goes on, and waited for.
pub(crate) fn beside<T>(aside: impl FnOnce(&dyn Fn() -> bool) + Send, work: impl FnOnce() -> T) -> T {
    /// Says that it is over when it is dropped, by a panic too.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        let _over = Over(is_over);
        let _ = thread::Builder::new().spawn_scoped(scope, || aside(&|| !is_over.load(Ordering::Relaxed)));
        work()
    })
}

/// Does `work` on every item in order, and `aside` on another thread, if the system gives one; gives what `aside` made of
/// each.
///
/// `aside` goes ahead, but by no more than `lead` of what items weigh, so that the processor's cache still holds what it
/// looked at when `work` comes to it. Neither thread waits to be woken by the other, which on a virtual machine can take longer
/// than an item.
///
/// # Errors
///
/// The first of `work`; no item follows it.
pub(crate) fn ahead<T: Sync, R: Send>(
    items: &[T],
    lead: usize,
    weight: impl Fn(&T) -> usize + Sync,
    aside: impl Fn(&T) -> R + Sync,
    mut work: impl FnMut(&T) -> Result<()>,
) -> Result<Vec<R>> {
    /// Far shorter than `work` takes to use up a lead.
    const PAUSE: Duration = Duration::from_micros(200);
    let done = AtomicUsize::new(0);
    let mut made = room::list(items.len())?;
    beside(
        |goes_on| {
            let mut at = 0;
            for item in items {
                while at > done.load(Ordering::Relaxed) + lead && goes_on() {
                    thread::sleep(PAUSE);
                }
                if !goes_on() {
                    return;
                }
                made.push(aside(item));
                at += weight(item);
            }
        },
        || {
            items.iter().try_for_each(|item| {
                work(item).map(|()| {
                    done.fetch_add(weight(item), Ordering::Relaxed);
                })
            })
        },
    )?;
    let rest = items.get(made.len()..).unwrap_or_default();
    made.extend(rest.iter().map(aside));
    Ok(made)
}

/// Does `work` on every item, on up to `threads` threads of which the calling one is one. `set_up` makes what
/// each thread needs for itself.
///
/// # Errors
///
/// Of the items that failed, the error of the first. Items are begun in order, and none is begun after a
/// failure, so it is the same error for any number of threads.
pub(crate) fn for_each<T: Send, S>(
    threads: usize,
    items: Vec<T>,
    set_up: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, T) -> Result<()> + Sync,
) -> Result<()> {
    struct Queue<T> {
        items: std::iter::Enumerate<std::vec::IntoIter<T>>,
        failure: Option<(usize, crate::Error)>,
    }
    let threads = threads.min(items.len());
    let queue = Mutex::new(Queue { items: items.into_iter().enumerate(), failure: None });
    let take = || {
        let mut queue = lock(&queue);
        if queue.failure.is_some() { None } else { queue.items.next() }
    };
    let fail = |at: usize, err: crate::Error| {
        let failure = &mut lock(&queue).failure;
        if failure.as_ref().is_none_or(|(first, _)| at < *first) {
            *failure = Some((at, err));
        }
    };
    let run = || {
        let mut state = None;
        while let Some((at, item)) = take() {
            let made = match &mut state {
                Some(state) => Ok(state),
                none => set_up().map(|made| none.insert(made)),
            };
            if let Err(err) = made.and_then(|state| work(state, item)) {
                fail(at, err);
            }
        }
    };
    thread::scope(|scope| {
        let helpers = spawn(scope, threads.saturating_sub(1), run);
        run();
        for helper in helpers {
            helper.join().unwrap_or_else(|payload| resume_unwind(payload));
        }
    });
    queue.into_inner().unwrap_or_else(PoisonError::into_inner).failure.map_or(Ok(()), |(_, err)| Err(err))
}

/// Does `work` on items on `helpers` threads and hands the results, in the items' order, to `consume` on the
/// calling thread. At most `2 * helpers` results wait at a time.
///
/// Without helpers everything happens on the calling thread.
///
/// # Errors
///
/// The first error in the items' order, of `work` or of `consume`; nothing is consumed after it.
pub(crate) fn in_order<T: Sync, S, R: Send>(
    helpers: usize,
    items: &[T],
    set_up: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, &T) -> Result<R> + Sync,
    mut consume: impl FnMut(&T, R) -> Result<()>,
) -> Result<()> {
    let helpers = if items.len() > 1 { helpers.min(items.len()) } else { 0 };
    let one_by_one = |consume: &mut dyn FnMut(&T, R) -> Result<()>| {
        let mut state = None;
        items.iter().try_for_each(|item| {
            let state = match &mut state {
                Some(state) => state,
                none => none.insert(set_up()?),
            };
            let result = work(state, item)?;
            consume(item, result)
        })
    };
    if helpers == 0 {
        return one_by_one(&mut consume);
    }

    struct Shared<R> {
        /// The next item to be worked on.
        next: usize,
        /// The next item to be consumed.
        consumed: usize,
        /// Results from `consumed` on.
        results: VecDeque<Option<Result<R>>>,
        stop: bool,
    }
    let window = 2 * helpers;
    let shared = Mutex::new(Shared { next: 0, consumed: 0, results: VecDeque::new(), stop: false });
    let (ready, room) = (Condvar::new(), Condvar::new());

    /// Stops everyone when a thread leaves, by a panic too, so that nobody waits for it.
    struct Stop<'a, R> {
        shared: &'a Mutex<Shared<R>>,
        wake: [&'a Condvar; 2],
        only_on_panic: bool,
    }
    impl<R> Drop for Stop<'_, R> {
        fn drop(&mut self) {
            if !self.only_on_panic || thread::panicking() {
                lock(self.shared).stop = true;
                self.wake.iter().for_each(|condvar| condvar.notify_all());
            }
        }
    }

    let run = || {
        let _stop = Stop { shared: &shared, wake: [&ready, &room], only_on_panic: true };
        let mut state = None;
        loop {
            let at = {
                let mut guard = lock(&shared);
                while !guard.stop && guard.next < items.len() && guard.next >= guard.consumed + window {
                    guard = room.wait(guard).unwrap_or_else(PoisonError::into_inner);
                }
                if guard.stop || guard.next >= items.len() {
                    return;
                }
                guard.next += 1;
                guard.results.push_back(None);
                guard.next - 1
            };
            let made = match &mut state {
                Some(state) => Ok(state),
                none => set_up().map(|made| none.insert(made)),
            };
            let result = made.and_then(|state| work(state, &items[at]));
            let mut guard = lock(&shared);
            let slot = at - guard.consumed;
            guard.results[slot] = Some(result);
            if slot == 0 {
                ready.notify_one();
            }
        }
    };
    thread::scope(|scope| {
        let helpers = spawn(scope, helpers, run);
        if helpers.is_empty() {
            return one_by_one(&mut consume);
        }
        let outcome = {
            let _stop = Stop { shared: &shared, wake: [&ready, &room], only_on_panic: false };
            items.iter().try_for_each(|item| {
                let result = {
                    let mut guard = lock(&shared);
                    loop {
                        if let Some(result) = guard.results.front_mut().and_then(Option::take) {
                            guard.results.pop_front();
                            guard.consumed += 1;
                            room.notify_one();
                            break result;
                        }
                        if guard.stop {
                            // A helper panicked; joining it below tells.
                            return Ok(());
                        }
                        guard = ready.wait(guard).unwrap_or_else(PoisonError::into_inner);
                    }
                };
                consume(item, result?)
            })
        };
        for helper in helpers {
            helper.join().unwrap_or_else(|payload| resume_unwind(payload));
        }
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

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
                || Ok(()),
                |(), item| {
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
                || Ok(()),
                |(), item| {
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
            let made = ahead(
                &items,
                lead,
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
        let result = ahead(
            &items,
            10,
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
    fn results_arrive_in_order() {
        for helpers in [0, 1, 2, 5] {
            let items: Vec<usize> = (0..500).collect();
            let mut seen = Vec::new();
            in_order(
                helpers,
                &items,
                || Ok(()),
                |(), item| Ok(item * 2),
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
            let result = in_order(
                helpers,
                &items,
                || Ok(()),
                |(), item| if *item == 100 { Err(error(*item)) } else { Ok(()) },
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
            in_order(
                3,
                &items,
                || Ok(()),
                |(), item| {
                    assert!(*item != 50, "boom");
                    Ok(())
                },
                |_, ()| Ok(()),
            )
        });
        assert!(caught.is_err());
    }
}
