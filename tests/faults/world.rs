//! What a scenario stands on: a folder of its own, a configuration, the promises, and numbers for new records.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Fallible;
use crate::cleanup::{Leftover, Owed, owe};
use crate::gateway::Start;
use crate::ledger::Ledger;
use crate::records::{incident, record_id};
use crate::scenario::Run;

/// The key of all calls. It opens only the gateways of this programme.
pub(crate) const KEY: &str = "sg_fault-programme-key-that-opens-only-its-own-gateways";

/// The organization that suffers, and another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tenant {
    Contoso,
    Fabrikam,
}

/// What a scenario may choose about its gateway: lines for each table of the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Configuration {
    pub(crate) limits: String,
    pub(crate) store: String,
    pub(crate) delivery: String,
    /// Whole tables `[routing_queues.NAME]`.
    pub(crate) destinations: String,
    /// The routing queue of each organization; `pull` where it is empty.
    pub(crate) contoso: &'static str,
    pub(crate) fabrikam: &'static str,
    /// Records a minute that `contoso` may send; as good as any, unless set.
    pub(crate) contoso_rate: Option<u32>,
}

/// A place with a configuration.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) binary: PathBuf,
    /// Configuration, promises and logs: never on the disk that suffers.
    pub(crate) folder: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) ledger: Ledger,
    next: AtomicU64,
    _owed: Owed,
}

impl World {
    /// A world whose records are in a folder beside the configuration.
    pub(crate) fn new(run: &Run, configuration: &Configuration) -> Fallible<Self> {
        let folder = tempfile::Builder::new().prefix("streamgate-faults-").tempdir()?.keep();
        let owed = owe(Leftover::Folder(folder.clone()));
        write(&folder, configuration)?;
        let ledger = Ledger::create(&folder)?;
        let data = folder.join("data");
        Ok(Self { binary: run.binary.clone(), folder, data, ledger, next: AtomicU64::new(1), _owed: owed })
    }

    /// The same with the records elsewhere.
    pub(crate) fn with_data(mut self, data: PathBuf) -> Self {
        self.data = data;
        self
    }

    /// The same with another gateway, such as one that loses records.
    pub(crate) fn with_binary(mut self, binary: &Path) -> Self {
        self.binary = binary.to_owned();
        self
    }

    /// A start that can still be changed.
    pub(crate) fn start(&self) -> Start<'_> {
        Start::new(self)
    }

    /// The number of the next new record.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// The record of this number, with so many bytes of padding in its details.
pub(crate) fn record(tenant: Tenant, number: u64, padding: usize) -> String {
    let id = id_of(number);
    let body = incident(&id, &details(number, padding));
    match tenant {
        Tenant::Contoso => body,
        Tenant::Fabrikam => body
            .replace(crate::records::ORGANIZATION_ID, "b7a5c9d0-2222-4b6f-8f7a-9c0de1f2a3b4")
            .replace(crate::records::WORK_STREAM_ID, "8d3fae65-52b9-4b22-b923-111e4b68ad42"),
    }
}

/// The record ID of this number.
pub(crate) fn id_of(number: u64) -> String {
    record_id(usize::try_from(number).unwrap_or(usize::MAX))
}

/// The details of this number's record: what is read back must be exactly this.
pub(crate) fn details(number: u64, padding: usize) -> String {
    let id = id_of(number);
    format!(r#"{{"incidentid":"{id}","title":"Record {number}","padding":"{}"}}"#, "x".repeat(padding))
}

/// A routing queue of kind `http` that leads to this address.
pub(crate) fn destination(name: &str, to: std::net::SocketAddr, more: &str) -> String {
    format!(
        "\n[routing_queues.{name}]\nkind = \"http\"\nurl = \"http://{to}/\"\nsecret_file = \"{name}.secret\"\n\
         create_secret = true\nallow_networks = [\"127.0.0.0/8\", \"10.99.0.0/24\"]\n{more}\n"
    )
}

fn write(folder: &Path, configuration: &Configuration) -> Fallible<()> {
    let Configuration { limits, store, delivery, destinations, contoso, fabrikam, contoso_rate } = configuration;
    let hash: String = streamgate::http::keys::hash(KEY).iter().map(|byte| format!("{byte:02x}")).collect();
    // Load comes from few addresses and faster than any flow; nothing but the fault is to hold it up.
    let process = format!(
        "[log]\nformat = \"json\"\nfilter = \"warn\"\n[limits]\nrequests_per_minute = 60000000\nburst = 60000000\n{limits}\n\
         [store]\n{store}\n[delivery]\n{delivery}\n\
         [[api_keys]]\nname = \"faults\"\nsha256 = \"{hash}\"\n\
         permissions = [\"records.write\", \"records.read\", \"work.handle\", \"admin\"]\norganizations = \"*\"\n{destinations}"
    );
    std::fs::write(folder.join("streamgate.toml"), process)?;
    let organizations = folder.join("organizations");
    std::fs::create_dir_all(&organizations)?;
    let rate = contoso_rate.map(|rate| format!("requests_per_minute = {rate}\nburst = {rate}\n")).unwrap_or_default();
    let leading_to = |text: &str, to: &str, more: &str| {
        let to = if to.is_empty() { "pull" } else { to };
        text.replacen("[organization]", &format!("[organization]\nrouting_queue = \"{to}\"\n{more}"), 1)
    };
    let text = include_str!("../fixtures/organizations/contoso.toml");
    std::fs::write(organizations.join("contoso.toml"), leading_to(text, contoso, &rate))?;
    let text = include_str!("../fixtures/organizations/fabrikam.toml");
    std::fs::write(organizations.join("fabrikam.toml"), leading_to(text, fabrikam, ""))?;
    Ok(())
}
