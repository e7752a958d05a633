//! Two and three gateways on one database: what one of them changes the others serve, nobody's change is lost, and who does
//! not follow is named.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::config::settings::Process;
use crate::config::stored::NotRead;
use crate::config::{Overrides, load_with_stored};
use crate::domain::access::{Caller, OrganizationScope, Permission};
use crate::domain::ids::{Guid, OrganizationId};
use crate::editor::address::{Address, Collection, Identity};
use crate::editor::{DocumentEdit, DocumentEdited, Edit, EditError, EditKind, Edited, Editor, NewKey, Tag, keeper};
use crate::store::catalog::AuditQuery;
use crate::store::postgres::catalog::PostgresCatalog;
use crate::store::postgres::tests::server;
use crate::store::sqlite::catalog::SqliteCatalog;

/// A gateway without its door.
pub(crate) struct Gateway {
    pub(crate) live: Arc<Live>,
    editor: Editor,
    pub(crate) fleet: Arc<Fleet>,
    folder: tempfile::TempDir,
}

fn who() -> Caller {
    Caller {
        credential: "root".into(),
        permissions: BTreeSet::from(Permission::ALL),
        organizations: OrganizationScope::All,
    }
}

fn organization(number: u8) -> OrganizationId {
    Guid::from_bytes([number; 16]).into()
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

impl Gateway {
    /// One on this database, with this in its main file and an organization of its files where there is a text for one.
    fn with_files(database: &server::Database, name: &str, main: &str, file: Option<&str>) -> Self {
        let catalog = PostgresCatalog::open(database.open());
        Self::on(Arc::new(catalog), name, main, file)
    }

    fn on(catalog: Arc<dyn CatalogStore>, name: &str, main: &str, file: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("organizations")).unwrap();
        write(folder.path(), "streamgate.toml", main);
        file.into_iter().for_each(|text| write(folder.path(), "organizations/own.toml", text));
        let overrides = Overrides { data_dir: Some(folder.path().join("data")), ..Overrides::default() };
        let stored = |_: &Process| catalog.load().map_err(|fault| NotRead::Unusable(fault.to_string()));
        let config = load_with_stored(Some(&folder.path().join("streamgate.toml")), &overrides, &stored).unwrap();
        let live = Arc::new(Live::new(config).kept_by(keeper(Arc::clone(&catalog))).unwrap());
        let name = Name { name: name.to_owned(), version: "1".to_owned() };
        let fleet = Arc::new(Fleet::start(Arc::clone(&live), Arc::clone(&catalog), name).unwrap());
        let editor = Editor::new(Arc::clone(&live), catalog);
        Self { live, editor, fleet, folder }
    }

    pub(crate) fn new(database: &server::Database, name: &str) -> Self {
        Self::with_files(database, name, "", None)
    }

    fn put(&self, number: u8, document: Value) -> Result<DocumentEdited, EditError> {
        self.editor.put_document(DocumentEdit {
            who: &who(),
            organization: organization(number),
            document: document.as_object().unwrap().clone(),
            if_match: None,
            only_create: false,
            dry_run: false,
        })
    }

    fn edit(&self, address: Address, kind: EditKind, if_match: Option<Tag>) -> Result<Edited, EditError> {
        self.editor.edit(Edit { who: &who(), organization: organization(1), address, if_match, kind })
    }

    fn add_queue(&self, name: &str) -> Result<Edited, EditError> {
        let resource = json!({ "name": name }).as_object().unwrap().clone();
        let kind = EditKind::Create { collection: Collection::Queues, resource, position: None };
        self.edit(Address::organization(), kind, None)
    }

    fn queues(&self) -> BTreeSet<String> {
        let current = self.live.current();
        let organization = current.catalog.organization(&organization(1));
        organization.into_iter().flat_map(|one| one.queues.iter()).map(|queue| queue.name.to_string()).collect()
    }

    fn generation(&self) -> u64 {
        self.live.current().catalog.generation()
    }
}

/// Waits for a state.
fn until(what: &str, is_there: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_there() {
        assert!(Instant::now() < deadline, "it never came: {what}");
        std::thread::yield_now();
    }
}

fn litware() -> Value {
    json!({
        "organization": { "uniqueName": "litware" },
        "workStreams": [{ "id": Guid::from_bytes([8; 16]), "name": "Records" }],
    })
}

#[test]
fn what_one_changes_all_serve_under_the_same_generation() {
    let Some(database) = server::Database::new() else { return };
    let gateways = [1, 2, 3].map(|number| Gateway::new(&database, &format!("gateway-{number}")));
    let [one, two, three] = &gateways;
    one.put(1, litware()).unwrap();
    let generation = one.generation();
    until("all have it", || gateways.iter().all(|gateway| gateway.generation() == generation));
    for gateway in &gateways {
        let (current, first) = (gateway.live.current(), one.live.current());
        assert_eq!(current.layers.stored, first.layers.stored);
        assert_eq!(current.catalog.organization(&organization(1)), first.catalog.organization(&organization(1)));
        assert_eq!(gateway.fleet.standing(), Standing::Current);
    }
    let request = json!({ "name": "ci", "permissions": ["admin"], "organizations": "*" });
    let request = request.as_object().unwrap().clone();
    two.editor.create_key(NewKey { who: &who(), request, sha256: [9; 32] }).unwrap();
    let has_key = |gateway: &Gateway| !gateway.live.current().credentials.stored_api_keys.is_empty();
    until("the key counts everywhere", || gateways.iter().all(has_key));
    three.editor.revoke_key(&who(), "ci").unwrap();
    until("the key counts nowhere", || !gateways.iter().any(has_key));
    three.editor.delete_organization(&who(), organization(1), None, false).unwrap();
    let gone = |gateway: &Gateway| gateway.live.current().catalog.organization(&organization(1)).is_none();
    until("the organization is gone everywhere", || gateways.iter().all(gone));
    let trail = one.editor.store().audit(&AuditQuery { limit: 10, ..AuditQuery::default() }).unwrap();
    assert_eq!(trail.entries.len(), 4);
    let generations: Vec<_> = trail.entries.iter().map(|(_, entry)| entry.generation).collect();
    assert!(generations.windows(2).all(|pair| pair[0] > pair[1]), "{generations:?}");
}

#[test]
fn changes_made_everywhere_at_one_moment_are_all_kept() {
    const EACH: usize = 20;
    let Some(database) = server::Database::new() else { return };
    let gateways = [1, 2, 3].map(|number| Gateway::new(&database, &format!("gateway-{number}")));
    gateways[0].put(1, litware()).unwrap();
    until("all have it", || gateways.iter().all(|gateway| !gateway.queues().is_empty()));
    std::thread::scope(|scope| {
        for (number, gateway) in gateways.iter().enumerate() {
            scope.spawn(move || {
                for queue in 0..EACH {
                    gateway.add_queue(&format!("{number}-{queue}")).unwrap();
                }
            });
        }
    });
    let stored = gateways[0].editor.store().load().unwrap();
    until("all have all", || gateways.iter().all(|gateway| gateway.generation() == stored.generation));
    for gateway in &gateways {
        assert_eq!(gateway.queues().len(), 3 * EACH + 1);
    }
    let trail = gateways[0].editor.store().audit(&AuditQuery { limit: 1_000, ..AuditQuery::default() }).unwrap();
    assert_eq!(trail.entries.len(), 3 * EACH + 1);
}

#[test]
fn if_match_is_held_to_what_another_gateway_has_stored() {
    let Some(database) = server::Database::new() else { return };
    // A gateway that has heard of nothing yet: nothing wakes it.
    let catalog = || PostgresCatalog::open(database.open());
    let one = Gateway::new(&database, "one");
    one.put(1, litware()).unwrap();
    let two = Gateway::on(Arc::new(Deaf(catalog())), "two", "", None);
    let stream = Address::work_stream(Guid::from_bytes([8; 16]).into());
    let tag = |gateway: &Gateway| {
        let view =
            crate::config::view::document(gateway.live.current().catalog.organization(&organization(1)).unwrap());
        Tag::parse(&Tag::of(stream.find(&view).unwrap()))
    };
    let seen = tag(&two);
    let patch = |capacity: u32| EditKind::Patch(json!({ "capacity": capacity }).as_object().unwrap().clone());
    one.edit(stream.clone(), patch(20), None).unwrap();
    // It looks the same here still, and is not.
    let late = two.edit(stream.clone(), patch(30), Some(seen));
    assert!(matches!(late, Err(EditError::PreconditionFailed)), "{late:?}");
    two.edit(stream.clone(), patch(30), Some(tag(&one))).unwrap();
    let capacity = |gateway: &Gateway| {
        let view =
            crate::config::view::document(gateway.live.current().catalog.organization(&organization(1)).unwrap());
        stream.find(&view).unwrap()["capacity"].clone()
    };
    until("the other has it", || capacity(&one) == 30);
    // What somebody else has made meanwhile cannot be made again.
    one.add_queue("Urgent").unwrap();
    assert!(matches!(two.add_queue("Urgent"), Err(EditError::Exists { .. })));
    let queue = Address::organization().then(Collection::Queues, Identity::Name("Urgent".to_owned()));
    one.edit(queue.clone(), EditKind::Delete, None).unwrap();
    assert!(matches!(two.edit(queue, EditKind::Delete, None), Err(EditError::Unknown(_))));
}

/// A catalog that says it is alone, so that nobody follows by himself.
struct Deaf(PostgresCatalog);

impl CatalogStore for Deaf {
    fn load(&self) -> Result<crate::config::stored::Stored, StoreError> {
        self.0.load()
    }

    fn generation(&self) -> Result<u64, StoreError> {
        self.0.generation()
    }

    fn commit(&self, change: &crate::store::catalog::CatalogChange) -> Result<(), StoreError> {
        self.0.commit(change)
    }

    fn advance(&self, advance: crate::store::catalog::Advance) -> Result<(), StoreError> {
        self.0.advance(advance)
    }

    fn audit(&self, query: &AuditQuery) -> Result<crate::store::catalog::AuditPage, StoreError> {
        self.0.audit(query)
    }

    fn forget_audit(&self, older_than: crate::domain::time::Timestamp, at_most: usize) -> Result<usize, StoreError> {
        self.0.forget_audit(older_than, at_most)
    }
}

/// An organization of a file, under a unique name that another one in the store will want.
const OF_FILE: &str = "[organization]\nid = \"99999999-9999-4999-8999-999999999999\"\nunique_name = \"litware\"\n";

#[test]
fn what_does_not_go_with_the_files_of_one_gateway_is_refused_there_and_said() {
    let Some(database) = server::Database::new() else { return };
    let one = Gateway::new(&database, "one");
    let two = Gateway::with_files(&database, "two", "", Some(OF_FILE));
    one.put(2, json!({ "organization": { "uniqueName": "contoso" } })).unwrap();
    until("it goes with both", || two.live.current().catalog.organization(&organization(2)).is_some());
    let good = two.generation();
    one.put(1, litware()).unwrap();
    until("it is behind, and says so", || two.fleet.standing() == Standing::Behind);
    assert_eq!(two.generation(), good, "the last good one stays");
    assert!(two.live.current().catalog.organization(&organization(2)).is_some());
    let lagging = || one.fleet.lagging(one.generation()).unwrap();
    until("the others know why", || lagging().iter().any(|gateway| gateway.presence.behind.is_some()));
    let lagging = lagging();
    assert_eq!(lagging.iter().map(|gateway| &*gateway.presence.name).collect::<Vec<_>>(), ["two"]);
    let why = lagging[0].presence.behind.as_deref().unwrap();
    assert!(why.contains("`litware` is taken"), "{why}");
    let files: BTreeSet<_> = one.fleet.live().unwrap().into_iter().map(|gateway| gateway.presence.files).collect();
    assert_eq!(files.len(), 2, "their files say different things");
    // Nothing can be changed on what it does not know, and nothing is.
    let stored = one.editor.store().generation().unwrap();
    let refused = two.put(3, json!({ "organization": { "uniqueName": "fabrikam" } }));
    assert!(matches!(refused, Err(EditError::Behind(NotFollowed::Faults(_)))), "{refused:?}");
    assert_eq!(one.editor.store().generation().unwrap(), stored);
    // Mended files are checked together with what is stored, and all of it counts at once.
    write(two.folder.path(), "organizations/own.toml", &OF_FILE.replace("litware", "litware-two"));
    two.live.reload().unwrap();
    assert_eq!(two.fleet.standing(), Standing::Current);
    assert!(two.live.current().catalog.organization(&organization(1)).is_some());
    until("both serve it", || one.generation() == two.generation());
    assert_eq!(one.live.current().layers.stored, two.live.current().layers.stored);
    until("nobody is behind", || one.fleet.lagging(two.generation()).unwrap().is_empty());
}

#[test]
fn a_change_of_the_files_of_one_gateway_moves_the_generation_of_all() {
    let Some(database) = server::Database::new() else { return };
    let one = Gateway::with_files(&database, "one", "", Some(OF_FILE));
    let two = Gateway::with_files(&database, "two", "", Some(OF_FILE));
    until("both serve the same", || one.generation() == two.generation());
    assert_eq!(one.live.files(), two.live.files());
    let before = one.generation();
    write(one.folder.path(), "organizations/own.toml", &OF_FILE.replace("litware", "litware-two"));
    one.live.reload().unwrap();
    assert!(one.generation() > before);
    until("the other one goes along", || two.generation() == one.generation());
    assert!(two.live.current().catalog.organization_named("litware").is_some(), "with the files that it has");
    assert_ne!(one.live.files(), two.live.files());
    write(two.folder.path(), "organizations/own.toml", &OF_FILE.replace("litware", "litware-two"));
    two.live.reload().unwrap();
    until("both serve the same", || one.generation() == two.generation());
    assert_eq!(one.live.files(), two.live.files());
}

#[test]
fn a_gateway_is_known_until_it_leaves() {
    let Some(database) = server::Database::new() else { return };
    let one = Gateway::new(&database, "one");
    let two = Gateway::new(&database, "two");
    let names =
        || -> Vec<String> { one.fleet.live().unwrap().into_iter().map(|gateway| gateway.presence.name).collect() };
    until("both are there", || names() == ["one", "two"]);
    two.fleet.leave();
    assert_eq!(names(), ["one"], "at once");
    two.fleet.leave();
}

#[test]
fn a_database_that_is_away_changes_nothing_and_is_followed_again() {
    let Some(database) = server::Database::new() else { return };
    let (one, two) = (Gateway::new(&database, "one"), Gateway::new(&database, "two"));
    one.put(1, litware()).unwrap();
    until("both have it", || one.generation() == two.generation());
    // Nobody gets in, and whoever is in is thrown out.
    database.lock_out(true);
    let before = two.live.snapshot();
    write(two.folder.path(), "organizations/own.toml", &OF_FILE.replace("litware", "own"));
    let refused = one.add_queue("Urgent");
    assert!(matches!(refused, Err(EditError::Store(StoreError::Engine(_)))), "{refused:?}");
    let faults = two.live.reload().unwrap_err();
    assert!(faults.to_string().contains("do not count yet"), "{faults}");
    assert!(Arc::ptr_eq(&before, &two.live.snapshot()));
    until("it says so", || two.fleet.standing() == Standing::Unreachable);
    database.lock_out(false);
    until("it is there again", || two.fleet.standing() == Standing::Current);
    until("the file counts by itself", || two.live.current().catalog.organization_named("own").is_some());
    until("its status says so", || two.live.status().ok);
    until("both are again", || one.add_queue("Urgent").is_ok());
    until("both have all", || one.generation() == two.generation() && two.queues().contains("Urgent"));
    assert!(two.live.current().catalog.organization_named("own").is_some());
}

#[test]
fn a_gateway_on_a_store_of_its_own_is_alone_and_always_served_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(folder.path(), 0).unwrap();
    let one = Gateway::on(Arc::new(catalog), "one", "", None);
    one.put(1, litware()).unwrap();
    assert!(one.fleet.lagging(one.generation()).unwrap().is_empty());
    let live = one.fleet.live().unwrap();
    assert_eq!(
        (live.len(), live[0].presence.generation, one.fleet.standing()),
        (1, one.generation(), Standing::Current)
    );
    one.fleet.leave();
}
