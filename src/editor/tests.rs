//! The editor: never ahead of the disk, and what is effective is always what the document says.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use serde_json::json;

use super::address::Identity;
use super::*;
use crate::config::{Overrides, load};
use crate::domain::access::{OrganizationScope, Permission};
use crate::domain::ids::Guid;
use crate::store::catalog::{AuditPage, AuditQuery};

/// A store in memory that can be told to fail.
#[derive(Default)]
struct Shelf {
    fails: AtomicBool,
    trail: std::sync::Mutex<Vec<AuditEntry>>,
}

impl CatalogStore for Shelf {
    fn load(&self) -> Result<Stored, StoreError> {
        Ok(Stored::default())
    }

    fn commit(&self, change: &CatalogChange) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Broken { cause: "the disk is gone".to_owned() });
        }
        self.trail.lock().unwrap().push(change.audit.clone());
        Ok(())
    }

    fn generation(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn advance(&self, _advance: Advance) -> Result<(), StoreError> {
        Ok(())
    }

    fn audit(&self, _query: &AuditQuery) -> Result<AuditPage, StoreError> {
        Ok(AuditPage::default())
    }

    fn forget_audit(&self, _older_than: Timestamp, _at_most: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

struct Bench {
    live: Arc<Live>,
    shelf: Arc<Shelf>,
    editor: Editor,
    who: Caller,
    _folder: tempfile::TempDir,
}

fn organization() -> OrganizationId {
    Guid::from_bytes([7; 16]).into()
}

fn stream() -> Address {
    Address::work_stream(Guid::from_bytes([8; 16]).into())
}

impl Bench {
    /// An editor with one organization that has one work stream.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("organizations")).unwrap();
        let file = folder.path().join("streamgate.toml");
        std::fs::write(&file, "").unwrap();
        let overrides = Overrides { data_dir: Some(folder.path().join("data")), ..Overrides::default() };
        let live = Arc::new(Live::new(load(Some(&file), &overrides).unwrap()));
        let shelf = Arc::new(Shelf::default());
        let editor = Editor::new(Arc::clone(&live), Arc::<Shelf>::clone(&shelf));
        let who = Caller {
            credential: "root".into(),
            permissions: BTreeSet::from(Permission::ALL),
            organizations: OrganizationScope::All,
        };
        let bench = Self { live, shelf, editor, who, _folder: folder };
        let document = json!({
            "organization": { "uniqueName": "litware" },
            "workStreams": [{ "id": Guid::from_bytes([8; 16]), "name": "Records" }],
        });
        bench.put(document).unwrap();
        bench
    }

    fn put(&self, document: Value) -> Result<DocumentEdited, EditError> {
        self.editor.put_document(DocumentEdit {
            who: &self.who,
            organization: organization(),
            document: document.as_object().unwrap().clone(),
            if_match: None,
            only_create: false,
            dry_run: false,
        })
    }

    fn edit(&self, address: Address, kind: EditKind) -> Result<Edited, EditError> {
        self.editor.edit(Edit { who: &self.who, organization: organization(), address, if_match: None, kind })
    }

    fn create(&self, address: Address, collection: Collection, resource: Value) -> Result<Edited, EditError> {
        let resource = resource.as_object().unwrap().clone();
        self.edit(address, EditKind::Create { collection, resource, position: None })
    }
}

#[test]
fn what_cannot_be_made_durable_is_not_effective() {
    let bench = Bench::new();
    let before = bench.live.snapshot();
    bench.shelf.fails.store(true, Ordering::Relaxed);
    let queue = json!({ "name": "Urgent" });
    let refused = bench.create(Address::organization(), Collection::Queues, queue.clone());
    assert!(matches!(refused, Err(EditError::Store(StoreError::Broken { .. }))));
    assert!(matches!(bench.put(json!({ "queues": [queue] })), Err(EditError::Store(_) | EditError::Invalid(_))));
    assert!(Arc::ptr_eq(&before, &bench.live.snapshot()));
    bench.shelf.fails.store(false, Ordering::Relaxed);
    let edited = bench.create(Address::organization(), Collection::Queues, queue).unwrap();
    assert!(edited.effective.catalog.generation() > before.catalog.generation());
    assert!(Arc::ptr_eq(&edited.effective, &bench.live.snapshot()));
    assert_eq!(bench.shelf.trail.lock().unwrap().len(), 2);
}

#[test]
fn credentials_that_stay_the_same_stay_the_same_ones() {
    let bench = Bench::new();
    let before = bench.live.snapshot();
    bench.edit(stream(), EditKind::SetState(State::Inactive)).unwrap();
    // Whoever has proved itself under them need not do so again.
    assert!(Arc::ptr_eq(&before.credentials, &bench.live.current().credentials));
}

#[test]
fn a_default_queue_is_there_from_the_start_and_hands_over() {
    let bench = Bench::new();
    let queue = |name: &str| Address::organization().then(Collection::Queues, Identity::Name(name.to_owned()));
    bench.create(Address::organization(), Collection::Queues, json!({ "name": "B", "default": true })).unwrap();
    let default = |bench: &Bench| {
        let effective = bench.live.snapshot();
        effective.catalog.organization(&organization()).unwrap().queues.default_queue().name.to_string()
    };
    assert_eq!(default(&bench), "B");
    assert!(matches!(bench.edit(queue("B"), EditKind::Delete), Err(EditError::DefaultQueue(_))));
    let patch = json!({ "default": true }).as_object().unwrap().clone();
    bench.edit(queue("Default queue"), EditKind::Patch(patch)).unwrap();
    assert_eq!(default(&bench), "Default queue");
    bench.edit(queue("B"), EditKind::Delete).unwrap();
}

/// One of the changes that people make, some of them with faults.
fn a_change() -> impl Strategy<Value = (Address, EditKind)> {
    let name = prop::sample::select(vec!["a", "b", "Default queue", ""]);
    let word = prop::sample::select(vec!["active", "push", "pick", "live-chat", "x"]);
    let collections = prop::sample::select(vec![
        Collection::Queues,
        Collection::WorkStreams,
        Collection::ContextVariables,
        Collection::Entities,
        Collection::Rules,
    ]);
    (0_usize..7, name, word, collections, 0_u32..3).prop_map(|(kind, name, word, collection, number)| {
        let in_organization = matches!(collection, Collection::Queues | Collection::WorkStreams);
        let parent = if in_organization { Address::organization() } else { stream() };
        let one = parent.clone().then(collection, Identity::Name(name.to_owned()));
        let entity = format!("new_{}", if name.len() == 1 { name } else { "z" });
        let resource = json!({
            "name": name, "displayName": name, "priority": number, "queue": name, "state": "active",
            "entityLogicalName": entity, "entitySetName": entity, "distributionMode": word,
        });
        let members: &[&str] = match collection {
            Collection::Queues => &["name", "priority"],
            Collection::WorkStreams => &["name", "distributionMode"],
            Collection::ContextVariables => &["displayName"],
            Collection::Entities => &["entityLogicalName", "entitySetName", "state"],
            Collection::Rules => &["name", "queue"],
        };
        let resource: Document =
            members.iter().map(|member| ((*member).to_owned(), resource[*member].clone())).collect();
        let patch = json!({ "capacity": number, "distributionMode": word, "name": name }).as_object().unwrap().clone();
        match kind {
            0..=2 => (parent, EditKind::Create { collection, resource, position: None }),
            3 => (one, EditKind::Delete),
            4 => (one, EditKind::Move(number as usize)),
            5 => (stream(), EditKind::Patch(patch)),
            _ => (one, EditKind::Patch(json!({ "priority": number, "default": true }).as_object().unwrap().clone())),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed in whatever order: what is effective is what the document says, a view of it says the same,
    /// and a change that is refused leaves everything as it was.
    #[test]
    fn the_document_and_what_is_effective_agree(changes in prop::collection::vec(a_change(), 1..24)) {
        let bench = Bench::new();
        let mut done = 0;
        for (address, kind) in changes {
            let before = bench.live.snapshot();
            match bench.edit(address, kind) {
                Ok(_) => {
                    let effective = bench.live.snapshot();
                    done += usize::from(!Arc::ptr_eq(&before, &effective));
                    let organization = effective.catalog.organization(&organization()).unwrap();
                    let document = &effective.layers.stored.organizations[&organization.id];
                    for document in [&**document, &view::document(organization)] {
                        let (checked, _) = check_document(&effective, "again", document).expect("no faults");
                        prop_assert_eq!(&checked, &**organization);
                    }
                }
                Err(_) => prop_assert!(Arc::ptr_eq(&before, &bench.live.snapshot())),
            }
        }
        prop_assert_eq!(bench.shelf.trail.lock().unwrap().len(), done + 1);
    }
}
