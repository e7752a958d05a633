//! Changes on disk become effective by themselves. The tests wait for the generation that is told, not for time.

use std::path::Path;

use tokio::sync::watch::Receiver;

use super::*;
use crate::config::{Effective, Live, Overrides, load};

const CONTOSO: &str = "[organization]\nid = \"0f3b1c52-6d1e-4a0b-9a4e-3c1d7b8f2a10\"\nunique_name = \"contoso\"\n";
const DEADLINE: Duration = Duration::from_secs(30);

struct Watched {
    folder: tempfile::TempDir,
    live: Arc<Live>,
    told: Receiver<Arc<Effective>>,
    _guard: WatchGuard,
}

impl Watched {
    /// Watches `organizations/*.toml` in a folder that `lay_out` has filled.
    fn new(lay_out: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("streamgate.toml"), "").expect("written");
        lay_out(folder.path());
        let path = folder.path().join("streamgate.toml");
        let live = Arc::new(Live::new(load(Some(&path), &Overrides::default()).expect("a configuration")));
        let told = live.subscribe();
        let loaded = live.status();
        let guard = start(Arc::clone(&live)).expect("watching");
        // Past the reload at the start, so that what follows is noticed and not just read.
        wait_until(|| !Arc::ptr_eq(&live.status(), &loaded));
        Self { folder, live, told, _guard: guard }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Waits until the organization is called this.
    async fn until_named(&mut self, wanted: &str) {
        let is_named = |effective: &Arc<Effective>| {
            effective.catalog.organization_named("contoso").is_some_and(|organization| *organization.name == *wanted)
        };
        let told = tokio::time::timeout(DEADLINE, self.told.wait_for(is_named)).await;
        assert!(told.is_ok_and(|told| told.is_ok()), "{wanted}: {:?}", self.live.status());
    }
}

/// Waits for a state that nobody announces.
fn wait_until(reached: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !reached() {
        assert!(Instant::now() < deadline, "the state was not reached");
        std::thread::yield_now();
    }
}

fn named(name: &str) -> String {
    format!("{CONTOSO}name = \"{name}\"\n")
}

fn plain(folder: &Path) {
    std::fs::create_dir(folder.join("organizations")).expect("made");
    std::fs::write(folder.join("organizations/contoso.toml"), named("first")).expect("written");
}

#[tokio::test]
async fn a_file_written_in_place_is_effective() {
    let mut watched = Watched::new(plain);
    for name in ["second", "third!", "fourth"] {
        std::fs::write(watched.path("organizations/contoso.toml"), named(name)).expect("written");
        watched.until_named(name).await;
    }
}

#[tokio::test]
async fn a_file_replaced_by_renaming_is_effective() {
    let mut watched = Watched::new(plain);
    for name in ["second", "third"] {
        std::fs::write(watched.path("organizations/.contoso.toml.new"), named(name)).expect("written");
        std::fs::rename(watched.path("organizations/.contoso.toml.new"), watched.path("organizations/contoso.toml"))
            .expect("renamed");
        watched.until_named(name).await;
    }
}

#[tokio::test]
async fn a_swapped_link_is_effective() {
    // As Kubernetes mounts a ConfigMap: the files are links through `..data`, which is swapped.
    let lay_out = |folder: &Path| {
        std::fs::create_dir_all(folder.join("organizations/..v1")).expect("made");
        std::fs::write(folder.join("organizations/..v1/contoso.toml"), named("first")).expect("written");
        std::os::unix::fs::symlink("..v1", folder.join("organizations/..data")).expect("linked");
        std::os::unix::fs::symlink("..data/contoso.toml", folder.join("organizations/contoso.toml")).expect("linked");
    };
    let mut watched = Watched::new(lay_out);
    std::fs::create_dir(watched.path("organizations/..v2")).expect("made");
    std::fs::write(watched.path("organizations/..v2/contoso.toml"), named("second")).expect("written");
    std::os::unix::fs::symlink("..v2", watched.path("organizations/..data_tmp")).expect("linked");
    std::fs::rename(watched.path("organizations/..data_tmp"), watched.path("organizations/..data")).expect("swapped");
    watched.until_named("second").await;
}

#[tokio::test]
async fn a_swapped_folder_is_effective_and_watched_from_then_on() {
    let lay_out = |folder: &Path| {
        std::fs::create_dir(folder.join("v1")).expect("made");
        std::fs::write(folder.join("v1/contoso.toml"), named("first")).expect("written");
        std::os::unix::fs::symlink("v1", folder.join("organizations")).expect("linked");
    };
    let mut watched = Watched::new(lay_out);
    std::fs::create_dir(watched.path("v2")).expect("made");
    std::fs::write(watched.path("v2/contoso.toml"), named("second")).expect("written");
    std::os::unix::fs::symlink("v2", watched.path("next")).expect("linked");
    std::fs::rename(watched.path("next"), watched.path("organizations")).expect("swapped");
    watched.until_named("second").await;
    std::fs::write(watched.path("v2/contoso.toml"), named("third")).expect("written");
    watched.until_named("third").await;
}

#[tokio::test]
async fn a_fault_is_healed_by_the_next_change() {
    let mut watched = Watched::new(plain);
    std::fs::write(watched.path("organizations/contoso.toml"), "[organization").expect("written");
    wait_until(|| !watched.live.status().ok);
    assert!(watched.live.current().catalog.organization_named("contoso").is_some());
    std::fs::write(watched.path("organizations/contoso.toml"), named("healed")).expect("written");
    watched.until_named("healed").await;
    assert!(watched.live.status().ok);
}

#[tokio::test]
async fn organizations_that_move_elsewhere_are_watched_there() {
    let mut watched = Watched::new(plain);
    std::fs::create_dir(watched.path("others")).expect("made");
    std::fs::write(watched.path("others/contoso.toml"), named("second")).expect("written");
    std::fs::write(watched.path("streamgate.toml"), "organizations = \"others/*.toml\"").expect("written");
    watched.until_named("second").await;
    std::fs::write(watched.path("others/contoso.toml"), named("third")).expect("written");
    watched.until_named("third").await;
}

#[tokio::test]
async fn a_folder_that_comes_back_is_watched_again() {
    let mut watched = Watched::new(plain);
    std::fs::rename(watched.path("organizations"), watched.path("away")).expect("moved");
    wait_until(|| !watched.live.status().ok);
    std::fs::create_dir(watched.path("organizations")).expect("made");
    std::fs::write(watched.path("organizations/contoso.toml"), named("back")).expect("written");
    watched.until_named("back").await;
    std::fs::write(watched.path("organizations/contoso.toml"), named("again")).expect("written");
    watched.until_named("again").await;
}

#[tokio::test]
async fn a_change_between_loading_and_watching_is_not_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    plain(folder.path());
    let path = folder.path().join("streamgate.toml");
    std::fs::write(&path, "").expect("written");
    let live = Arc::new(Live::new(load(Some(&path), &Overrides::default()).expect("a configuration")));
    let told = live.subscribe();
    std::fs::write(folder.path().join("organizations/contoso.toml"), named("in between")).expect("written");
    let guard = start(Arc::clone(&live)).expect("watching");
    let mut watched = Watched { folder, live, told, _guard: guard };
    watched.until_named("in between").await;
}

#[tokio::test]
async fn without_the_systems_help_the_files_are_looked_at() {
    let folder = tempfile::tempdir().expect("a folder");
    plain(folder.path());
    let path = folder.path().join("streamgate.toml");
    std::fs::write(&path, "").expect("written");
    let live = Arc::new(Live::new(load(Some(&path), &Overrides::default()).expect("a configuration")));
    let told = live.subscribe();
    let loaded = live.status();
    let guard = start_with(Arc::clone(&live), Arc::default(), None).expect("watching");
    wait_until(|| !Arc::ptr_eq(&live.status(), &loaded));
    let mut watched = Watched { folder, live, told, _guard: guard };
    std::fs::write(watched.path("organizations/contoso.toml"), named("seen")).expect("written");
    watched.until_named("seen").await;
}

#[test]
fn the_guard_ends_the_thread() {
    let watched = Watched::new(plain);
    let live = Arc::downgrade(&watched.live);
    drop(watched);
    assert!(live.upgrade().is_none(), "nobody holds the configuration any more");
}

fn event(kind: EventKind) -> notify::Result<notify::Event> {
    Ok(notify::Event::new(kind).add_path(PathBuf::from("a.toml")))
}

#[test]
fn a_file_that_is_being_written_is_given_time() {
    use notify::event::DataChange;
    let signal = Signal::default();
    signal.tell(event(EventKind::Modify(ModifyKind::Data(DataChange::Any))));
    let written = signal.pending().settled_at().expect("something happened");
    signal.tell(event(EventKind::Access(AccessKind::Close(AccessMode::Write))));
    let closed = signal.pending().settled_at().expect("something happened");
    assert!(closed < written, "closing it ends the wait");
}

#[test]
fn reading_is_no_change_and_endless_changes_are_not_waited_for() {
    let signal = Signal::default();
    signal.tell(event(EventKind::Access(AccessKind::Open(AccessMode::Any))));
    assert_eq!(signal.pending().settled_at(), None);
    let long_ago = Instant::now().checked_sub(LONGEST_WAIT).expect("the clock has run for a while");
    signal.tell(event(EventKind::Any));
    signal.pending().first = Some(long_ago);
    assert!(signal.pending().settled_at().expect("something happened") <= Instant::now());
}

/// What is pending after one event about each of these files of the folder.
fn pending_after(signal: &Signal, folder: &Path, kind: EventKind, name: &str) -> bool {
    signal.tell(Ok(notify::Event::new(kind).add_path(folder.join(name))));
    let pending = std::mem::take(&mut *signal.pending());
    pending.settled_at().is_some()
}

/// A folder with a configuration, a log beside it, and a link of either kind to an organization.
fn folder_with_a_log() -> (tempfile::TempDir, Signal) {
    let folder = tempfile::tempdir().expect("a folder");
    plain(folder.path());
    let write = |name: &str| std::fs::write(folder.path().join(name), "").expect("written");
    for name in ["streamgate.toml", "gateway.log", "records.db-wal", "linked-to.toml", "hard-linked", "a.secret"] {
        write(name);
    }
    let organizations = folder.path().join("organizations");
    std::os::unix::fs::symlink("../linked-to.toml", organizations.join("linked.toml")).expect("linked");
    std::fs::hard_link(folder.path().join("hard-linked"), organizations.join("hard.toml")).expect("linked");
    let organization_files = crate::config::sources::Pattern::parse("organizations/*.toml", folder.path());
    let sources = Sources {
        main: Some(folder.path().join("streamgate.toml")),
        organizations: organization_files.ok(),
        secrets: vec![folder.path().join("a.secret")],
    };
    let signal = Signal::default();
    signal.know(&sources, &sources.look());
    (folder, signal)
}

const WRITINGS: [EventKind; 3] = [
    EventKind::Modify(ModifyKind::Data(notify::event::DataChange::Any)),
    EventKind::Modify(ModifyKind::Metadata(notify::event::MetadataKind::Any)),
    EventKind::Access(AccessKind::Close(AccessMode::Write)),
];

#[test]
fn writing_to_what_is_no_configuration_wakes_nobody() {
    let (folder, signal) = folder_with_a_log();
    for kind in WRITINGS {
        for name in ["gateway.log", "records.db-wal", "organizations/.contoso.toml.swp"] {
            std::fs::write(folder.path().join(name), "more").expect("written");
            assert!(!pending_after(&signal, folder.path(), kind, name), "{kind:?} {name}");
        }
    }
    // Before anything is known, everything counts.
    assert!(pending_after(&Signal::default(), folder.path(), WRITINGS[0], "gateway.log"));
}

#[test]
fn writing_to_the_configuration_counts_under_every_name() {
    let (folder, signal) = folder_with_a_log();
    for kind in WRITINGS {
        for name in [
            "streamgate.toml",
            "organizations/contoso.toml",
            "organizations/not-there-yet.toml",
            "a.secret",
            "linked-to.toml",
            "hard-linked",
            "organizations",
            "gone-again",
        ] {
            assert!(pending_after(&signal, folder.path(), kind, name), "{kind:?} {name}");
        }
    }
}

#[test]
fn whatever_comes_goes_or_is_renamed_counts() {
    use notify::event::{CreateKind, RemoveKind, RenameMode};
    let (folder, signal) = folder_with_a_log();
    for kind in [
        EventKind::Create(CreateKind::File),
        EventKind::Create(CreateKind::Any),
        EventKind::Remove(RemoveKind::File),
        EventKind::Modify(ModifyKind::Name(RenameMode::To)),
        EventKind::Modify(ModifyKind::Any),
        EventKind::Any,
        EventKind::Other,
    ] {
        for name in ["..data", "4913", "gateway.log", "organizations/.contoso.toml.new"] {
            assert!(pending_after(&signal, folder.path(), kind, name), "{kind:?} {name}");
        }
    }
}

#[tokio::test]
async fn an_organization_written_through_a_link_beside_a_busy_log_is_effective() {
    let mut watched = Watched::new(|folder| {
        plain(folder);
        std::fs::rename(folder.join("organizations/contoso.toml"), folder.join("elsewhere")).expect("moved");
        std::os::unix::fs::symlink("../elsewhere", folder.join("organizations/contoso.toml")).expect("linked");
    });
    let mut log = std::fs::File::create(watched.path("gateway.log")).expect("a log");
    for name in ["second", "third"] {
        for _ in 0..100 {
            std::io::Write::write_all(&mut log, b"a line\n").expect("written");
        }
        std::fs::write(watched.path("elsewhere"), named(name)).expect("written");
        watched.until_named(name).await;
    }
}
