//! The real binary with a routing queue that leads to the sink.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::rig::machine::Cores;
use super::rig::records;

/// How events are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One a request.
    Single,
    /// Up to 100 a request.
    Batches,
}

impl Mode {
    /// Its name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Batches => "batches",
        }
    }
}

/// Writes the configuration of everybody: `streamgate.toml` delivers to nobody, the others do, each in its mode.
pub(crate) fn configure(folder: &Path, sink: SocketAddr) {
    records::configure(folder);
    let plain = std::fs::read_to_string(folder.join("streamgate.toml")).expect("written before");
    for (mode, max_events) in [(Mode::Single, 1), (Mode::Batches, 100)] {
        let own = folder.join(format!("config-{}", mode.name()));
        let organizations = own.join("organizations");
        std::fs::create_dir_all(&organizations).expect("a folder");
        let queue = format!(
            "[routing_queues.sink]\nkind = \"http\"\nurl = \"http://{sink}/\"\nsecret_file = \"sink.secret\"\n\
             create_secret = true\nallow_networks = [\"127.0.0.0/8\"]\nbatch_max_events = {max_events}\n"
        );
        std::fs::write(own.join("streamgate.toml"), format!("{plain}{queue}")).expect("written");
        for entry in std::fs::read_dir(folder.join("organizations")).expect("a folder") {
            let entry = entry.expect("an entry");
            let text = std::fs::read_to_string(entry.path()).expect("text");
            let led = text.replacen("[organization]", "[organization]\nrouting_queue = \"sink\"", 1);
            std::fs::write(organizations.join(entry.file_name()), led).expect("written");
        }
    }
}

/// A running gateway; killed when dropped.
pub(crate) struct Delivering {
    /// Its public listener.
    pub(crate) public: SocketAddr,
    process: Child,
}

impl Delivering {
    /// Starts it.
    pub(crate) fn start(folder: &Path, mode: Mode, data_dir: &Path, cores: Option<Cores>) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_streamgate"));
        let mut command = match cores {
            Some(cores) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &cores.server.to_string()]).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        let mut process = command
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
            .arg(folder.join(format!("config-{}", mode.name())).join("streamgate.toml"))
            .arg("--data-dir")
            .arg(data_dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the gateway starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its addresses");
        let said: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let url = said["publicUrl"].as_str().expect("a URL");
        let public = url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
        Self { public, process }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it.
    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _waited = self.process.wait();
    }
}
