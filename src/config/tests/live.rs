//! Reloads: the last good configuration stays, generations grow, readers see one whole version.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::config::{Live, ReloadOutcome, load};
use crate::domain::catalog::Organization;

fn live(files: &Files) -> Live {
    let path = files.path("streamgate.toml");
    Live::new(load(Some(&path), &files.overrides()).expect("a configuration"))
}

#[test]
fn a_reload_without_a_change_is_no_new_generation() {
    let files = Files::new("", &[("contoso.toml", CONTOSO)]);
    let live = live(&files);
    let generation = live.current().catalog.generation();
    assert_eq!(live.reload(), Ok(ReloadOutcome::Unchanged));
    assert_eq!(live.current().catalog.generation(), generation);
    assert!(live.status().ok);
}

#[test]
fn a_changed_file_is_effective_and_told() {
    let files = Files::new("", &[("contoso.toml", CONTOSO)]);
    let live = live(&files);
    let told = live.subscribe();
    let first = live.current().catalog.generation();
    let mut last = first;
    for name in ["one", "two", "three"] {
        files.write("organizations/contoso.toml", &format!("{CONTOSO}name = \"{name}\""));
        let Ok(ReloadOutcome::Applied { generation, restart_needed }) = live.reload() else { panic!("applied") };
        assert!(generation > last && restart_needed.is_empty());
        let current = live.current();
        assert_eq!(current.catalog.generation(), generation);
        assert_eq!(current.catalog.organization_named("contoso").map(|organization| &*organization.name), Some(name));
        last = generation;
    }
    assert!(told.has_changed().expect("open"));
    assert_eq!(told.borrow().catalog.generation(), last);
}

#[test]
fn a_fault_leaves_the_last_good_one_alone() {
    let files = Files::new("", &[("contoso.toml", CONTOSO)]);
    let live = live(&files);
    let told = live.subscribe();
    let generation = live.current().catalog.generation();
    for broken in ["", "[organization", "[organization]\nid = 1", &format!("{CONTOSO}nme = 1"), "\0"] {
        files.write("organizations/contoso.toml", broken);
        let faults = live.reload().expect_err("faults");
        let status = live.status();
        assert!(!status.ok && status.generation == generation);
        assert_eq!(status.faults, faults.into_vec());
        assert!(live.current().catalog.organization_named("contoso").is_some(), "{broken}");
    }
    files.write("organizations/contoso.toml", CONTOSO);
    assert_eq!(live.reload(), Ok(ReloadOutcome::Unchanged));
    assert!(live.status().ok && live.status().faults.is_empty());
    assert!(!told.has_changed().expect("open"));
}

#[test]
fn folders_and_files_that_go_away_do_not_empty_the_catalog() {
    let files = Files::new("", &[("contoso.toml", CONTOSO)]);
    let live = live(&files);
    std::fs::rename(files.path("organizations"), files.path("elsewhere")).expect("moved");
    assert!(live.reload().is_err());
    std::fs::rename(files.path("elsewhere"), files.path("organizations")).expect("moved");
    std::fs::remove_file(files.path("streamgate.toml")).expect("removed");
    assert!(live.reload().is_err());
    files.write("streamgate.toml", "");
    std::fs::remove_file(files.path("organizations/contoso.toml")).expect("removed");
    let faults = live.reload().expect_err("the last organization stays");
    assert!(faults.to_string().contains("every organization is gone"), "{faults}");
    assert!(live.current().catalog.organization_named("contoso").is_some());
}

/// A live-chat work stream with an entity, which earns a warning.
const CHAT_WITH_ENTITY: &str = "\n[[work_streams]]\nid = \"7c2e9d54-41a8-ea11-a812-000d3a579c31\"\nname = \"Chat\"\nstream_source = \"live-chat\"\n[[work_streams.entities]]\nid = \"11c0ffee-0000-4000-8000-000000000001\"\nentity_logical_name = \"incident\"\nentity_set_name = \"incidents\"\n";

#[test]
fn the_status_tells_the_warnings_of_what_is_effective() {
    let files = Files::new("", &[("contoso.toml", CONTOSO)]);
    let live = live(&files);
    assert_eq!(live.status().warnings, []);
    files.write("organizations/contoso.toml", &format!("{CONTOSO}{CHAT_WITH_ENTITY}"));
    assert!(matches!(live.reload(), Ok(ReloadOutcome::Applied { .. })));
    let status = live.status();
    assert!(status.ok && status.warnings[0].message.contains("live-chat"), "{status:?}");
}

#[test]
fn settings_of_the_process_are_named_as_needing_a_restart() {
    let files = Files::new("", &[("contoso.toml", CONTOSO)]);
    let live = live(&files);
    files.write(
        "streamgate.toml",
        "listen = \"127.0.0.1:7\"\n[limits]\nmax_body_bytes = 2048\nburst = 7\n[log]\nfilter = \"warn\"",
    );
    let Ok(ReloadOutcome::Applied { restart_needed, .. }) = live.reload() else { panic!("applied") };
    assert_eq!(restart_needed, ["listen", "limits.max_body_bytes", "log.filter"]);
    assert_eq!(live.status().restart_needed, restart_needed);
    assert_eq!(live.process().limits.max_body_bytes, 1024 * 1024);
    let current = live.current();
    let burst = current.catalog.organization_named("contoso").map(|organization| organization.rate_limit.burst.get());
    assert_eq!(burst, Some(7), "organizations take the new default at once");

    files.write("streamgate.toml", "");
    let Ok(ReloadOutcome::Applied { restart_needed, .. }) = live.reload() else { panic!("applied") };
    assert_eq!(restart_needed, [""; 0]);
}

#[test]
fn a_new_secret_is_a_new_generation() {
    use std::os::unix::fs::PermissionsExt as _;
    let main = "[routing_queues.a]\nkind = \"http\"\nurl = \"https://example.com/\"\nsecret_file = \"s\"\ncreate_secret = true";
    let files = Files::new(main, &[("contoso.toml", CONTOSO)]);
    let live = live(&files);
    assert_eq!(live.reload(), Ok(ReloadOutcome::Unchanged));
    files.write("data/s", &format!("whsec_{}", "QUFB".repeat(8)));
    std::fs::set_permissions(files.path("data/s"), std::fs::Permissions::from_mode(0o600)).expect("closed");
    assert!(matches!(live.reload(), Ok(ReloadOutcome::Applied { .. })));
}

#[test]
fn the_built_in_example_never_changes() {
    let overrides = Overrides { read_only: true, ..Overrides::default() };
    let config = read_with(&Origin::BuiltIn, &overrides, None, &super::NOTHING_OUTSIDE).outcome.expect("no fault");
    assert!(config.sources.is_empty());
    let live = Live::new(config);
    assert!(live.sources().folders().is_empty());
}

/// Two organizations whose files always change together in one rename of their folder: no reader sees one old and one
/// new, or none.
#[test]
fn readers_see_one_whole_version_during_reloads() {
    let fabrikam = CONTOSO.replace("contoso", "fabrikam").replace("0f3b", "1f3b");
    let files = Files::new("organizations = \"current/*.toml\"", &[]);
    let version = |number: u32| {
        let folder = format!("v{number}");
        std::fs::create_dir(files.path(&folder)).expect("made");
        files.write(&format!("{folder}/contoso.toml"), &format!("{CONTOSO}name = \"{number}\""));
        files.write(&format!("{folder}/fabrikam.toml"), &format!("{fabrikam}name = \"{number}\""));
        std::os::unix::fs::symlink(&folder, files.path("next")).expect("linked");
        std::fs::rename(files.path("next"), files.path("current")).expect("swapped");
    };
    version(0);
    let live = Arc::new(live(&files));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let current = live.current();
                let name = |unique: &str| current.catalog.organization_named(unique).map(name_of);
                let (one, other) = (name("contoso"), name("fabrikam"));
                assert!(one.is_some() && one == other, "{one:?} {other:?}");
                looks += 1;
            }
            looks
        });
        for number in 1..=100 {
            version(number);
            assert!(matches!(live.reload(), Ok(ReloadOutcome::Applied { .. })));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().expect("no torn read") > 0);
    });
}

fn name_of(organization: &Organization) -> String {
    organization.name.to_string()
}
