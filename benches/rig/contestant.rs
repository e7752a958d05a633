//! What is compared: the same door on three engines, each in a process of its own, on the same core.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::machine::Cores;

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everything but a store.
    Ceiling,
    /// The real binary.
    Durable,
    /// An append and a sync, and nothing else.
    Raw,
}

impl Kind {
    /// Its name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::Durable => "durable",
            Self::Raw => "raw",
        }
    }
}

/// Builds what is not built with the benchmark: the binary that runs on other engines.
pub(crate) fn build() {
    let target = real_binary().ancestors().nth(2).expect("a target folder");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--features", "bench-engines", "--example", "gateway_on"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.is_ok_and(|it| it.success()), "the example `gateway_on` builds");
}

fn real_binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_streamgate"))
}

/// A gateway under load; stopped when dropped.
pub(crate) struct Contestant {
    /// Which one.
    pub(crate) kind: Kind,
    /// Its public listener.
    pub(crate) address: SocketAddr,
    /// Its second listener.
    admin: SocketAddr,
    process: Child,
}

impl Contestant {
    /// Starts it with the configuration in this folder, and its data there too.
    pub(crate) fn start(kind: Kind, folder: &Path, cores: Option<Cores>) -> Self {
        Self::start_on(kind, (&folder.join("streamgate.toml"), &folder.join(kind.name())), cores)
    }

    /// Starts it with this configuration on this data directory.
    pub(crate) fn start_on(kind: Kind, (config, data_dir): (&Path, &Path), cores: Option<Cores>) -> Self {
        let (binary, arguments): (PathBuf, &[&str]) = match kind {
            Kind::Durable => (
                real_binary().to_owned(),
                &["serve", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
            ),
            Kind::Ceiling => (real_binary().with_file_name("examples/gateway_on"), &["nothing"]),
            Kind::Raw => (real_binary().with_file_name("examples/gateway_on"), &["raw"]),
        };
        let mut command = match cores {
            Some(cores) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &cores.server.to_string()]).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        let mut process = command
            .args(arguments)
            .arg("--config")
            .arg(config)
            .arg("--data-dir")
            .arg(data_dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the gateway starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its addresses");
        let said: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let address = |name: &str| {
            let url = said[name].as_str().expect("a URL");
            url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address")
        };
        Self { kind, address: address("publicUrl"), admin: address("adminUrl"), process }
    }

    /// The real binary on this data directory, and how long it took from there until it said that it takes records.
    pub(crate) fn start_and_wait(at: (&Path, &Path), cores: Option<Cores>) -> (Self, Duration) {
        let began = Instant::now();
        let started = Self::start_on(Kind::Durable, at, cores);
        while !started.is_ready() {
            std::thread::yield_now();
        }
        (started, began.elapsed())
    }

    fn is_ready(&self) -> bool {
        let mut answer = String::new();
        let asked = TcpStream::connect(self.admin).and_then(|mut stream| {
            stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            stream.read_to_string(&mut answer)
        });
        asked.is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process ID");
        kill_process(pid, signal).expect("its own child can be signalled");
    }

    /// Stops it in order, and waits until it has ended.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        self.process.wait().expect("it ends");
    }

    /// Ends it at once, as a crash would, whoever else may hold it meanwhile.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ended = self.process.kill();
        let _waited = self.process.wait();
    }
}
