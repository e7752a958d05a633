//! A PostgreSQL server for the tests of this process: started once, on a socket in a folder of its own, from what is
//! installed; ended when the process ends, however it ends.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The user that the server runs as where the tests are root: it refuses root.
const USER: &str = "postgres";

struct Server {
    folder: PathBuf,
    _process: Child,
}

static SERVER: OnceLock<Server> = OnceLock::new();

/// The server. A child with a parent-death signal gets it when the *thread* that started it ends, so that is one that ends
/// with the process.
fn server() -> &'static Server {
    SERVER.get_or_init(|| {
        let (started, is_there) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _gone = started.send(Server::start());
            loop {
                std::thread::park();
            }
        });
        is_there.recv().expect("a server")
    })
}

static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// A database of its own.
pub(crate) struct Database {
    name: String,
}

impl Database {
    pub(crate) fn new() -> Self {
        let server = server();
        let name = format!("streamgate_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        server.psql("postgres", &format!("create database {name}"));
        Self { name }
    }

    pub(crate) fn config(&self) -> tokio_postgres::Config {
        let server = server();
        let mut config = tokio_postgres::Config::new();
        config.host_path(&server.folder).user(USER).dbname(&self.name);
        config
    }
}

impl Database {
    /// Has the server end every connection to the database.
    pub(crate) fn cut_connections(&self) {
        let cut = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'", self.name);
        server().psql("postgres", &cut);
    }

    /// Has the server refuse every connection to the database, and ends those that there are; or lets them in again.
    pub(crate) fn lock_out(&self, locked: bool) {
        server().psql("postgres", &format!("alter database {} allow_connections {}", self.name, !locked));
        if locked {
            self.cut_connections();
        }
    }

    /// Sets a parameter for whoever connects from now on.
    pub(crate) fn set(&self, parameter: &str, value: &str) {
        server().psql("postgres", &format!("alter database {} set {parameter} = {value}", self.name));
    }

    pub(crate) fn psql(&self, sql: &str) {
        server().psql(&self.name, sql);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(server) = SERVER.get() {
            server.psql("postgres", &format!("drop database {} with (force)", self.name));
        }
    }
}

/// The folder of the newest server that is installed.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed")
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is installed")
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

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder").keep();
        if is_root() {
            let status = Command::new("chown").arg(USER).arg(&folder).status().expect("chown");
            assert!(status.success());
        }
        let data = folder.join("data");
        let made = unprivileged(&programs().join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username", USER, "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .current_dir(&folder)
            .output()
            .expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = std::fs::File::create(folder.join("log")).expect("a log");
        let process = unprivileged(&programs().join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "max_connections=500", "-c", "shared_buffers=64MB", "-k"])
            .arg(&folder)
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("postgres");
        let server = Self { folder, _process: process };
        server.wait();
        server
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let ready = Command::new(programs().join("pg_isready")).arg("-q").arg("-h").arg(&self.folder).status();
            if ready.is_ok_and(|status| status.success()) {
                return;
            }
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the server does not answer: {log}");
        }
    }

    fn psql(&self, database: &str, sql: &str) {
        let done = Command::new(programs().join("psql"))
            .args(["-q", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database, "-c", sql, "-h"])
            .arg(&self.folder)
            .output()
            .expect("psql");
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
