//! What the pieces work on: a configuration with rules, records of several sizes, a stored record, credentials.

use std::fmt::Write as _;
use std::sync::Arc;

use streamgate::app::load_config;
use streamgate::config::Overrides;
use streamgate::config::settings::{Effective, WebhookSecret};
use streamgate::domain::access::{Caller, OrganizationScope, Permission};
use streamgate::domain::admission::{Admission, Admitted, admit};
use streamgate::domain::catalog::{EntityConfiguration, WorkStream};
use streamgate::domain::ids::ReceiptId;
use streamgate::domain::record::RecordCreated;
use streamgate::store::{StoredRecord, TraceContext};

use super::gate::{AUDIENCE, Gate, ISSUER, Issuer};

/// A key among others.
pub(crate) const KEY: &str = "sg_benchmark-key-that-opens-only-this-benchmark";
const ORGANIZATION: &str = "0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10";
/// API keys that are compared with every one that comes.
const API_KEYS: u32 = 10;
/// Work streams by how many rules they have.
const STREAMS: [(&str, u32); 3] = [
    ("7c2e9d54-41a8-ea11-a812-000d3a579c30", 0),
    ("7c2e9d54-41a8-ea11-a812-000d3a579c31", 1),
    ("7c2e9d54-41a8-ea11-a812-000d3a579c32", 20),
];

/// Everything that is set up once.
pub(crate) struct Desk {
    effective: Effective,
    /// Who posts.
    pub(crate) caller: Caller,
    /// Credentials and who judges them.
    pub(crate) gate: Gate,
    /// One signing secret.
    pub(crate) secrets: [WebhookSecret; 1],
}

/// How many rules of a work stream are tried.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rules {
    /// There is none.
    None,
    /// One, which does not match.
    One,
    /// Twenty over four columns; none matches.
    Twenty,
}

impl Desk {
    /// Sets everything up.
    pub(crate) fn new() -> Self {
        streamgate::app::install_crypto_provider();
        let folder = tempfile::tempdir().expect("a folder");
        let issuer = Issuer::new();
        std::fs::create_dir(folder.path().join("organizations")).expect("a folder");
        std::fs::write(folder.path().join("streamgate.toml"), process(&issuer)).expect("written");
        std::fs::write(folder.path().join("organizations/contoso.toml"), organization()).expect("written");
        let overrides = Overrides { data_dir: Some(folder.path().join("data")), ..Overrides::default() };
        let config = load_config(Some(&folder.path().join("streamgate.toml")), &overrides).expect("a configuration");
        let effective = config.effective;
        let gate = Gate::open(Arc::clone(&effective.credentials), &issuer);
        let caller = Caller {
            credential: "bench".into(),
            permissions: [Permission::RecordsWrite].into(),
            organizations: OrganizationScope::All,
        };
        Self { effective, caller, gate, secrets: [WebhookSecret::random().expect("random bits")] }
    }

    /// A record that was read but not admitted yet.
    pub(crate) fn event(&self, rules: Rules, details_bytes: usize) -> RecordCreated {
        RecordCreated::parse(body(rules, details_bytes).as_bytes()).expect("a record")
    }

    /// Admits a record.
    pub(crate) fn admit(&self, event: RecordCreated) -> Box<Admitted> {
        let admission = admit(&self.effective.catalog, &self.caller, event).expect("admitted");
        let Admission::Record(admitted) = admission else { panic!("no test operation") };
        admitted
    }

    /// What a refused record becomes: a body.
    pub(crate) fn refuse(&self, event: RecordCreated) -> String {
        let refused = admit(&self.effective.catalog, &self.caller, event).expect_err("refused");
        let problem = streamgate::http::problem::Problem::from(refused);
        problem.under(self.effective.catalog.generation()).body("4bf92f3577b34da6a3ce929d0e0e4736")
    }

    /// A work stream and its one entity configuration.
    pub(crate) fn stream(&self, rules: Rules) -> (&WorkStream, &EntityConfiguration) {
        let event = self.event(rules, 1_024);
        let organization =
            self.effective.catalog.organization_for(&self.caller, &event.organization).expect("configured");
        let stream = organization.work_streams.get(&event.work_stream).expect("configured");
        (stream, stream.entities.get(&event.entity_logical_name).expect("configured"))
    }

    /// A record as it is leased.
    pub(crate) fn stored(&self, details_bytes: usize) -> StoredRecord {
        let admitted = self.admit(self.event(Rules::None, details_bytes));
        let event = admitted.event();
        StoredRecord {
            receipt: ReceiptId::from_bytes([7; 24]),
            organization: event.organization,
            work_stream: event.work_stream,
            entity_logical_name: event.entity_logical_name.clone(),
            entity_set_name: event.entity_set_name.clone(),
            record_id: event.record_id,
            relationship_name: event.relationship_name.clone(),
            details: admitted.details().clone(),
            route: admitted.route().clone(),
            catalog_generation: admitted.catalog_generation(),
            accepted_at: self.gate.now,
            trace: TraceContext::default(),
        }
    }
}

/// A request's body with details of this size.
pub(crate) fn body(rules: Rules, details_bytes: usize) -> String {
    let row = |description: &str| {
        format!(
            "{{\"@odata.etag\":\"W/\\\"1234567\\\"\",\"incidentid\":\"5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5\",\
             \"title\":\"Card payment declined twice\",\"ticketnumber\":\"CAS-01213-P8B3G0\",\"prioritycode\":2,\
             \"statecode\":0,\"statuscode\":1,\"versionnumber\":9007199254740993,\"new_amount\":98.60000000000001,\
             \"isescalated\":false,\"resolvebysla\":null,\"createdon\":\"2026-11-23T18:07:29Z\",\
             \"_ownerid_value\":\"5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5\",\"description\":\"{description}\"}}"
        )
    };
    let missing = details_bytes.checked_sub(row("").len()).expect("room for the row");
    let details = row(&"She tried it at the till and online. ".repeat(missing / 37 + 1)[..missing]);
    let (stream, _) = STREAMS[rules as usize];
    format!(
        "{{\"organizationId\":\"{ORGANIZATION}\",\"workStreamId\":\"{stream}\",\"entityLogicalName\":\"incident\",\
         \"entitySetName\":\"incidents\",\"recordId\":\"5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5\",\
         \"relationshipName\":\"incident_msdyn_ocliveworkitems\",\"recordDetails\":{details}}}"
    )
}

fn process(issuer: &Issuer) -> String {
    let mut text = format!(
        "[[issuers]]\nname = \"bench\"\nissuer = \"{ISSUER}\"\njwks_url = \"http://{}/keys\"\nalgorithms = [\"RS256\"]\n\
         audiences = [\"{AUDIENCE}\"]\npermissions = [\"records.write\"]\norganizations = \"*\"\n",
        issuer.address()
    );
    for number in 0..API_KEYS {
        let key = if number == API_KEYS / 2 { KEY.to_owned() } else { format!("{KEY}-{number}") };
        let sha256: String = streamgate::http::keys::hash(&key).iter().map(|byte| format!("{byte:02x}")).collect();
        let _infallible = write!(
            text,
            "[[api_keys]]\nname = \"key-{number}\"\nsha256 = \"{sha256}\"\npermissions = [\"records.write\"]\n\
             organizations = \"*\"\n"
        );
    }
    text
}

fn organization() -> String {
    let mut text = format!(
        "[organization]\nid = \"{ORGANIZATION}\"\nunique_name = \"contoso\"\n[[queues]]\nname = \"Other\"\n\
         [[queues]]\nname = \"Default\"\ndefault = true\n"
    );
    for (at, (stream, rules)) in STREAMS.into_iter().enumerate() {
        let _infallible = write!(text, "[[work_streams]]\nid = \"{stream}\"\nname = \"Stream {at}\"\ncapacity = 30\n");
        for rule in 0..rules {
            let when = match rule % 4 {
                0 => format!("{{ column = \"prioritycode\", operator = \"equals\", value = {} }}", rule + 100),
                1 => format!("{{ column = \"title\", operator = \"contains\", value = \"refund {rule}\" }}"),
                2 => format!("{{ column = \"new_amount\", operator = \"greater-than\", value = {} }}", rule + 1_000),
                _ => format!("{{ column = \"ticketnumber\", operator = \"begins-with\", value = \"X{rule}\" }}"),
            };
            let _infallible =
                write!(text, "[[work_streams.rules]]\nname = \"Rule {rule}\"\nqueue = \"Other\"\nwhen = {when}\n");
        }
        let _infallible = write!(
            text,
            "[[work_streams.entities]]\nid = \"c6d0a4f2-8b1e-4f3c-a5d7-2e9b0c1f4a6{at}\"\n\
             entity_logical_name = \"incident\"\nentity_set_name = \"incidents\"\n"
        );
    }
    text
}
