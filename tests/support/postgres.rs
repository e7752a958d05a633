//! A PostgreSQL server for tests: from what is installed, in a folder of its own, on a port of its own; ended when it is
//! dropped, or when the process ends, however it ends.
//!
//! With `STREAMGATE_TEST_CITUS` in the environment each is the coordinator of a Citus cluster, with two workers of its own
//! (`tests/citus/run.sh`).
//!
//! Shared by the tests inside the crate and those over a running gateway, so it names nothing of either.

#![allow(dead_code, reason = "each of the two uses a part of it")]

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The user that owns everything in it; also the one that it runs as where the tests are root, which it refuses.
pub(crate) const USER: &str = "postgres";

/// The programs of the newest server that is installed. Without one: `None`, said loudly, and a failure where nothing may
/// be left out.
fn programs() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let mut found: Vec<(u32, PathBuf)> = versions
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let version = entry.file_name().to_str()?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .filter(|(version, bin)| *version >= 15 && bin.join("initdb").exists())
            .collect();
        found.sort();
        let newest = found.pop().map(|(_, bin)| bin);
        if newest.is_none() {
            let missing = "PostgreSQL 15 or newer is not installed under /usr/lib/postgresql";
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{missing}, and nothing may be left out");
            // Not by a macro: those are held back for tests that pass.
            let _told = writeln!(std::io::stderr(), "SKIPPED: {missing}, so its engine was not tested");
        }
        newest
    });
    found.as_deref()
}

/// Workers that a server coordinates.
fn wanted_workers() -> usize {
    if std::env::var_os("STREAMGATE_TEST_CITUS").is_some() { 2 } else { 0 }
}

/// What the servers of a cluster need. Each of its databases has a process of its own on each.
const CITUS: [&str; 5] = [
    "shared_preload_libraries=citus",
    "citus.node_conninfo=sslmode=disable",
    "max_worker_processes=200",
    "max_prepared_transactions=300",
    // A minute otherwise.
    "citus.recover_2pc_interval=2s",
];

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A command that does not run as root.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if is_root() {
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    }
    command.arg(program);
    command
}

/// A server.
pub(crate) struct Server {
    programs: &'static Path,
    folder: PathBuf,
    pub(crate) port: u16,
    settings: Vec<String>,
    process: Option<Child>,
    /// Those that it coordinates.
    workers: Vec<Self>,
    /// Tidies the folder up when this end of its input is gone.
    _tidy: Child,
}

static SHARED: OnceLock<Option<Server>> = OnceLock::new();

/// One server for all tests of this process. A child with a parent-death signal gets it when the *thread* that started it
/// ends, so that is one that ends with the process.
pub(crate) fn shared() -> Option<&'static Server> {
    let started = SHARED.get_or_init(|| {
        let (started, is_there) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _gone = started.send(Server::start(&[]));
            loop {
                std::thread::park();
            }
        });
        is_there.recv().expect("a server")
    });
    started.as_ref()
}

/// A name that no other database of this process has.
pub(crate) fn fresh_name() -> String {
    static DATABASES: AtomicUsize = AtomicUsize::new(0);
    format!("streamgate_{}", DATABASES.fetch_add(1, Ordering::Relaxed))
}

impl Server {
    /// Starts one with these settings (`name=value`), and its workers if it is to have any.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let workers = wanted_workers();
        if workers == 0 {
            return Self::start_alone(settings, "scram-sha-256");
        }
        let settings: Vec<&str> = settings.iter().copied().chain(CITUS).collect();
        let mut coordinator = Self::start_alone(&settings, "trust")?;
        coordinator.workers = (0..workers).filter_map(|_| Self::start_alone(&CITUS, "trust")).collect();
        Some(coordinator)
    }

    fn start_alone(settings: &[&str], auth_host: &str) -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().expect("a folder").keep();
        if is_root() {
            let status = Command::new("chown").arg(USER).arg(&folder).status().expect("chown");
            assert!(status.success());
        }
        let made = unprivileged(&programs.join("initdb"))
            .args(["--no-sync", "--auth-local=trust", "--username", USER, "--auth-host", auth_host])
            .args(["--encoding=UTF8", "--locale=C", "-D"])
            .arg(folder.join("data"))
            .current_dir(&folder)
            .output()
            .expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).expect("a port").port();
        let tidy = Command::new("sh")
            .args(["-c", "cat; for i in 1 2 3 4 5 6 7 8 9; do rm -rf \"$0\" && exit; sleep 1; done"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh");
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { programs, folder, port, settings, process: None, workers: Vec::new(), _tidy: tidy };
        server.run();
        Some(server)
    }

    /// Runs it, after it was stopped. Waits until it answers. What is left of one that was killed may keep it from starting for
    /// a moment.
    pub(crate) fn run(&mut self) {
        let mut process = self.begin();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let ready = self.command("pg_isready").arg("-q").status();
            let has_ended = process.try_wait().expect("its state").is_some();
            if !has_ended && ready.is_ok_and(|status| status.success()) {
                self.process = Some(process);
                return;
            }
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the server does not answer: {log}");
            if has_ended {
                process = self.begin();
            }
            std::thread::yield_now();
        }
    }

    /// Starts its process.
    fn begin(&self) -> Child {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let mut command = unprivileged(&self.programs.join("postgres"));
        command.arg("-D").arg(self.folder.join("data"));
        for setting in ["listen_addresses=127.0.0.1", "max_connections=300", "shared_buffers=64MB"] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command
            .arg("-k")
            .arg(&self.folder)
            .arg("-p")
            .arg(self.port.to_string())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("postgres")
    }

    /// Stops it: "INT" ends its connections first, "QUIT" is a crash of its own making, "KILL" one of others'.
    pub(crate) fn stop(&mut self, signal: &str) {
        let Some(mut process) = self.process.take() else { return };
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(process.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{signal}");
        process.wait().expect("ended");
    }

    /// One more setting, for the next run.
    pub(crate) fn set(&mut self, setting: String) {
        self.settings.push(setting);
    }

    /// Gives a folder and what is in it to the server's user.
    pub(crate) fn own(&self, folder: &Path) {
        if is_root() {
            let given = Command::new("chown").arg("-R").arg(USER).arg(folder).status();
            assert!(given.is_ok_and(|status| status.success()), "chown");
        }
    }

    /// Its process, for signals.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().map(Child::id).expect("it runs")
    }

    /// The folder of its socket.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// One of its programs, for its socket.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.arg("-h").arg(&self.folder).arg("-p").arg(self.port.to_string());
        command
    }

    /// Has it do something, and answers what `psql` prints.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// The same; an error with what `psql` says of it.
    fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = self.command("psql");
        psql.args(["-q", "-At", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database, "-c", sql]);
        let done = psql.output().expect("psql");
        if !done.status.success() {
            return Err(format!("{sql}: {}", String::from_utf8_lossy(&done.stderr)));
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// A new database, by its name.
    pub(crate) fn create_database(&self) -> String {
        // Roles are brought to the workers each time, by one database at a time.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = self.is_cluster().then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
        let name = fresh_name();
        self.psql(USER, &format!("create database {name}"));
        if self.is_cluster() {
            self.psql(&name, "create extension citus");
            self.psql(&name, &format!("select citus_set_coordinator_host('127.0.0.1', {})", self.port));
        }
        for worker in &self.workers {
            worker.psql(USER, &format!("create database {name}"));
            worker.psql(&name, "create extension citus");
            self.psql(&name, &format!("select citus_add_node('127.0.0.1', {})", worker.port));
        }
        name
    }

    /// Drops one.
    pub(crate) fn drop_database(&self, name: &str) {
        let drop = format!("drop database {name} with (force)");
        if !self.is_cluster() {
            self.psql(USER, &drop);
        }
        for server in self.workers.iter().chain(self.is_cluster().then_some(self)) {
            // The process that each database of a cluster has comes back as often as it is ended.
            let deadline = Instant::now() + Duration::from_secs(60);
            while let Err(fault) = server.try_psql(USER, &drop) {
                assert!(Instant::now() < deadline, "{fault}");
            }
        }
    }

    /// Whether it coordinates others.
    pub(crate) fn is_cluster(&self) -> bool {
        !self.workers.is_empty()
    }

    /// Those that it coordinates.
    pub(crate) fn workers(&mut self) -> &mut [Self] {
        &mut self.workers
    }

    /// Distributes the tables of a database over the workers, as an operator does.
    pub(crate) fn distribute(&self, database: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/citus/distribute.sql");
        let mut psql = self.command("psql");
        // One on each worker does for a test.
        psql.env("PGOPTIONS", "-c citus.shard_count=2");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database, "-f", script]);
        let done = psql.output().expect("psql");
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ended = process.kill();
            let _reaped = process.wait();
        }
    }
}
