//! Databases of a server that the tests of this process share.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::config::SslMode;

use self::servers::{Server, USER};
use crate::config::settings::{DatabaseSettings, DatabaseTrust};
use crate::store::postgres;

#[path = "../../../../tests/support/postgres.rs"]
mod servers;

/// A database of its own, gone when this is dropped.
pub(crate) struct Database {
    server: &'static Server,
    name: String,
}

impl Database {
    /// A new one; `None` where no server is installed. On a cluster its tables are there, and distributed.
    pub(crate) fn new() -> Option<Self> {
        let database = Self::empty()?;
        if database.is_in_cluster() {
            postgres::migrate(&database.settings()).expect("tables");
            database.server.distribute(&database.name);
        }
        Some(database)
    }

    /// One with an encoding that knows only the scripts of western Europe.
    pub(crate) fn in_latin1() -> Option<Self> {
        let database = Self::new()?;
        let name = &database.name;
        database.server.psql(USER, &format!("drop database {name}"));
        let create = format!("create database {name} encoding 'LATIN1' locale 'C' template template0");
        database.server.psql(USER, &create);
        Some(database)
    }

    /// One without tables.
    pub(crate) fn empty() -> Option<Self> {
        let server = servers::shared()?;
        Some(Self { server, name: server.create_database() })
    }

    /// Whether its tables are on several servers.
    pub(crate) fn is_in_cluster(&self) -> bool {
        self.server.is_cluster()
    }

    /// How a gateway is told where it is.
    pub(crate) fn settings(&self) -> DatabaseSettings {
        let mut connection = tokio_postgres::Config::new();
        connection.host_path(self.server.folder()).port(self.server.port);
        connection.user(USER).dbname(&self.name).ssl_mode(SslMode::Disable);
        let statement_timeout = Duration::from_secs(10);
        DatabaseSettings { connection, trust: DatabaseTrust::InTheClear, max_connections: 8, statement_timeout }
    }

    /// The database, opened.
    pub(crate) fn open(&self) -> Arc<postgres::Database> {
        postgres::Database::open(&self.settings()).expect("opened")
    }

    /// Has the server end every connection to the database.
    pub(crate) fn cut_connections(&self) {
        let cut = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'", self.name);
        self.server.psql(USER, &cut);
    }

    /// Has the server refuse every connection to the database, and ends those that there are; or lets them in again.
    pub(crate) fn lock_out(&self, locked: bool) {
        self.server.psql(USER, &format!("alter database {} allow_connections {}", self.name, !locked));
        if locked {
            self.cut_connections();
        }
    }

    /// Sets a parameter for whoever connects from now on.
    pub(crate) fn set(&self, parameter: &str, value: &str) {
        self.server.psql(USER, &format!("alter database {} set {parameter} = {value}", self.name));
    }

    /// Has the server do something in the database, and answers what it prints.
    pub(crate) fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.name, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server.drop_database(&self.name);
    }
}
