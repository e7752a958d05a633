//! A whole gateway in this process: its own folder, its own configuration files, free ports, stopped and awaited when
//! the test ends.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use streamgate::app::App;
use streamgate::config::Overrides;
use tempfile::TempDir;

use super::eventually;
use super::raw::{Answer, exchange, request};
use super::tls;

/// The key that tests call with; its hash is in [`PROCESS`].
pub(crate) const KEY: &str = "sg_test-key-for-contoso-and-fabrikam-with-everything";

/// A key of organization `fabrikam` alone.
pub(crate) const FABRIKAM_KEY: &str = "sg_test-key-for-fabrikam-alone-with-everything-0";

/// The organization of the sample records.
pub(crate) const ORGANIZATION: &str = include_str!("../../fixtures/organizations/contoso.toml");

/// Another organization.
pub(crate) const OTHER_ORGANIZATION: &str = include_str!("../../fixtures/organizations/fabrikam.toml");

/// What a test may choose.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// `streamgate.toml`, after [`credentials`].
    pub(crate) process: String,
    /// File name and content of each organization.
    pub(crate) organizations: Vec<(&'static str, String)>,
    /// Whether both listeners speak TLS, with a certificate of [`tls::authority`].
    pub(crate) tls: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            process: credentials(),
            organizations: vec![
                ("contoso.toml", ORGANIZATION.to_owned()),
                ("fabrikam.toml", OTHER_ORGANIZATION.to_owned()),
            ],
            tls: false,
        }
    }
}

impl Setup {
    /// The usual set-up, by TLS.
    pub(crate) fn over_tls() -> Self {
        Self { tls: true, ..Self::with(tls::SETTINGS) }
    }

    /// The usual set-up with these settings besides, which must stand before the first table.
    pub(crate) fn with(settings: &str) -> Self {
        let usual = Self::default();
        Self { process: format!("{settings}\n{}", usual.process), ..usual }
    }
}

/// The lines that configure the tests' keys.
pub(crate) fn credentials() -> String {
    let entry = |name: &str, key: &str, permissions: &str, organizations: &str| {
        format!(
            "[[api_keys]]\nname = \"{name}\"\nsha256 = \"{}\"\npermissions = [{permissions}]\norganizations = {organizations}\n",
            sha256_hex(key)
        )
    };
    let all = r#""records.write", "records.read", "work.handle", "admin""#;
    entry("everything", KEY, all, "\"*\"") + &entry("fabrikam", FABRIKAM_KEY, all, "[\"fabrikam\"]")
}

/// The hash of a key as the configuration wants it.
pub(crate) fn sha256_hex(key: &str) -> String {
    streamgate::http::keys::hash(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A running gateway.
pub(crate) struct TestGateway {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    folder: TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl TestGateway {
    /// The usual gateway.
    pub(crate) fn start() -> Self {
        Self::start_with(&Setup::default())
    }

    /// A gateway with this configuration, in a fresh folder.
    pub(crate) fn start_with(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_configuration(folder.path(), setup);
        Self::start_in(folder)
    }

    /// A gateway on a folder that has a configuration, and maybe a store.
    pub(crate) fn start_on(folder: TempDir) -> Self {
        Self::start_in(folder)
    }

    /// Stops in order; the folder stays.
    pub(crate) fn stop(mut self) -> TempDir {
        self.halt();
        let empty = tempfile::tempdir().expect("a folder");
        std::mem::replace(&mut self.folder, empty)
    }

    fn start_in(folder: TempDir) -> Self {
        let (addresses, ready) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let path = folder.path().to_owned();
        let thread = std::thread::spawn(move || {
            let overrides = Overrides {
                data_dir: Some(path.join("data")),
                listen: Some(([127, 0, 0, 1], 0).into()),
                admin_listen: Some(([127, 0, 0, 1], 0).into()),
                read_only: false,
            };
            let config = streamgate::app::load_config(Some(&path.join("streamgate.toml")), &overrides)
                .unwrap_or_else(|faults| panic!("the test's configuration has faults:\n{faults}"));
            actix_web::rt::System::new().block_on(async move {
                let app = App::build(config).expect("built");
                let by_tls = [app.public_identity().is_some(), app.admin_identity().is_some()];
                addresses.send((app.public_address()?, app.admin_address()?, by_tls)).expect("the test waits");
                app.run(async {
                    let _stopped_or_dropped = stopped.await;
                })
                .await
            })
        });
        let (public, admin, by_tls) = ready.recv().expect("the gateway starts");
        for (address, by_tls) in [(public, by_tls[0]), (admin, by_tls[1])] {
            tls::expect(address, by_tls);
        }
        Self { public, admin, folder, stop: Some(stop), thread: Some(thread) }
    }

    /// Stops in order and starts again on the same folder.
    pub(crate) fn restart(self) -> Self {
        Self::start_in(self.stop())
    }

    fn halt(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic").expect("a clean stop");
        }
    }

    /// The folder with the configuration; the data directory is `data` in it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An organization's file.
    pub(crate) fn organization_file(&self, name: &str) -> PathBuf {
        self.folder.path().join("organizations").join(name)
    }

    /// Posts a record with the usual key.
    pub(crate) fn post(&self, body: impl AsRef<[u8]>) -> Answer {
        self.call("POST", "/api/v1/records", KEY, body.as_ref())
    }

    /// Any call to the public listener with a key.
    pub(crate) fn call(&self, method: &str, path: &str, key: &str, body: &[u8]) -> Answer {
        exchange(self.public, &request(method, path, &headers(key, body), body))
    }

    /// Any call to the second listener with the usual key.
    pub(crate) fn administer(&self, method: &str, path: &str) -> Answer {
        exchange(self.admin, &request(method, path, &headers(KEY, b""), b""))
    }

    /// Any call to the second listener with a key, more header fields, and a JSON body unless it is null.
    pub(crate) fn admin_call(
        &self,
        (method, path): (&str, &str),
        key: &str,
        more: &[(&str, &str)],
        body: &serde_json::Value,
    ) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let mut fields = headers(key, &body);
        fields.extend(more.iter().map(|(name, value)| (*name, *value)));
        let path = format!("/admin/v1{path}");
        let answer = exchange(self.admin, &request(method, &path, &fields, &body));
        super::described::check(method, &path, &answer);
        answer
    }

    /// A change on the second listener with the usual key, which must be answered with this status.
    pub(crate) fn change(&self, method: &str, path: &str, body: &serde_json::Value, status: u16) -> serde_json::Value {
        let answer = self.admin_call((method, path), KEY, &[], body);
        assert_eq!(answer.status, status, "{method} {path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// Waits until a receipt stands at this state.
    pub(crate) fn wait_for_state(&self, receipt: &str, state: &str) -> Answer {
        eventually(&format!("receipt {receipt} to be {state}"), || {
            let answer = self.call("GET", &format!("/api/v1/receipts/{receipt}"), KEY, b"");
            (answer.text("state") == state).then_some(answer)
        })
    }
}

fn headers<'a>(key: &'a str, body: &[u8]) -> Vec<(&'a str, &'a str)> {
    let mut headers = vec![("X-Api-Key", key)];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    headers
}

/// Writes `streamgate.toml` and the organizations.
pub(crate) fn write_configuration(folder: &Path, setup: &Setup) {
    let process = super::store::on_its_engine(folder, &setup.process);
    std::fs::write(folder.join("streamgate.toml"), process).expect("written");
    if setup.tls {
        tls::authority().write_pair(folder);
    }
    std::fs::create_dir_all(folder.join("organizations")).expect("a folder");
    for (name, content) in &setup.organizations {
        std::fs::write(folder.join("organizations").join(name), content).expect("written");
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.stop.take());
            return;
        }
        self.halt();
    }
}
