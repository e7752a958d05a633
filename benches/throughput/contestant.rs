//! What is compared: the same door on three engines, each in a process of its own, on the same core.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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
    process: Child,
}

impl Contestant {
    /// Starts it with the configuration in this folder.
    pub(crate) fn start(kind: Kind, folder: &Path, cores: Option<Cores>) -> Self {
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
            .arg(folder.join("streamgate.toml"))
            .arg("--data-dir")
            .arg(folder.join(kind.name()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the gateway starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its addresses");
        let said: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let url = said["publicUrl"].as_str().expect("a URL");
        let address = url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
        Self { kind, address, process }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _waited = self.process.wait();
    }
}
