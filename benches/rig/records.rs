//! What is posted: unique records of a given size for 1,000 entity configurations, and the configuration that takes them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The key that opens the gateways.
const KEY: &str = "sg_benchmark-key-that-opens-only-this-benchmark";
const ORGANIZATIONS: u32 = 10;
const ENTITIES_EACH: u32 = 100;
/// The created row, as a flow sends it.
pub(crate) const DETAILS_BYTES: usize = 1_024;
/// Record numbers of one run of a load are its own up to so many.
const NUMBERS_PER_RUN: u64 = 1 << 28;
/// Bytes of requests that are held ready: fewer configurations take part where records are large.
const TEMPLATES_BYTES: usize = 32 << 20;

/// How many entity configurations there are.
pub(crate) const ENTITIES: u32 = ORGANIZATIONS * ENTITIES_EACH;

/// Writes the configuration that every contestant runs with: an API key, limits that never refuse, the catalog.
pub(crate) fn configure(folder: &Path) {
    let sha256: String = streamgate::http::keys::hash(KEY).iter().map(|byte| format!("{byte:02x}")).collect();
    let process = format!(
        "[limits]\nrequests_per_minute = 50_000_000\nburst = 50_000_000\n[[api_keys]]\nname = \"bench\"\n\
         sha256 = \"{sha256}\"\npermissions = [\"records.write\"]\norganizations = \"*\"\n"
    );
    std::fs::write(folder.join("streamgate.toml"), process).expect("written");
    let organizations = folder.join("organizations");
    std::fs::create_dir_all(&organizations).expect("a folder");
    for number in 0..ORGANIZATIONS {
        let mut text = format!(
            "[organization]\nid = \"{}\"\nunique_name = \"org-{number}\"\n[[work_streams]]\nid = \"{}\"\n\
             name = \"Records\"\ncapacity = 30\n",
            organization(number),
            work_stream(number)
        );
        for entity in 0..ENTITIES_EACH {
            text.push_str(&format!(
                "[[work_streams.entities]]\nid = \"{number:08x}-0000-4000-8001-{entity:012x}\"\n\
                 entity_logical_name = \"new_kind{entity}\"\nentity_set_name = \"new_kinds{entity}\"\n"
            ));
        }
        std::fs::write(organizations.join(format!("{number}.toml")), text).expect("written");
    }
}

fn organization(number: u32) -> String {
    format!("{number:08x}-0000-4000-8000-000000000001")
}

fn work_stream(number: u32) -> String {
    format!("{number:08x}-0000-4000-8000-000000000002")
}

/// Stands where the last twelve digits of a record's ID go.
pub(crate) const ID: &str = "############";

/// The body of a record for one of the entity configurations.
pub(crate) fn body(number: u32, details: &str) -> String {
    let (organization, work_stream) = (organization(number % ORGANIZATIONS), work_stream(number % ORGANIZATIONS));
    let kind = number / ORGANIZATIONS;
    format!(
        "{{\"organizationId\":\"{organization}\",\"workStreamId\":\"{work_stream}\",\"entityLogicalName\":\"new_kind{kind}\",\
         \"entitySetName\":\"new_kinds{kind}\",\"recordId\":\"00000000-0000-4000-8000-{ID}\",\
         \"relationshipName\":\"new_kind{kind}_msdyn_ocliveworkitems\",\"recordDetails\":{details}}}"
    )
}

/// A row of so many bytes: with members of every kind where there is room for them.
fn details(number: u32, bytes: usize) -> String {
    let kind = number / ORGANIZATIONS;
    let start = format!(
        "{{\"new_kind{kind}id\":\"00000000-0000-4000-8000-{ID}\",\"title\":\"Card payment declined twice\",\"statecode\":0,"
    );
    let every_kind = "\"@odata.etag\":\"W/\\\"1234567\\\"\",\"ticketnumber\":\"CAS-01213-P8B3G0\",\"prioritycode\":2,\
         \"statuscode\":1,\"versionnumber\":9007199254740993,\"new_amount\":98.60000000000001,\
         \"isescalated\":false,\"resolvebysla\":null,\"createdon\":\"2026-11-23T18:07:29Z\",\
         \"modifiedon\":\"2026-11-23T18:07:29Z\",\"_ownerid_value\":\"5e1f0c9a-7b2d-ea11-a810-000d3a3be0a5\",\
         \"_customerid_value\":\"7c2e9d54-41a8-ea11-a812-000d3a579c31\",";
    let row = |middle: &str, description: &str| format!("{start}{middle}\"description\":\"{description}\"}}");
    let room = bytes.checked_sub(row("", "").len()).expect("room for the short row");
    let (middle, missing) = room.checked_sub(every_kind.len()).map_or(("", room), |left| (every_kind, left));
    row(middle, &"She tried it at the till and online. ".repeat(missing / 37 + 1)[..missing])
}

/// A request with two places for its record's ID.
pub(crate) struct Template([Vec<u8>; 3]);

impl Template {
    /// One for each entity configuration, or for as many as there is room for, with details of this size.
    pub(crate) fn all(details_bytes: usize) -> Vec<Self> {
        let room = u32::try_from(TEMPLATES_BYTES / details_bytes).unwrap_or(u32::MAX);
        (0..ENTITIES.min(room)).map(|number| Self::new(number, details_bytes)).collect()
    }

    fn new(number: u32, details_bytes: usize) -> Self {
        let body = body(number, &details(number, details_bytes));
        let request = format!(
            "POST /api/v1/records HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut parts = request.split(ID).map(|part| part.as_bytes().to_vec());
        Self(std::array::from_fn(|_| parts.next().expect("three parts")))
    }

    /// The request for this record.
    pub(crate) fn fill(&self, number: u64, request: &mut Vec<u8>) {
        let id = format!("{number:012x}");
        let [first, second, third] = &self.0;
        request.clear();
        for part in [first.as_slice(), id.as_bytes(), second, id.as_bytes(), third] {
            request.extend_from_slice(part);
        }
    }
}

/// Writes the requests down for a load tool: parts end with 1, requests with 2.
pub(crate) fn write_templates(templates: &[Template], file: &Path) {
    let mut text = Vec::new();
    for Template(parts) in templates {
        text.extend(parts.join([1].as_slice()));
        text.push(2);
    }
    std::fs::write(file, text).expect("written");
}

/// Runs so far, of all loads. Number 0 is for what was there before.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// One run of a load, with record numbers that no other run has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run(u64);

impl Run {
    /// The next one.
    pub(crate) fn next() -> Self {
        Self(RUNS.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The number of its first record.
    pub(crate) const fn first(self) -> u64 {
        self.0 * NUMBERS_PER_RUN
    }

    /// The digits with which its records' numbers begin; seven more follow.
    pub(crate) fn prefix(self) -> String {
        format!("{:05x}", self.0)
    }
}
