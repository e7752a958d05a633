//! Connecting to one of several servers: in turn, and to each for a time that leaves some for the next.
//!
//! The library's own way waits without an end for a server that takes the connection and then says nothing, as one does whose
//! processes are stopped or whose disk hangs. Behind such a first server nobody would find the one that has taken over.

use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_postgres::config::LoadBalanceHosts;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A connection is made within this time.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// A connection that somebody has to drive.
pub(super) type Connected = (Client, Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>);

/// How long one of several servers is waited for. They are tried in turn within [`CONNECT`], and within what readiness
/// waits: one that says nothing at all must not use up what the next one needs.
pub(super) fn for_one_of(servers: usize) -> Duration {
    match u32::try_from(servers) {
        Ok(0 | 1) | Err(_) => CONNECT,
        Ok(several) => CONNECT / (2 * several),
    }
}

/// Connects to the first server that is what is asked for.
///
/// # Errors
/// That of the last server. One that did not answer has none; whoever waits for the last one sets the limit.
pub(super) async fn connect(config: &Config, tls: &MakeRustlsConnect) -> Result<Connected, Error> {
    let mut each = one_by_one(config);
    let Some(last) = each.pop() else { return config.connect(tls.clone()).await };
    let patience = for_one_of(each.len() + 1);
    for (at, server) in each.into_iter().enumerate() {
        match tokio::time::timeout(patience, server.connect(tls.clone())).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => tracing::debug!(%error, at, "one of the database's servers is passed over"),
            Err(_) => tracing::debug!(at, "one of the database's servers does not answer, and is passed over"),
        }
    }
    last.connect(tls.clone()).await
}

/// The configuration for each of its servers, in the order in which they are tried; empty where there are not several.
fn one_by_one(config: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let servers = hosts.len().max(addresses.len());
    let is_consistent = |given: usize| given == 0 || given == servers;
    if servers < 2 || !is_consistent(hosts.len()) || !is_consistent(addresses.len()) {
        // The library says what is wrong with it.
        return Vec::new();
    }
    let mut each: Vec<Config> = (0..servers)
        .map(|at| {
            let mut one = without_servers(config);
            match hosts.get(at) {
                Some(tokio_postgres::config::Host::Tcp(name)) => one.host(name),
                Some(tokio_postgres::config::Host::Unix(folder)) => one.host_path(folder),
                None => &mut one,
            };
            addresses.get(at).map(|address| one.hostaddr(*address));
            ports.get(at).or_else(|| ports.first()).map(|port| one.port(*port));
            one
        })
        .collect();
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        let start = getrandom::u32().ok().and_then(|random| usize::try_from(random).ok()).unwrap_or(0);
        each.rotate_left(start % servers);
    }
    each
}

/// Everything else that it says.
fn without_servers(config: &Config) -> Config {
    let mut rest = Config::new();
    config.get_user().map(|user| rest.user(user));
    config.get_password().map(|password| rest.password(password));
    config.get_dbname().map(|name| rest.dbname(name));
    config.get_options().map(|options| rest.options(options));
    config.get_application_name().map(|name| rest.application_name(name));
    rest.ssl_mode(config.get_ssl_mode()).ssl_negotiation(config.get_ssl_negotiation());
    config.get_connect_timeout().map(|timeout| rest.connect_timeout(*timeout));
    config.get_tcp_user_timeout().map(|timeout| rest.tcp_user_timeout(*timeout));
    rest.keepalives(config.get_keepalives()).keepalives_idle(config.get_keepalives_idle());
    config.get_keepalives_interval().map(|interval| rest.keepalives_interval(interval));
    config.get_keepalives_retries().map(|retries| rest.keepalives_retries(retries));
    rest.target_session_attrs(config.get_target_session_attrs()).channel_binding(config.get_channel_binding());
    rest
}

/// How the pool connects.
pub(super) struct ToOneOfThem(pub(super) MakeRustlsConnect);

impl Connect for ToOneOfThem {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let config = config.clone();
        Box::pin(async move {
            let (client, connection) = connect(&config, &self.0).await?;
            let driven = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the database ended");
                }
            });
            Ok((client, driven))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where another version of the library knows something that is not copied, this is to fail.
    #[test]
    fn nothing_but_the_servers_differs() {
        let url = "host=a,b hostaddr=192.0.2.1,192.0.2.2 port=1,2 user=u password=p dbname=d options='-c x=y' \
             application_name=n sslmode=require sslnegotiation=direct connect_timeout=3 tcp_user_timeout=4 keepalives=0 \
             keepalives_idle=5 keepalives_interval=6 keepalives_retries=7 target_session_attrs=read-write \
             channel_binding=require";
        let both: Config = url.parse().unwrap();
        let only = |host: &str, address: &str, port: &str| -> Config {
            url.replace("host=a,b", &format!("host={host}"))
                .replace("192.0.2.1,192.0.2.2", address)
                .replace("port=1,2", &format!("port={port}"))
                .parse()
                .unwrap()
        };
        assert!(one_by_one(&both) == [only("a", "192.0.2.1", "1"), only("b", "192.0.2.2", "2")]);
        assert!(one_by_one(&only("a", "192.0.2.1", "1")).is_empty());
    }
}
