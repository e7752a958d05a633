//! Real NATS servers: started on free ports with a folder of their own, killed, started again, gone with whoever started
//! them.

use std::ffi::OsString;
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
    /// The words that start it.
    command: Vec<OsString>,
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

/// What `setpriv` starts the program with. It ends with the thread that starts it, however that ends.
fn started_by(program: &Path, user: Option<u32>) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["--pdeathsig", "KILL"].map(OsString::from).to_vec();
    if let Some(user) = user {
        words.extend(
            [format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()].map(OsString::from),
        );
    }
    words.extend(["--".into(), program.into()]);
    words
}

impl NatsServer {
    /// A single server with JetStream, whose files are in this folder. `more` is added to its configuration;
    /// where it has a block `jetstream` of its own, `STORE` stands for the folder of the streams.
    pub(crate) fn start(program: &Path, folder: &Path, more: &str) -> Self {
        let [address, monitoring] = free_ports();
        Self::prepared(started_by(program, None), &folder.join("nats"), (address, monitoring), more)
    }

    /// Three servers that are one cluster.
    pub(crate) fn cluster(program: &Path, folder: &Path) -> [Self; 3] {
        Self::cluster_on(program, folder, free_ports(), [None; 3])
    }

    /// The same on these addresses, for clients, monitoring and each other, three each; each as the user of this number.
    pub(crate) fn cluster_on(
        program: &Path,
        folder: &Path,
        ports: [SocketAddr; 9],
        users: [Option<u32>; 3],
    ) -> [Self; 3] {
        let routes: Vec<String> = ports[6..].iter().map(|route| format!("\"nats://{route}\"")).collect();
        std::array::from_fn(|n| {
            let more = format!(
                "server_name: n{n}\ncluster {{ name: tests, listen: \"{}\", routes: [{}] }}\n",
                ports[6 + n],
                routes.join(", ")
            );
            let folder = folder.join(format!("nats-{n}"));
            if let Some(user) = users[n] {
                std::fs::create_dir_all(&folder).expect("a folder");
                std::os::unix::fs::chown(&folder, Some(user), Some(user)).expect("given away");
            }
            Self::prepared(started_by(program, users[n]), &folder, (ports[n], ports[3 + n]), &more)
        })
    }

    fn prepared(
        mut command: Vec<OsString>,
        folder: &Path,
        (address, monitoring): (SocketAddr, SocketAddr),
        more: &str,
    ) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        command.extend(["-c".into(), folder.join("nats.conf").into()]);
        let mut config = format!("listen: \"{address}\"\nhttp: \"{monitoring}\"\n");
        if !more.contains("jetstream") {
            config.push_str("jetstream { store_dir: STORE }\n");
        }
        writeln!(config, "{more}").expect("written");
        let config = config.replace("STORE", &format!("{:?}", folder.join("store")));
        std::fs::write(folder.join("nats.conf"), config).expect("written");
        let mut server = Self { command, folder: folder.to_owned(), child: None, address, monitoring };
        server.run();
        server
    }

    /// Starts it, again where it was killed: on the same ports, with the same files.
    pub(crate) fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("log")).expect("a file");
        let mut command = Command::new("setpriv");
        command.args(&self.command).stdout(Stdio::null()).stderr(log).stdin(Stdio::null());
        let spawned = command.spawn();
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
