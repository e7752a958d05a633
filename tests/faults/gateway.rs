//! The gateway as a process of its own, started through whatever the fault takes: strace, a namespace, another user.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::cleanup::{Leftover, Owed, owe};
use crate::client::Client;
use crate::world::World;

/// A start that hangs is given up after this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A start that can still be changed.
#[derive(Debug)]
#[must_use]
pub(crate) struct Start<'a> {
    world: &'a World,
    through: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    listen: String,
}

/// A start that did not come up.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; none where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// What it said.
    pub(crate) said: String,
    pub(crate) took: Duration,
}

/// A running gateway. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// From the start to the first answer that it could give.
    pub(crate) ready_after: Duration,
    owed: Owed,
}

impl<'a> Start<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world, through: Vec::new(), variables: Vec::new(), listen: "127.0.0.1".to_owned() }
    }

    /// Through another program, which becomes the gateway.
    pub(crate) fn through(mut self, words: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.through.extend(words.into_iter().map(Into::into));
        self
    }

    /// With this fault point, which only a debug build has.
    pub(crate) fn fault(self, name: &str) -> Self {
        self.variable("STREAMGATE_FAULT", name)
    }

    pub(crate) fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// On another address of this machine.
    pub(crate) fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// Starts it, which has to succeed.
    pub(crate) fn up(self) -> Fallible<Gateway> {
        self.attempt()?.map_err(|ended| format!("the gateway did not start: {ended:?}").into())
    }

    /// Starts it. That it ends instead may be what is wanted.
    pub(crate) fn attempt(self) -> Fallible<Result<Gateway, Ended>> {
        let wants_tracer = self.through.first().is_some_and(|word| word == "strace");
        for _ in 0..3 {
            match self.once()? {
                // On a busy machine strace sometimes comes too late, and the gateway goes on without it.
                Ok(gateway) if wants_tracer && !gateway.is_traced() => gateway.kill()?,
                started => return Ok(started),
            }
        }
        Err("strace does not take hold of the gateway".into())
    }

    fn once(&self) -> Fallible<Result<Gateway, Ended>> {
        static STARTS: AtomicUsize = AtomicUsize::new(0);
        let World { binary, folder, data, .. } = self.world;
        let log = folder.join(format!("log-{}", STARTS.fetch_add(1, Ordering::Relaxed)));
        let mut words = self.through.iter();
        let mut command = match words.next() {
            None => Command::new(binary),
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(binary);
                command
            }
        };
        let address = format!("{}:0", self.listen);
        command.args(["serve", "--json", "--listen", &address, "--admin-listen", &address, "--config"]);
        command.arg(folder.join("streamgate.toml")).arg("--data-dir").arg(data);
        command.env_remove("STREAMGATE_FAULT").envs(self.variables.iter().map(|(name, value)| (name, value)));
        let began = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?).spawn()?;
        let owed = owe(Leftover::Process(child.id()));
        let greeting = first_line(&mut child);
        let took = began.elapsed();
        let address = |name: &str| greeting[name].as_str()?.strip_prefix("http://")?.parse().ok();
        if let (Some(public), Some(admin)) = (address("publicUrl"), address("adminUrl")) {
            return Ok(Ok(Gateway { child, public, admin, ready_after: took, owed }));
        }
        let ended = wait_at_most(&mut child, Duration::from_secs(10))?.ok_or("the gateway hangs at its start")?;
        owed.settled();
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        Ok(Err(Ended { code: ended.code(), signal: ended.signal(), said, took: began.elapsed() }))
    }
}

/// The greeting, or null where none comes.
fn first_line(child: &mut Child) -> serde_json::Value {
    let (sender, line) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut text = String::new();
            // No line at all is what an end looks like.
            let _read = BufReader::new(output).read_line(&mut text);
            sender.send(text)
        });
    }
    let text = line.recv_timeout(PATIENCE).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Awaits the end of a process for so long.
pub(crate) fn wait_at_most(child: &mut Child, patience: Duration) -> Fallible<Option<std::process::ExitStatus>> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(ended) = child.try_wait()? {
            return Ok(Some(ended));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Gateway {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// kill -9 from wherever, without awaiting the end.
    pub(crate) fn strike(&self) {
        crate::cleanup::kill(self.id());
    }

    /// kill -9, and awaits the end.
    pub(crate) fn kill(mut self) -> Fallible<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Fallible<()> {
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)?)
    }

    /// Stops all of its threads where they are. `in_calls`: those that are in a system call that cannot be interrupted, such
    /// as a sync, may still be in it, and will stop at its end.
    pub(crate) fn freeze(&self, in_calls: bool) -> Fallible<()> {
        self.signal(rustix::process::Signal::STOP)?;
        let stopped = |task: &std::path::Path| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).unwrap_or("Z");
            matches!(state, "T" | "t" | "Z" | "X") || (in_calls && state == "D")
        };
        let all = || {
            let mut tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).ok()?.flatten();
            tasks.all(|task| stopped(&task.path())).then_some(())
        };
        crate::load::eventually(Duration::from_secs(10), all).ok_or_else(|| "it does not stop where it is".into())
    }

    /// SIGTERM. Answers its exit code and how long it took; an error when it takes longer than 30 s.
    pub(crate) fn terminate(mut self) -> Fallible<(Option<i32>, Duration)> {
        let began = Instant::now();
        self.signal(rustix::process::Signal::TERM)?;
        let ended = wait_at_most(&mut self.child, Duration::from_secs(30))?.ok_or("no end within 30 s of SIGTERM")?;
        Ok((ended.code(), began.elapsed()))
    }

    /// Awaits the end that something else brings about.
    pub(crate) fn await_end(&mut self, patience: Duration) -> Fallible<bool> {
        Ok(wait_at_most(&mut self.child, patience)?.is_some())
    }

    /// Whether strace looks at it.
    fn is_traced(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The reason that readiness gives; empty when it is ready.
    pub(crate) fn unready(&self) -> Fallible<String> {
        let answer = Client::patient(self.admin).get("/health/ready")?;
        Ok(if answer.status == 200 { String::new() } else { answer.text("reason") })
    }

    /// A metric without labels, or with exactly these.
    pub(crate) fn metric(&self, series: &str) -> Fallible<f64> {
        let answer = Client::patient(self.admin).get("/metrics")?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        Ok(found.unwrap_or(0.0))
    }

    /// Kilobytes in memory now, and at most so far.
    pub(crate) fn memory_kib(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|kib| kib.parse().ok())
        };
        (of("VmRSS:").unwrap_or(0), of("VmHWM:").unwrap_or(0))
    }

    /// Open files.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).map_or(0, Iterator::count)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // From the moment it is awaited, its number may be somebody else's.
        self.owed.settled();
        let _killed = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A folder that only root reaches is no use to another user; this one everybody may walk through.
pub(crate) fn open_to_others(folder: &std::path::Path) -> Fallible<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?)
}

/// Appends a line to a file, for programs that read it.
pub(crate) fn write_line(path: &std::path::Path, line: &str) -> Fallible<()> {
    let mut file = File::create(path)?;
    Ok(writeln!(file, "{line}")?)
}
