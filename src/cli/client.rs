//! How commands talk to a running gateway: its address, a key, and answers that are either JSON or a problem.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::output::printable;
use super::{Exit, Failure, with_causes};

/// Where the gateway is, and who asks.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ClientArgs {
    /// The gateway's public address.
    #[arg(long, global = true, env = "STREAMGATE_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// The gateway's administration address.
    #[arg(
        long,
        global = true,
        env = "STREAMGATE_ADMIN_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8081"
    )]
    admin_url: Url,
    /// The API key. Better in the environment than on the command line, where others can see it.
    #[arg(long, global = true, env = "STREAMGATE_API_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// A file that holds the API key, used when no key is given. The gateway writes its development key here.
    #[arg(long, global = true, value_name = "FILE", default_value = "streamgate-data/development.key")]
    key_file: PathBuf,
    /// A file with certificates to trust besides those of the system, where the gateway's is from nobody that it knows.
    #[arg(long, global = true, env = "STREAMGATE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// After a change of the configuration: go on only when every gateway on the same catalog serves it.
    #[arg(long, global = true)]
    wait_all: bool,
}

/// Which of the gateway's two listeners.
#[derive(Debug, Clone, Copy)]
pub(super) enum Listener {
    Public,
    Admin,
}

/// An answer: its status and its JSON body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    /// The resource's tag, where the answer is one.
    pub(super) etag: Option<String>,
}

impl Answer {
    /// The problem in words: what is wrong and what to do.
    pub(super) fn problem(&self) -> String {
        let text = |name: &str| printable(self.body.get(name).and_then(Value::as_str).unwrap_or_default());
        let next = next_step(&text("code")).map_or_else(|| text("action"), str::to_owned);
        let faults: String =
            self.body.get("faults").and_then(Value::as_array).into_iter().flatten().map(fault_in_words).collect();
        if faults.is_empty() {
            // A change that was made all the same; a key is shown this once.
            let made =
                self.body.get("change").map(|change| format!("\nThe change: {}", printable(&change.to_string())));
            let made = made.unwrap_or_default();
            return format!("{} {}: {} {next}{made}", self.status.as_u16(), text("code"), text("detail"));
        }
        // The faults say all of it.
        format!("{} {}: {}; nothing was changed.{faults}", self.status.as_u16(), text("code"), text("title"))
    }

    /// The body of a success, or the problem as a failure.
    pub(super) fn success(self) -> Result<Value, Failure> {
        if self.status.is_success() { Ok(self.body) } else { Err(self.refusal()) }
    }

    /// What an answer that is no success tells: its problem, as a failure.
    pub(super) fn refusal(self) -> Failure {
        let mut message = self.problem();
        if self.status == StatusCode::UNAUTHORIZED {
            message.push_str(" (Give the key with --key, --key-file or STREAMGATE_API_KEY.)");
        }
        Failure { problem: Some(Box::new(self.body)), ..Failure::new(Exit::Refused, message) }
    }
}

/// What to do next as a command, where the gateway can only name a request.
fn next_step(code: &str) -> Option<&'static str> {
    Some(match code {
        "resource-unknown" => "The command `list` shows what there is.",
        "resource-exists" => "The command `update` changes the one that is there; or choose another ID or name.",
        "default-queue" => "Make another queue the default first: `streamgate queues update QUEUE --default`.",
        "precondition-failed" => "Nothing was changed. Run the command again: it starts from what is there now.",
        _ => return None,
    })
}

/// A fault of a submission, or a warning, on lines of its own.
pub(super) fn fault_in_words(fault: &Value) -> String {
    let text = |name: &str| fault.get(name).and_then(Value::as_str).map(printable);
    let place = text("pointer").filter(|pointer| !pointer.is_empty());
    let place = place.map(|pointer| format!("{pointer}: ")).unwrap_or_default();
    let hint = text("hint").map(|hint| format!("\n    hint: {hint}")).unwrap_or_default();
    format!("\n  {place}{}{hint}", text("message").unwrap_or_default())
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a running gateway.
pub(super) struct Client {
    http: reqwest::Client,
    args: ClientArgs,
    /// `None` where what is asked for needs none.
    key: Option<String>,
}

impl Client {
    pub(super) fn new(args: &ClientArgs) -> Result<Self, Failure> {
        let key = match &args.key {
            Some(key) => key.clone(),
            None => std::fs::read_to_string(&args.key_file).map_err(|fault| {
                Failure::new(
                    Exit::Usage,
                    format!(
                        "no API key: --key and STREAMGATE_API_KEY are not set, and {} cannot be read ({fault}). \
                         Give a key, or name the file that holds it with --key-file.",
                        args.key_file.display()
                    ),
                )
            })?,
        };
        let key = key.trim().to_owned();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "the API key is empty, or holds blanks or characters that no key has; give the whole key and nothing else";
            return Err(Failure::new(Exit::Usage, message));
        }
        Self::with(args, Some(key), PATIENCE)
    }

    /// Whether changes are to be waited for.
    pub(super) const fn waits_for_all(&self) -> bool {
        self.args.wait_all
    }

    /// For what anybody may ask.
    pub(super) fn without_key(args: &ClientArgs) -> Result<Self, Failure> {
        Self::with(args, None, PATIENCE)
    }

    /// The same at a second listener alone, whose certificate may be in this file.
    pub(super) fn at_second_listener(
        admin_url: &Url,
        ca: Option<PathBuf>,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let (url, admin_url) = (admin_url.clone(), admin_url.clone());
        Self::with(
            &ClientArgs { url, admin_url, key: None, key_file: PathBuf::new(), ca, wait_all: false },
            None,
            patience,
        )
    }

    fn with(args: &ClientArgs, key: Option<String>, patience: Duration) -> Result<Self, Failure> {
        for url in [&args.url, &args.admin_url] {
            let is_http = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
            // Behind either of these, a path would be no path.
            if !is_http || url.query().is_some() || url.fragment().is_some() {
                let message = format!("`{url}` is no address of a gateway; give one such as http://127.0.0.1:8080");
                return Err(Failure::new(Exit::Usage, message));
            }
        }
        let mut http = reqwest::Client::builder().timeout(patience).redirect(reqwest::redirect::Policy::none());
        if is_loopback(&args.url) && is_loopback(&args.admin_url) {
            // A proxy could not reach this machine's loopback, and must not learn the key.
            http = http.no_proxy();
        }
        if let Some(file) = &args.ca {
            http = http.tls_certs_merge(certificates(file)?);
        }
        let http = http
            .build()
            .map_err(|fault| Failure::new(Exit::Refused, format!("the HTTP client cannot start: {fault}")))?;
        Ok(Self { http, args: args.clone(), key })
    }

    /// One request. A body is sent as JSON, byte for byte.
    pub(super) async fn send(
        &self,
        listener: Listener,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        self.send_if(listener, method, path, (body, None)).await
    }

    /// As [`Client::send`], only if the resource still has this tag.
    pub(super) async fn send_if(
        &self,
        listener: Listener,
        method: Method,
        path: &str,
        change: (Option<Vec<u8>>, Option<&str>),
    ) -> Result<Answer, Failure> {
        let (url, response) = self.exchange(listener, method, path, change).await?;
        let status = response.status();
        let etag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let text = response.text().await.map_err(|fault| unreachable(&url, &fault))?;
        let body = serde_json::from_str(&text).map_err(|_| {
            Failure::new(
                Exit::Refused,
                format!("{url} answered {status} with something that is not JSON. Is that a Streamgate?"),
            )
        })?;
        Ok(Answer { status, body, etag })
    }

    /// What is there, as text.
    pub(super) async fn text(&self, listener: Listener, path: &str) -> Result<(StatusCode, String), Failure> {
        let (url, response) = self.exchange(listener, Method::GET, path, (None, None)).await?;
        let status = response.status();
        Ok((status, response.text().await.map_err(|fault| unreachable(&url, &fault))?))
    }

    async fn exchange(
        &self,
        listener: Listener,
        method: Method,
        path: &str,
        (body, if_match): (Option<Vec<u8>>, Option<&str>),
    ) -> Result<(Url, reqwest::Response), Failure> {
        let base = match listener {
            Listener::Public => &self.args.url,
            Listener::Admin => &self.args.admin_url,
        };
        // Behind the path that the address may have: a proxy can give the gateway a part of its own.
        let url = format!("{}{path}", base.as_str().trim_end_matches('/'));
        let url = Url::parse(&url)
            .map_err(|fault| Failure::new(Exit::Usage, format!("`{base}` and `{path}` make no address: {fault}")))?;
        // A name that is `..` leads up in an address, however it is escaped, and an empty one to the list.
        let segments = path.split('?').next().unwrap_or_default();
        if !url.as_str().ends_with(path) || segments.contains("//") || segments.ends_with('/') {
            let message = "a name that is empty, `.` or `..` cannot be reached by its address; `streamgate export` and \
                           `streamgate apply` change what is called so";
            return Err(Failure::new(Exit::Usage, message));
        }
        let mut request = self.http.request(method, url.clone());
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        if let Some(tag) = if_match {
            request = request.header("if-match", tag);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.map_err(|fault| unreachable(&url, &fault))?;
        Ok((url, response))
    }
}

fn unreachable(url: &Url, fault: &reqwest::Error) -> Failure {
    let cause = std::error::Error::source(fault).map_or_else(|| fault.to_string(), with_causes);
    // What is wrong with a certificate is at the end of the chain of causes, as words only.
    let advice = if cause.contains("CaUsedAsEndEntity") {
        "The gateway shows an authority's certificate (CA:TRUE) as its own; give it one with CA:FALSE, as \
         docs/operating.md, section 15, writes it."
    } else if cause.contains("certificate") {
        "Does the certificate belong to that host name, and is its issuer trusted here? If not, give the issuer's \
         certificate with --ca or STREAMGATE_CA."
    } else {
        "Is the gateway running, and are --url and --admin-url right?"
    };
    Failure::new(Exit::Unreachable, format!("no answer from {url}: {cause}. {advice}"))
}

/// The certificates in a file.
fn certificates(file: &Path) -> Result<Vec<reqwest::Certificate>, Failure> {
    let unusable = |fault: String| {
        let message = format!("--ca {}: {fault}. Name a file with certificates in PEM.", file.display());
        Failure::new(Exit::Usage, message)
    };
    let bytes = std::fs::read(file).map_err(|fault| unusable(format!("cannot be read ({fault})")))?;
    let found = reqwest::Certificate::from_pem_bundle(&bytes).map_err(|fault| unusable(with_causes(&fault)))?;
    if found.is_empty() { Err(unusable("there is no certificate in it".to_owned())) } else { Ok(found) }
}

/// Whether the address is on this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// Runs a command's requests to their end.
pub(super) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|fault| Failure::new(Exit::Refused, format!("the runtime cannot start: {fault}")))?
        .block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiremock::matchers::{header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    fn client(base: &str, key: &str) -> Result<Client, Failure> {
        crate::app::install_crypto_provider();
        let url = Url::parse(base).expect("an address");
        Client::new(&ClientArgs {
            url: url.clone(),
            admin_url: url,
            key: Some(key.to_owned()),
            key_file: PathBuf::new(),
            ca: None,
            wait_all: false,
        })
    }

    #[tokio::test]
    async fn the_path_of_the_address_is_kept() {
        let server = MockServer::start().await;
        Mock::given(method("PATCH"))
            .and(path("/gate/way/admin/v1/rules/x%2Fy"))
            .and(header("if-match", "\"t\""))
            .respond_with(ResponseTemplate::new(200).insert_header("etag", "\"u\"").set_body_string("{}"))
            .expect(2)
            .mount(&server)
            .await;
        for base in ["/gate/way", "/gate/way/"] {
            let client = client(&format!("{}{base}", server.uri()), " k\n").expect("a client");
            let to = "/admin/v1/rules/x%2Fy?organizationId=a";
            let answer = client.send_if(Listener::Admin, Method::PATCH, to, (None, Some("\"t\""))).await;
            assert_eq!(answer.expect("an answer").etag.as_deref(), Some("\"u\""));
        }
    }

    #[tokio::test]
    async fn no_name_leads_anywhere_else() {
        let client = client("http://127.0.0.1:1/p", "k").expect("a client");
        for odd in ["/admin/v1/a/../b", "/admin/v1/a/.", "/admin/v1/a/%2e%2E/b?c=d", "/admin/v1/a/", "/admin/v1/a//b"] {
            let refused = client.send(Listener::Admin, Method::DELETE, odd, None).await.expect_err(odd);
            assert_eq!(refused.exit, Exit::Usage, "{odd}");
        }
        let nobody = client.send(Listener::Admin, Method::GET, "/admin/v1/audit?x=..%2F", None).await;
        assert_eq!(nobody.expect_err("nobody is there").exit, Exit::Unreachable);
    }

    #[test]
    fn what_could_never_be_sent_is_wrong_usage() {
        for (base, key) in
            [("http://h", "a\nb"), ("http://h", ""), ("ftp://h", "k"), ("http://h/?a", "k"), ("http://h/#a", "k")]
        {
            assert_eq!(client(base, key).err().expect("refused").exit, Exit::Usage, "{base} {key:?}");
        }
    }
}
