//! What is said about a disk, from facts alone.

use super::*;
use crate::cli::doctor::finding::Severity;

fn mount(kind: &str, options: &str) -> Mount {
    let line = format!("22 1 8:1 / /data {options} - {kind} /dev/sda1 rw");
    mount::parse(&line).pop().expect("a mount")
}

fn disk(name: &str, write_cache: &str, rotational: bool) -> Vec<Device> {
    vec![Device { name: name.to_owned(), write_cache: Some(write_cache.to_owned()), rotational: Some(rotational) }]
}

fn latencies(median: Duration, worst: Duration) -> Result<Latencies, String> {
    Ok(Latencies { median, p99: worst, worst, tries: 400 })
}

#[test]
fn file_systems_are_judged_by_what_a_sync_is_worth_there() {
    for (kind, severity) in [
        ("ext4", Severity::Ok),
        ("xfs", Severity::Ok),
        ("zfs", Severity::Ok),
        ("tmpfs", Severity::Fault),
        ("nfs4", Severity::Fault),
        ("cifs", Severity::Fault),
        ("fuse.sshfs", Severity::Fault),
        ("fuse.something", Severity::Warning),
        ("9p", Severity::Warning),
        ("overlay", Severity::Warning),
        ("vfat", Severity::Warning),
    ] {
        let finding = file_system(&mount(kind, "rw"));
        assert_eq!(finding.severity, severity, "{kind}: {finding:?}");
        assert_eq!(finding.mend.is_some(), severity > Severity::Note, "{kind}: {finding:?}");
    }
}

#[test]
fn options_that_weaken_a_sync_are_named() {
    for (kind, options, severity) in [
        ("ext4", "rw,relatime,data=ordered", Severity::Ok),
        ("ext4", "rw,barrier=1", Severity::Ok),
        ("ext4", "rw,nobarrier", Severity::Fault),
        ("ext4", "rw,barrier=0", Severity::Fault),
        ("f2fs", "rw,fsync_mode=nobarrier", Severity::Fault),
        ("overlay", "rw,volatile", Severity::Fault),
        ("ext4", "rw,data=writeback", Severity::Warning),
    ] {
        assert_eq!(mount_options(&mount(kind, options)).severity, severity, "{options}");
    }
}

#[test]
fn caches_are_told_and_nothing_is_claimed_to_be_proven() {
    let back = write_cache(&disk("sda", "write back", false));
    assert_eq!(back.severity, Severity::Ok);
    assert!(back.consequence.is_some_and(|text| text.contains("no software can prove")));
    assert_eq!(write_cache(&disk("sda", "write through", false)).severity, Severity::Note);
    assert_eq!(write_cache(&disk("zram0", "write back", false)).severity, Severity::Fault);
    assert_eq!(write_cache(&disk("loop3", "write back", false)).severity, Severity::Note);
    assert_eq!(write_cache(&[]).severity, Severity::Note);
}

#[test]
fn libraries_that_swallow_syncs_are_faults() {
    let judged = |library: &str| preloaded(&[library.to_owned()]).severity;
    assert_eq!(judged("/usr/lib/libeatmydata.so"), Severity::Fault);
    assert_eq!(judged("/usr/lib/faketime/libfaketime.so.1"), Severity::Fault);
    assert_eq!(judged("/usr/lib/libjemalloc.so.2"), Severity::Note);
    assert_eq!(preloaded(&[]).severity, Severity::Ok);
}

#[test]
fn latencies_say_what_follows_and_what_cannot_be() {
    let (micros, millis) = (Duration::from_micros, Duration::from_millis);
    let judged = |latencies, turning| judge_latencies(latencies, turning, Path::new("/data"));
    let good = judged(latencies(micros(400), millis(2)), false);
    assert_eq!(good.severity, Severity::Ok);
    assert!(good.consequence.as_ref().is_some_and(|text| text.contains("about 2500 a second")), "{good:?}");
    assert_eq!(good.measured.expect("figures")["medianMicroseconds"], 400);
    for (latencies, turning, severity) in [
        (latencies(micros(400), millis(2)), true, Severity::Warning),
        (latencies(millis(8), millis(20)), true, Severity::Ok),
        (latencies(micros(1), micros(9)), false, Severity::Warning),
        (latencies(millis(30), millis(40)), false, Severity::Warning),
        (latencies(millis(1), millis(1_500)), false, Severity::Warning),
        (Err("no".to_owned()), false, Severity::Fault),
    ] {
        let finding = judged(latencies.clone(), turning);
        assert_eq!(finding.severity, severity, "{latencies:?} {finding:?}");
    }
}

#[test]
fn figures_read_well() {
    assert_eq!(in_words(Duration::from_micros(37)), "37 µs");
    assert_eq!(in_words(Duration::from_micros(1_540)), "1.5 ms");
    assert_eq!(in_words(Duration::from_millis(123)), "123 ms");
    assert_eq!((rounded(0.2), rounded(27.4), rounded(2_468.0), rounded(f64::INFINITY)), (1, 27, 2_500, 1_000_000_000));
}
