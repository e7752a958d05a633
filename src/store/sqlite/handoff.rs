//! The way back from the writer to those who wait for its commit.
//!
//! A commit answers many at once, and most of them wait on the same few threads. To wake each of them from here would be
//! a call into the system for each, and on a busy processor each call may also hand it over: to a thread that finds one
//! answer, sleeps, and is woken for the next. So all answers are laid down first, and then one waiter of each thread is
//! woken, who wakes the others of that thread as soon as it runs. From within its own thread that costs next to nothing.
//!
//! Whoever is to wake the others and goes away instead wakes them by going ([`WakeAll`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;

use super::board::lock;

/// Makes both ends of a question.
pub(super) fn question<T>() -> (Reply<T>, Answer<T>) {
    let slot = Arc::new(Mutex::new(State::Asked(None)));
    (Reply(Some(Arc::clone(&slot))), Answer(slot))
}

/// Where an answer is given. Dropped without one, it says that there will be none.
pub(super) struct Reply<T>(Option<Slot<T>>);

/// Where an answer comes; `None` when there will be none.
pub(super) struct Answer<T>(Slot<T>);

type Slot<T> = Arc<Mutex<State<T>>>;

enum State<T> {
    /// Nobody has answered. Who waits, and on which thread, once somebody does.
    Asked(Option<(Waker, ThreadId)>),
    /// The answer, and who else is to be woken when it is taken or forgotten.
    Answered(T, WakeAll),
    /// Taken; or there will be none.
    Over,
}

/// Wakes all of them when it is dropped.
#[derive(Default)]
struct WakeAll(Vec<Waker>);

impl Drop for WakeAll {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let Some(slot) = self.0.take() else { return };
        let before = std::mem::replace(&mut *lock(&slot), State::Over);
        if let State::Asked(Some((waker, _))) = before {
            waker.wake();
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = lock(&self.0);
        if let State::Asked(waiter) = &mut *state {
            let here = std::thread::current().id();
            match waiter {
                Some((waker, thread)) if waker.will_wake(context.waker()) => *thread = here,
                _ => *waiter = Some((context.waker().clone(), here)),
            }
            return Poll::Pending;
        }
        let over = std::mem::replace(&mut *state, State::Over);
        // The others are woken without the lock.
        drop(state);
        match over {
            State::Answered(answer, _wakes_the_others) => Poll::Ready(Some(answer)),
            State::Over | State::Asked(_) => Poll::Ready(None),
        }
    }
}

/// Answers that are given together.
pub(super) struct Answers<T>(Vec<OneThread<T>>);

/// Those who wait on one thread.
struct OneThread<T> {
    thread: ThreadId,
    first: (Slot<T>, Waker),
    others: WakeAll,
}

impl<T> Answers<T> {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Lays an answer down. Nobody is woken before [`Answers::send`].
    pub(super) fn give(&mut self, mut reply: Reply<T>, answer: T) {
        let Some(slot) = reply.0.take() else { return };
        let before = std::mem::replace(&mut *lock(&slot), State::Answered(answer, WakeAll::default()));
        // Who has not looked yet will find it.
        let State::Asked(Some((waker, thread))) = before else { return };
        match self.0.iter_mut().find(|one| one.thread == thread) {
            Some(one) => one.others.0.push(waker),
            None => self.0.push(OneThread { thread, first: (slot, waker), others: WakeAll::default() }),
        }
    }

    /// Wakes whoever waits.
    pub(super) fn send(self) {
        for OneThread { first: (slot, waker), others, .. } in self.0 {
            if let State::Answered(_, wake) = &mut *lock(&slot) {
                *wake = others;
            }
            // Else it found its answer by itself, and the others are woken here.
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Somebody who waits for an answer, and how often they were woken.
    struct Waiter {
        answer: Pin<Box<Answer<u32>>>,
        woken: Arc<Count>,
    }

    impl Waiter {
        fn new() -> (Reply<u32>, Self) {
            let (reply, answer) = question();
            let mut waiter = Self { answer: Box::pin(answer), woken: Arc::default() };
            assert_eq!(waiter.poll(), Poll::Pending);
            (reply, waiter)
        }

        fn poll(&mut self) -> Poll<Option<u32>> {
            self.answer.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&self.woken))))
        }

        fn times(&self) -> usize {
            self.woken.0.load(Ordering::SeqCst)
        }
    }

    fn three() -> (Vec<Reply<u32>>, [Waiter; 3]) {
        let [(r1, w1), (r2, w2), (r3, w3)] = [Waiter::new(), Waiter::new(), Waiter::new()];
        (vec![r1, r2, r3], [w1, w2, w3])
    }

    fn answer(replies: Vec<Reply<u32>>) -> Answers<u32> {
        let mut answers = Answers::new();
        for (reply, number) in replies.into_iter().zip(1..) {
            answers.give(reply, number);
        }
        answers
    }

    #[test]
    fn one_is_woken_and_wakes_the_others() {
        let (replies, mut waiters) = three();
        let answers = answer(replies);
        assert_eq!(waiters.each_ref().map(Waiter::times), [0, 0, 0]);
        answers.send();
        assert_eq!(waiters.each_ref().map(Waiter::times), [1, 0, 0]);
        assert_eq!(waiters[0].poll(), Poll::Ready(Some(1)));
        assert_eq!(waiters.each_ref().map(Waiter::times), [1, 1, 1]);
        assert_eq!([waiters[1].poll(), waiters[2].poll()], [Poll::Ready(Some(2)), Poll::Ready(Some(3))]);
    }

    #[test]
    fn one_who_goes_away_wakes_the_others_by_going() {
        // After it was woken, before that, and before it was answered.
        for goes in 0..3 {
            let (replies, waiters) = three();
            let [first, second, third] = waiters;
            let mut first = Some(first);
            if goes == 0 {
                drop(first.take());
            }
            let answers = answer(replies);
            if goes == 1 {
                drop(first.take());
            }
            answers.send();
            drop(first.take());
            assert_eq!((second.times(), third.times()), (1, 1), "{goes}");
        }
    }

    #[test]
    fn one_who_looks_too_early_leaves_nobody_behind() {
        let (replies, mut waiters) = three();
        let answers = answer(replies);
        assert_eq!(waiters[0].poll(), Poll::Ready(Some(1)));
        answers.send();
        assert_eq!([waiters[1].times(), waiters[2].times()], [1, 1]);
    }

    #[test]
    fn no_answer_is_an_answer() {
        let (reply, mut waiter) = Waiter::new();
        drop(reply);
        assert_eq!((waiter.times(), waiter.poll()), (1, Poll::Ready(None)));
        let (reply, answer) = question::<u32>();
        drop(answer);
        drop(reply);
    }

    #[test]
    fn whoever_has_not_looked_yet_finds_it() {
        let (reply, answer) = question();
        let mut answers = Answers::new();
        answers.give(reply, 7);
        answers.send();
        assert_eq!(futures_util::FutureExt::now_or_never(answer), Some(Some(7)));
    }

    #[test]
    fn over_threads_and_runtimes_everybody_is_answered() {
        let (sender, questions) = std::sync::mpsc::channel::<Reply<u32>>();
        let answering = std::thread::spawn(move || {
            while let Ok(first) = questions.recv() {
                let mut answers = Answers::new();
                answers.give(first, 1);
                questions.try_iter().for_each(|reply| answers.give(reply, 1));
                answers.send();
            }
        });
        let asking = (0..3).map(|_| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let asks = (0..50).map(|n| {
                    let sender = sender.clone();
                    async move {
                        let mut sum = 0;
                        for _ in 0..200 {
                            let (reply, answer) = question();
                            sender.send(reply).unwrap();
                            // Some look at once, some do not come back.
                            if n % 7 == 0 {
                                let _gone = futures_util::FutureExt::now_or_never(answer);
                            } else {
                                sum += answer.await.unwrap();
                            }
                        }
                        sum
                    }
                });
                let sums = runtime.block_on(futures_util::future::join_all(asks));
                assert_eq!(sums.iter().filter(|sum| **sum == 200).count(), 42);
            })
        });
        let asking: Vec<_> = asking.collect();
        drop(sender);
        asking.into_iter().for_each(|thread| thread.join().unwrap());
        answering.join().unwrap();
    }
}
