//! strace: looks at the gateway's system calls, and lets chosen ones fail, lie, take long, or be its last.
//!
//! It counts calls for each thread by itself, so `when=7` is the seventh call of the thread that first gets there.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Fallible;
use crate::cleanup::{Leftover, Owed, owe};
use crate::gateway::wait_at_most;
use crate::load::eventually;

/// The words to start the gateway through: it is traced, and its process is still the one that was started.
pub(crate) fn through(log: &Path, calls: &str, injections: &[String], only: Option<&Path>) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["strace", "-D", "-f", "-q", "-ttt", "-y", "-s", "24"].map(OsString::from).to_vec();
    // Spares the calls that are not looked at; a signal is not delivered from within it.
    if !injections.iter().any(|injection| injection.contains("signal=")) {
        words.push("--seccomp-bpf".into());
    }
    words.push("-e".into());
    words.push(format!("trace={calls}").into());
    options(&mut words, injections, only);
    words.extend([OsString::from("-o"), log.into()]);
    words
}

fn options(words: &mut Vec<OsString>, injections: &[String], only: Option<&Path>) {
    for injection in injections {
        words.extend([OsString::from("-e"), format!("inject={injection}").into()]);
    }
    if let Some(path) = only {
        words.extend([OsString::from("-P"), path.into()]);
    }
}

/// A tracer on a process that runs already. Dropped, it lets go.
#[derive(Debug)]
pub(crate) struct Tracer {
    child: Child,
    owed: Owed,
}

impl Tracer {
    /// Attaches to a process with all its threads.
    ///
    /// # Errors
    /// It cannot, within ten seconds.
    pub(crate) fn attach(
        process: u32,
        log: &Path,
        calls: &str,
        injections: &[String],
        only: Option<&Path>,
    ) -> Fallible<Self> {
        let mut words: Vec<OsString> =
            ["-f", "-q", "-ttt", "-y", "-s", "24", "-e"].into_iter().map(OsString::from).collect();
        words.push(format!("trace={calls}").into());
        options(&mut words, injections, only);
        words.extend([OsString::from("-o"), log.into(), "-p".into(), process.to_string().into()]);
        let child = Command::new("strace").args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let owed = owe(Leftover::Process(child.id()));
        let tracer = Self { child, owed };
        let traced = |task: &Path| {
            let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        let all = || {
            let mut tasks = std::fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten();
            tasks.all(|task| traced(&task.path())).then_some(())
        };
        eventually(Duration::from_secs(10), all).ok_or("strace does not attach")?;
        Ok(tracer)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.owed.settled();
        // Told to, it detaches; killed, it might take the gateway with it.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _told = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if !matches!(wait_at_most(&mut self.child, Duration::from_secs(5)), Ok(Some(_))) {
            let _killed = self.child.kill();
            let _gone = self.child.wait();
        }
    }
}

/// A system call in a log: who, when it began and ended, and the line.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) began: f64,
    /// Its place in the log when it began, and when it was over.
    pub(crate) began_at: usize,
    pub(crate) ended_at: Option<usize>,
    pub(crate) name: String,
    /// Everything from the name on; of one that was interrupted in the log, both parts.
    pub(crate) text: String,
}

impl Call {
    /// Whether strace changed it.
    pub(crate) fn is_injected(&self) -> bool {
        self.text.contains("(INJECTED)") || self.text.contains("(DELAYED)")
    }

    /// Whether it returned this.
    pub(crate) fn returned(&self, value: &str) -> bool {
        self.text.rsplit(" = ").next().is_some_and(|result| result.split_whitespace().next() == Some(value))
    }
}

/// Reads a log. Calls that other threads' calls cut in two are put together.
pub(crate) fn calls(log: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for (at, line) in log.lines().enumerate() {
        // The number of a thread is padded to five places.
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((moment, text)) = rest.trim_start().split_once(' ') else { continue };
        let (Ok(began), text) = (moment.parse::<f64>(), text.trim_start()) else { continue };
        if let Some(rest) = text.strip_prefix("<... ") {
            if let Some(call) = open.remove(thread).and_then(|index| calls.get_mut(index)) {
                call.ended_at = Some(at);
                call.text.push_str(rest.split_once('>').map_or("", |(_, rest)| rest));
            }
        } else if let Some((name, _)) = text.split_once('(') {
            let unfinished = text.contains("<unfinished ...>");
            if unfinished {
                open.insert(thread, calls.len());
            }
            let ended_at = (!unfinished).then_some(at);
            calls.push(Call { began, began_at: at, ended_at, name: name.to_owned(), text: text.to_owned() });
        }
    }
    calls
}
