//! A loop on threads of its own: started, begun anew should it panic, and stopped in order.
//!
//! The connections of an HTTP client belong to the runtime that opened them, so whoever delivers has a runtime to itself.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

/// So much longer than its grace a stop may take, for telling the store and closing connections.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// The loop is begun anew after this time should it ever panic.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Holds a grace period once the loop is to stop.
pub type Stopping = watch::Receiver<Option<Duration>>;

/// Waits for the stop; nobody left to ask for it means at once.
pub async fn grace_of_stop(stopping: &mut Stopping) -> Duration {
    stopping.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or_default()
}

/// A running loop. Dropping it stops it without waiting.
pub struct LoopHandle {
    name: &'static str,
    stop: watch::Sender<Option<Duration>>,
    ended: oneshot::Receiver<()>,
    thread: thread::JoinHandle<()>,
}

impl LoopHandle {
    /// Starts a loop on so many threads that work. `begin` makes it anew each time; it ends when it is asked to stop.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub fn start<L>(
        (name, threads): (&'static str, usize),
        begin: impl Fn(Stopping) -> L + Send + 'static,
    ) -> io::Result<Self>
    where
        L: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(format!("{name}-worker"))
            .enable_all()
            .build()?;
        let (stop, stopping) = watch::channel(None);
        let (done, ended) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(keep_running(name, begin, stopping));
            // A look-up that hangs in the system's resolver cannot be cancelled: it is left behind.
            runtime.shutdown_timeout(Duration::from_secs(1));
            // Nobody listens any more when the handle was dropped.
            let _nobody_listens = done.send(());
        })?;
        Ok(Self { name, stop, ended, thread })
    }

    /// Asks the loop to stop, with so much time for what is under way, and ends the threads. The store must stay open
    /// until this returns.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        match tokio::time::timeout(grace + STOP_MARGIN, self.ended).await {
            // The thread has said its last word: joining takes no time.
            Ok(_) => {
                if self.thread.join().is_err() {
                    tracing::error!(thread = self.name, "a thread broke off");
                }
            }
            Err(_) => tracing::error!(thread = self.name, "a loop did not stop in time; what it held is tried again"),
        }
    }
}

/// Runs the loop until it is stopped, and begins it anew should it panic.
async fn keep_running<L>(name: &'static str, begin: impl Fn(Stopping) -> L, stopping: Stopping)
where
    L: Future<Output = ()> + Send + 'static,
{
    loop {
        match tokio::spawn(begin(stopping.clone())).await {
            Ok(()) => return,
            Err(fault) => tracing::error!(thread = name, %fault, "a loop broke off and begins anew"),
        }
        if stopping.has_changed().unwrap_or(true) {
            return;
        }
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}
