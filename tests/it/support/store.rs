//! Which engine the gateways of this test program stand on.
//!
//! The same tests make two programs: `it`, on files, and `it_postgres`, where each folder has a database of its own, on a
//! server that the tests start. Without a server that is said, and the second program tests the files again.

use std::path::Path;

use super::postgres::{self, USER};

/// Whether this is the program on PostgreSQL.
pub(crate) fn is_postgres() -> bool {
    env!("CARGO_CRATE_NAME") == "it_postgres"
}

/// `streamgate.toml` for a gateway in this folder, on the engine of this program.
pub(crate) fn on_its_engine(folder: &Path, process: &str) -> String {
    let Some(url) = is_postgres().then(|| database_of(folder)).flatten() else { return process.to_owned() };
    on_database(process, &url)
}

/// The same, in this database.
pub(crate) fn on_database(process: &str, url: &str) -> String {
    let kind = "[store]\nkind = \"postgres\"\n";
    let with_kind = if process.contains("[store]\n") {
        process.replacen("[store]\n", kind, 1)
    } else {
        format!("{process}\n{kind}")
    };
    format!("{with_kind}\n[store.postgres]\nurl = \"{url}\"\n")
}

/// A new database; on a cluster one whose tables are there, and distributed.
pub(crate) fn fresh(server: &postgres::Server) -> String {
    let name = server.create_database();
    if server.is_cluster() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("database.url"), url(server, &name)).expect("written");
        super::gateway::write_configuration(folder.path(), &super::gateway::Setup::default());
        let file = folder.path().join("streamgate.toml");
        let mut migrate = std::process::Command::new(env!("CARGO_BIN_EXE_streamgate"));
        let done = migrate.arg("migrate").arg("--config").arg(&file).output().expect("run");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        server.distribute(&name);
    }
    name
}

/// Where a database of the shared server is.
pub(crate) fn url(server: &postgres::Server, database: &str) -> String {
    format!("postgres:///{database}?host={}&port={}&user={USER}", server.folder().display(), server.port)
}

/// The database that belongs to a folder: the same one for as long as the folder is there.
fn database_of(folder: &Path) -> Option<String> {
    let server = postgres::shared()?;
    let kept = folder.join("database.url");
    Some(std::fs::read_to_string(&kept).unwrap_or_else(|_| {
        let url = url(server, &fresh(server));
        std::fs::write(&kept, &url).expect("written");
        url
    }))
}

/// The server and the name of the database that the gateway in this folder has; `None` on files.
pub(crate) fn of(folder: &Path) -> Option<(&'static postgres::Server, String)> {
    let url = std::fs::read_to_string(folder.join("database.url")).ok()?;
    let name = url.strip_prefix("postgres:///")?.split('?').next()?.to_owned();
    Some((postgres::shared()?, name))
}
