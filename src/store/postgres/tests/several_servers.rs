//! A URL with several servers, as it is written for a failover: whoever is asked for is the one that takes writes.

use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::server::Database;
use crate::store::postgres;

/// Somebody who does not answer, as a machine that is off: connections to it are never made, and never refused.
struct Silent {
    port: u16,
    /// What fills the queue of those that wait to be taken.
    _waiting: Vec<TcpStream>,
    _listener: tokio::net::TcpListener,
}

impl Silent {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let listener = socket.listen(1).expect("listening");
        let address = listener.local_addr().expect("an address");
        let mut waiting = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            waiting.push(connected.expect("connected"));
            assert!(waiting.len() < 100, "the queue does not fill");
        }
        Self { port: address.port(), _waiting: waiting, _listener: listener }
    }
}

/// Opens a database whose first server is at this port.
fn open_behind(runtime: &Runtime, first: impl FnOnce(&Runtime) -> u16) {
    let Some(database) = Database::new() else { return };
    let mut settings = database.settings();
    let Host::Unix(folder) = &settings.connection.get_hosts()[0] else { panic!("another host") };
    let mut several = Config::new();
    several.host("127.0.0.1").port(first(runtime)).host_path(folder).port(settings.connection.get_ports()[0]);
    several.user(settings.connection.get_user().expect("a user"));
    several.dbname(settings.connection.get_dbname().expect("a database"));
    several.ssl_mode(settings.connection.get_ssl_mode());
    settings.connection = several;
    postgres::Database::open(&settings).expect("the second one is found");
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

#[test]
fn a_server_whose_machine_is_off_does_not_keep_from_the_next() {
    let (runtime, mut silent) = (runtime(), None);
    open_behind(&runtime, |runtime| silent.insert(runtime.block_on(Silent::new())).port);
}

#[test]
fn a_server_that_takes_connections_and_says_nothing_does_not_keep_from_the_next() {
    let (runtime, mut hanging) = (runtime(), None);
    open_behind(&runtime, |_| {
        // The system takes what is connected, and nobody reads it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
        hanging.insert(listener).local_addr().expect("an address").port()
    });
}
