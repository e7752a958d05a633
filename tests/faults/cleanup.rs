//! What is owed to the machine: whatever a scenario starts, mounts or makes is written down here first and settled when its
//! guard is dropped, when the scenario is over, or when somebody presses Ctrl-C.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something that must not stay behind.
#[derive(Debug, Clone)]
pub(crate) enum Leftover {
    /// A process that this programme started.
    Process(u32),
    /// This programme, within a namespace: it cleans up after itself when it is told to end.
    Inside(u32),
    /// A mount; its loop device goes with it.
    Mount(PathBuf),
    /// A network namespace.
    Namespace(String),
    /// A folder with everything in it.
    Folder(PathBuf),
    /// A control group, which must be empty by then.
    Group(PathBuf),
}

/// Somebody has pressed Ctrl-C: nothing new is begun.
static ENDING: AtomicBool = AtomicBool::new(false);

static OWED: Mutex<Vec<(u64, Leftover)>> = Mutex::new(Vec::new());

fn owed() -> MutexGuard<'static, Vec<(u64, Leftover)>> {
    OWED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Settles one thing when dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Owed(u64);

/// Writes down that this has to be settled. To be called before the thing is made, where that is possible.
pub(crate) fn owe(leftover: Leftover) -> Owed {
    while ENDING.load(Ordering::Acquire) {
        std::thread::park();
    }
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    owed().push((number, leftover));
    Owed(number)
}

impl Owed {
    /// It was settled by other means.
    pub(crate) fn settled(&self) {
        owed().retain(|(number, _)| *number != self.0);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let mine = {
            let mut list = owed();
            let at = list.iter().position(|(number, _)| *number == self.0);
            at.map(|at| list.remove(at))
        };
        if let Some((_, leftover)) = mine {
            settle(&leftover);
        }
    }
}

/// Settles everything, the newest first.
pub(crate) fn settle_all() {
    loop {
        let Some((_, leftover)) = owed().pop() else { return };
        settle(&leftover);
    }
}

fn settle(leftover: &Leftover) {
    match leftover {
        Leftover::Process(id) => {
            kill(*id);
            await_death(*id);
        }
        Leftover::Inside(id) => {
            signal(*id, rustix::process::Signal::TERM);
            for _ in 0..5 {
                await_death(*id);
            }
            kill(*id);
        }
        Leftover::Mount(at) => unmount(at),
        Leftover::Namespace(name) => quietly(Command::new("ip").args(["netns", "delete", name])),
        Leftover::Folder(path) => {
            // The last first: one may lie within the other.
            mounts().iter().rev().filter(|at| at.starts_with(path)).for_each(|at| unmount(at));
            // Somebody may still have put a file in.
            for _ in 0..3 {
                if std::fs::remove_dir_all(path).is_ok() {
                    return;
                }
            }
        }
        Leftover::Group(path) => drop(std::fs::remove_dir(path)),
    }
}

/// kill -9 to a process that this programme started.
pub(crate) fn kill(id: u32) {
    signal(id, rustix::process::Signal::KILL);
}

fn signal(id: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) {
        // It may be gone already, which is what is wanted.
        let _gone = rustix::process::kill_process(pid, signal);
    }
}

/// What is mounted, in the order in which it was.
fn mounts() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect()
}

fn unmount(at: &Path) {
    for options in [&["-q"][..], &["-q"], &["-q", "-l"]] {
        if !mounts().iter().any(|mounted| mounted == at) {
            return;
        }
        quietly(Command::new("umount").args(options).arg(at));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Waits until a killed process runs no more, for a second at most. It stays a zombie until its parent has looked.
fn await_death(id: u32) {
    for _ in 0..100 {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).unwrap_or("gone");
        if matches!(state, "gone" | "Z" | "X") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn quietly(command: &mut Command) {
    let _ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Settles everything on Ctrl-C and on SIGTERM, and ends.
pub(crate) fn on_interrupt() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let told = runtime.map(|runtime| {
            runtime.block_on(async {
                let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
                tokio::select! {
                    interrupted = tokio::signal::ctrl_c() => interrupted,
                    _ = terminate.recv() => Ok(()),
                }
            })
        });
        if let Ok(Ok(())) = told {
            crate::say("interrupted; cleaning up");
            ENDING.store(true, Ordering::Release);
            settle_all();
            std::process::exit(130);
        }
    });
}
