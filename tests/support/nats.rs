//! Real NATS servers: started on free ports with a folder of their own, killed, started again, gone with whoever started
//! them.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that does not come up within this time will not.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program: from the tests' own Python environment, where CI installs it, or from the path.
pub(crate) fn program() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/connector-venv/bin/nats-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    std::iter::once(own).chain(named).find(|program| program.is_file())
}

/// A server, running or not.
pub(crate) struct NatsServer {
    program: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Its monitoring port.
    pub(crate) monitoring: SocketAddr,
}

/// Free ports, all different.
fn free_ports<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let held = std::array::from_fn::<_, COUNT, _>(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.map(|listener| listener.local_addr().expect("an address"))
}

impl NatsServer {
    /// A single server with JetStream, whose files are in this folder. `more` is added to its configuration;
    /// where it has a block `jetstream` of its own, `STORE` stands for the folder of the streams.
    pub(crate) fn start(program: &Path, folder: &Path, more: &str) -> Self {
        let [address, monitoring] = free_ports();
        Self::prepared(program, &folder.join("nats"), (address, monitoring), more)
    }

    /// Three servers that are one cluster.
    pub(crate) fn cluster(program: &Path, folder: &Path) -> [Self; 3] {
        let ports: [SocketAddr; 9] = free_ports();
        let routes: Vec<String> = ports[6..].iter().map(|route| format!("\"nats://{route}\"")).collect();
        std::array::from_fn(|n| {
            let more = format!(
                "server_name: n{n}\ncluster {{ name: tests, listen: \"{}\", routes: [{}] }}\n",
                ports[6 + n],
                routes.join(", ")
            );
            Self::prepared(program, &folder.join(format!("nats-{n}")), (ports[n], ports[3 + n]), &more)
        })
    }

    fn prepared(program: &Path, folder: &Path, (address, monitoring): (SocketAddr, SocketAddr), more: &str) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let mut config = format!("listen: \"{address}\"\nhttp: \"{monitoring}\"\n");
        if !more.contains("jetstream") {
            config.push_str("jetstream { store_dir: STORE }\n");
        }
        writeln!(config, "{more}").expect("written");
        let config = config.replace("STORE", &format!("{:?}", folder.join("store")));
        std::fs::write(folder.join("nats.conf"), config).expect("written");
        let mut server =
            Self { program: program.to_owned(), folder: folder.to_owned(), child: None, address, monitoring };
        server.run();
        server
    }

    /// Starts it, again where it was killed: on the same ports, with the same files.
    pub(crate) fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log")).expect("a file");
        // It ends with the thread that starts it, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program).arg("-c").arg(self.folder.join("nats.conf"));
        let spawned = command.stdout(Stdio::null()).stderr(log).stdin(Stdio::null()).spawn();
        let mut child = spawned.expect("setpriv is there (util-linux)");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let greeted = TcpStream::connect(self.address).and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                stream.read_exact(&mut [0; 4])
            });
            if greeted.is_ok() {
                break;
            }
            let ended = child.try_wait().expect("asked");
            assert!(ended.is_none() && Instant::now() < deadline, "a server did not start: {}", self.log());
            std::thread::yield_now();
        }
        self.child = Some(child);
    }

    /// kill -9, and awaits the end.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _killed = child.kill();
            let _gone = child.wait();
        }
    }
}
