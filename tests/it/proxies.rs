//! Proxies in front: what nginx and haproxy make of the odd requests, and that the gateway never takes for a request what
//! the proxy did not send as one. Needs both installed, so it runs only when it is asked for: `tests/proxies/run.sh`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::catalogue::{Case, framing, heads};
use crate::support::gateway::{Setup, write_configuration};
use crate::support::process::Process;
use crate::support::{eventually, skipped};

/// A proxy that is running, and where it writes a line for each request: its status and whom it was passed on to.
struct Proxy {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    log: PathBuf,
    /// What the log has in a line for a request that was not passed on.
    kept_back: &'static str,
}

impl Proxy {
    /// Starts in the foreground with a configuration of its own; `None` where it is not installed.
    fn start(name: &'static str, folder: &Path, gateway: SocketAddr) -> Option<Self> {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let folder = folder.join(name.replace([',', ' '], "-"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (config, log) = (folder.join("config"), folder.join("log"));
        let haproxy = name == "haproxy";
        let text =
            if haproxy { haproxy_config(address, gateway) } else { nginx_config(name, &folder, address, gateway) };
        std::fs::write(&config, text).expect("written");
        let mut command = if haproxy { Command::new("haproxy") } else { Command::new("nginx") };
        if haproxy {
            command.arg("-db").arg("-f").arg(&config).stdout(std::fs::File::create(&log).expect("a file"));
        } else {
            command.arg("-e").arg(folder.join("errors")).arg("-c").arg(&config).stdout(Stdio::null());
        }
        let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
        let errors = std::fs::File::create(folder.join("stderr")).expect("a file");
        let child = command.env("PATH", path).stderr(errors).spawn().ok()?;
        let kept_back = if haproxy { "<NOSRV>" } else { " -" };
        let proxy = Self { name, child, address, log, kept_back };
        eventually(name, || TcpStream::connect(proxy.address).ok());
        Some(proxy)
    }

    /// Requests that it has seen, and those of them that it passed on.
    fn counts(&self) -> (usize, usize) {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let passed_on = log.lines().filter(|line| !line.contains(self.kept_back)).count();
        (log.lines().count(), passed_on)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx ends its worker when it is asked to end, and not when it is killed.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _told = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _gone = self.child.wait();
    }
}

fn nginx_config(name: &str, folder: &Path, address: SocketAddr, gateway: SocketAddr) -> String {
    let folder = folder.display();
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    let buffering = if name.ends_with("unbuffered") { "off" } else { "on" };
    format!(
        "{user} daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 256; }}
http {{
    log_format counted '$status $upstream_addr';
    access_log {folder}/log counted;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    client_max_body_size 8m; client_header_timeout 3s; client_body_timeout 3s; keepalive_timeout 5s;
    upstream gateway {{ server {gateway}; keepalive 8; }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://gateway; proxy_http_version 1.1; proxy_request_buffering {buffering};
            proxy_set_header Connection \"\"; proxy_set_header Host $http_host;
        }}
    }}
}}
"
    )
}

fn haproxy_config(address: SocketAddr, gateway: SocketAddr) -> String {
    format!(
        "global
    maxconn 200
    log stdout format raw daemon
defaults
    mode http
    log global
    log-format \"%ST %s\"
    timeout connect 2s
    timeout client 3s
    timeout server 8s
    timeout http-request 3s
    http-reuse always
frontend in
    bind {address}
    default_backend out
backend out
    server gateway {gateway}
"
    )
}

/// What came back for one case.
struct Seen {
    /// The status of each answer.
    statuses: Vec<u16>,
    /// Whether the first came from the gateway.
    is_ours: bool,
}

/// Sends a case and reads until the other side is done: it closes, or says nothing more for a while.
fn exchange(address: SocketAddr, case: &Case) -> Seen {
    let mut stream = TcpStream::connect(address).expect("connected");
    let _sent = stream.write_all(&case.bytes);
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1_024];
    stream.set_read_timeout(Some(Duration::from_secs(6))).expect("a time-out");
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..read]);
        stream.set_read_timeout(Some(Duration::from_millis(150))).expect("a time-out");
    }
    let text = String::from_utf8_lossy(&bytes);
    let starts: Vec<usize> = text.match_indices("HTTP/1.").map(|(at, _)| at).collect();
    let status = |at: &usize| text.get(at + 9..at + 12)?.parse().ok().filter(|status| *status != 100);
    let statuses: Vec<u16> = starts.iter().filter_map(status).collect();
    let first = text.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
    Seen { statuses, is_ours: first.contains("x-request-id") }
}

/// Requests that the gateway has seen, by the lines of its log.
fn seen_by_gateway(log: &Path) -> usize {
    std::fs::read_to_string(log).expect("a log").lines().filter(|line| line.contains("\"http.status\":")).count()
}

/// Waits until nothing has been written for a while: whoever had something to say about the last request has said it. A
/// proxy writes its line when the request has ended, which may be after its answer.
fn settle(proxy: &Proxy, log: &Path) {
    const QUIET: Duration = Duration::from_millis(150);
    let look = || (proxy.counts(), seen_by_gateway(log));
    let (mut last, mut since) = (look(), Instant::now());
    while since.elapsed() < QUIET {
        std::thread::yield_now();
        let now = look();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// The outcome of a case through one proxy, for the table, and what is wrong with it.
fn judge(proxy: &Proxy, log: &Path, case: &Case) -> (String, Option<String>) {
    settle(proxy, log);
    let (gateway_before, (seen_before, passed_before)) = (seen_by_gateway(log), proxy.counts());
    let seen = exchange(proxy.address, case);
    let deadline = Instant::now() + Duration::from_secs(5);
    while proxy.counts().0 - seen_before < seen.statuses.len().max(1) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    settle(proxy, log);
    let at_gateway = seen_by_gateway(log) - gateway_before;
    let passed_on = proxy.counts().1 - passed_before;
    let wrong = if at_gateway > passed_on {
        Some(format!("the gateway saw {at_gateway} requests, the proxy passed on {passed_on}"))
    } else {
        match seen.statuses.first() {
            Some(status) if seen.is_ours && !case.expected.contains(status) && *status >= 500 => {
                Some(format!("the gateway answered {status}"))
            }
            Some(status) if !seen.is_ours && *status < 400 => Some(format!("the proxy answered {status} by itself")),
            Some(_) | None => None,
        }
    };
    let own = if seen.is_ours { "" } else { "\\*" };
    let shown = seen.statuses.first().map_or_else(|| "none".to_owned(), |status| format!("{status}{own}"));
    (shown, wrong.map(|what| format!("{} {}: {what}", proxy.name, case.id)))
}

#[test]
#[ignore = "needs nginx and haproxy; tests/proxies/run.sh"]
fn proxies_and_the_gateway_agree_on_what_a_request_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::default();
    setup.process.push_str(
        "\n[limits]\nrequest_deadline_seconds = 3\nrequests_per_minute = 1_000_000\n[log]\nformat = \"json\"\n",
    );
    write_configuration(folder.path(), &setup);
    let log = folder.path().join("log");
    let gateway = Process::start_logging(folder.path(), &log);
    let names = ["nginx", "nginx, unbuffered", "haproxy"];
    let proxies: Vec<Proxy> =
        names.into_iter().filter_map(|name| Proxy::start(name, folder.path(), gateway.public)).collect();
    if proxies.len() < names.len() {
        skipped("proxies in front: nginx and haproxy are not both installed (apt-get install nginx-light haproxy)");
        return;
    }
    let (mut wrong, mut rows, mut same) = (Vec::new(), Vec::new(), 0);
    let cases = [framing::cases(), heads::cases()].concat();
    for case in &cases {
        let direct = exchange(gateway.public, case);
        let direct = direct.statuses.first().map_or_else(|| "none".to_owned(), u16::to_string);
        let mut cells = vec![direct];
        for proxy in &proxies {
            let (shown, fault) = judge(proxy, &log, case);
            cells.push(shown);
            wrong.extend(fault);
        }
        if cells.iter().all(|cell| *cell == cells[0]) {
            same += 1;
        } else {
            rows.push(format!("| {} | {} |", case.id, cells.join(" | ")));
        }
    }
    let versions = |name: &str, flag: &str| {
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let told = Command::new(name).arg(flag).env("PATH", path).output().expect("runs");
        let text = [told.stdout, told.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
    };
    println!("{}; {}", versions("nginx", "-v"), versions("haproxy", "-v"));
    println!("{} cases, {same} with the same answer everywhere\n", cases.len());
    println!("| input | direct | {} |\n|---|---|---|---|---|\n{}", names.join(" | "), rows.join("\n"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    drop(proxies);
    assert_eq!(gateway.terminate(), Some(0));
}
