//! The real binary as a process of its own, for what only a process can show: signals, exit codes, kill -9.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The gateway as a process of its own.
pub(crate) struct Process {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// What it printed when it was ready.
    pub(crate) greeting: serde_json::Value,
}

impl Process {
    /// Starts on the configuration in this folder; its records are in `data` beside it.
    pub(crate) fn start(folder: &Path, fault: Option<&str>) -> Self {
        Self::spawn(folder, fault, Stdio::null())
    }

    /// The same, with its log in this file.
    pub(crate) fn start_logging(folder: &Path, log: &Path) -> Self {
        Self::spawn(folder, None, std::fs::File::create(log).expect("a file").into())
    }

    fn spawn(folder: &Path, fault: Option<&str>, log: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamgate"));
        command
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .arg("--config")
            .arg(folder.join("streamgate.toml"))
            .arg("--data-dir")
            .arg(folder.join("data"))
            .env_remove("STREAMGATE_FAULT")
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(fault) = fault {
            command.env("STREAMGATE_FAULT", fault);
        }
        let mut child = command.spawn().expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a greeting");
        let greeting: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|fault| panic!("no greeting ({fault}): {line:?}"));
        let address = |name: &str| {
            let url = greeting[name].as_str().expect("an address");
            let (scheme, address) = url.split_once("://").expect("an address");
            let address = address.parse().expect("an address");
            super::tls::expect(address, scheme == "https");
            address
        };
        let (public, admin) = (address("publicUrl"), address("adminUrl"));
        Self { child, public, admin, greeting }
    }

    /// Its process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("told");
    }

    /// kill -9, without awaiting the end: for threads that see it from outside.
    pub(crate) fn strike(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("told");
    }

    /// kill -9, and awaits the end.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// SIGTERM, and awaits the end. Answers its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
        self.child.wait().expect("gone").code()
    }
}

impl Drop for Process {
    /// A test that fails leaves no process behind.
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _gone = self.child.wait();
    }
}
