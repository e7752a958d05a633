//! Broken machines: directories that cannot be written, disks in memory, few files, a lock that is held.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Patient, Told, make_private, names, text};
use crate::support::gateway::{KEY, Setup, write_configuration};
use crate::support::process::Process;
use crate::support::raw::{exchange, request};
use crate::support::records::nth_incident;
use crate::support::{eventually, skipped};

/// Nobody in particular.
const NOBODY: u32 = 65_534;

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
}

#[test]
fn a_directory_that_cannot_be_written_is_a_fault() {
    let patient = Patient::sound().with_data();
    let mut command = patient.command(&["--json", "--only", "data-directory", "--only", "disk"]);
    let am_root = rustix::process::geteuid().is_root();
    if am_root {
        // Root may write everywhere, so somebody else looks, at a copy of the program that they can reach.
        let place = tempfile::tempdir().expect("a folder");
        let (program, moved) = (place.path().join("streamgate"), place.path().join("patient"));
        std::fs::copy(env!("CARGO_BIN_EXE_streamgate"), &program).expect("copied");
        std::fs::create_dir(&moved).expect("made");
        std::fs::write(moved.join("streamgate.toml"), "organizations = \"*.none\"\n").expect("written");
        std::fs::create_dir(moved.join("data")).expect("made");
        for path in [place.path(), &program, &moved, &moved.join("data")] {
            set_mode(path, 0o755);
        }
        let mut as_nobody = Command::new(&program);
        as_nobody.args(["doctor", "--json", "--only", "data-directory", "--only", "disk", "--config"]);
        as_nobody.arg(moved.join("streamgate.toml")).arg("--data-dir").arg(moved.join("data"));
        let told = Told::by(as_nobody.uid(NOBODY).gid(NOBODY).env_remove("LD_PRELOAD"));
        check_unwritable(&told);
    } else {
        set_mode(&patient.data(), 0o500);
        let told = Told::by(&mut command);
        set_mode(&patient.data(), 0o700);
        check_unwritable(&told);
    }
}

fn check_unwritable(told: &Told) {
    let directory = told.the("directory", "fault");
    assert!(text(directory, "found").contains("Permission denied"), "{directory}");
    assert!(text(directory, "consequence").contains("does not start"), "{directory}");
    assert!(text(directory, "mend").contains("chown"), "{directory}");
    assert!(text(told.the("sync-latency", "fault"), "found").contains("not measured"));
}

#[test]
fn what_is_no_directory_is_a_fault() {
    let patient = Patient::sound();
    std::fs::write(patient.data(), "a file").expect("written");
    let told = patient.examined(&["data-directory"], &[]);
    assert!(text(told.the("directory", "fault"), "found").contains("is not a directory"));
}

#[test]
fn permissions_that_others_can_use_are_told() {
    let patient = Patient::sound().with_data();
    set_mode(&patient.data(), 0o777);
    let told = patient.examined(&["data-directory"], &[]);
    let open = told.the("permissions", "fault");
    assert!(text(open, "found").contains("0777") && text(open, "mend").contains("chmod 700"), "{open}");
    set_mode(&patient.data(), 0o700);
    std::fs::write(patient.data().join("listener.secret"), "whsec_x").expect("written");
    set_mode(&patient.data().join("listener.secret"), 0o644);
    let told = patient.examined(&["data-directory"], &[]);
    let secret = told.the("permissions", "fault");
    assert!(
        text(secret, "found").contains("listener.secret") && text(secret, "mend").contains("chmod 600"),
        "{secret}"
    );
}

#[test]
fn a_secret_that_others_can_read_is_a_fault_of_the_configuration() {
    let queue = "[routing_queues.q]\nkind = \"http\"\nurl = \"https://q.example.com/\"\nsecret_file = \"q.secret\"\n";
    let patient = Patient::with("", queue).with_data();
    let secret = patient.data().join("q.secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("written");
    set_mode(&secret, 0o644);
    let told = patient.examined(&["configuration"], &[]);
    let fault = told.the("faults", "fault");
    assert!(text(fault, "found").contains("others may read") && text(fault, "mend").contains("chmod 600"), "{fault}");
}

#[test]
fn a_configuration_that_everybody_can_write_is_a_fault() {
    let patient = Patient::sound();
    set_mode(&patient.folder.path().join("streamgate.toml"), 0o666);
    let told = patient.examined(&["configuration"], &[]);
    assert!(text(told.the("configuration-files", "fault"), "mend").contains("chmod o-w"));
}

#[test]
fn a_disk_in_memory_is_a_fault() {
    let shared = Path::new("/dev/shm");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !mounts.lines().any(|line| line.contains(" /dev/shm ") && line.contains(" - tmpfs ")) {
        assert!(std::env::var_os("CI").is_none(), "/dev/shm is no tmpfs");
        return skipped("/dev/shm is no tmpfs, so nothing was said about a disk in memory");
    }
    let patient = Patient::sound();
    let in_memory = tempfile::tempdir_in(shared).expect("a folder");
    let told = Told::by(&mut patient.command_on(in_memory.path(), &["--json", "--only", "disk"]));
    let memory = told.the("file-system", "fault");
    assert!(text(memory, "found").contains("tmpfs"), "{memory}");
    assert!(text(memory, "consequence").contains("202") && text(memory, "mend").contains("local disk"), "{memory}");
    assert!(names(in_memory.path()).is_empty());
}

#[test]
fn few_open_files_are_told() {
    let patient = Patient::sound();
    let with_limit = |limit: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_streamgate")]);
        command.args(["doctor", "--json", "--only", "machine", "--config"]);
        command.arg(patient.folder.path().join("streamgate.toml")).arg("--data-dir").arg(patient.data());
        Told::by(&mut command)
    };
    let few = with_limit("200");
    let fault = few.the("file-descriptors", "fault");
    assert!(text(fault, "mend").contains("LimitNOFILE="), "{fault}");
    let usual = with_limit("1000");
    let warning = usual.the("file-descriptors", "warning");
    assert!(text(warning, "consequence").contains("the configured connections"), "{warning}");
}

#[test]
fn libraries_that_swallow_syncs_are_faults() {
    let patient = Patient::sound();
    // A library that is not there is ignored by the loader, with a complaint.
    let told = Told::by(
        patient
            .command(&["--json", "--only", "disk"])
            .env("LD_PRELOAD", "/nonexistent/libeatmydata.so")
            .stderr(Stdio::null()),
    );
    let swallowed = told.the("preloaded-libraries", "fault");
    assert!(text(swallowed, "consequence").contains("every sync is swallowed"), "{swallowed}");
}

#[test]
fn it_works_beside_a_running_gateway_and_tells_of_it() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    write_configuration(folder.path(), &Setup::default());
    let gateway = Process::start(folder.path(), None);
    let examine = |admin: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_streamgate"));
        command.args(["doctor", "--json", "--admin-url", admin, "--config"]).arg(folder.path().join("streamgate.toml"));
        Told::by(command.arg("--data-dir").arg(folder.path().join("data")).env_remove("LD_PRELOAD"))
    };
    let before = names(&folder.path().join("data"));
    let told = examine(&format!("http://{}", gateway.admin));
    assert!(text(told.the("lock", "note"), "found").contains(&format!("process {}", gateway.id())));
    assert!(text(told.the("ready", "ok"), "found").contains("takes records"));
    assert!(
        told.the("reload", "ok")["measured"]["catalogGeneration"].as_u64().is_some_and(|generation| generation > 0)
    );
    assert_eq!(told.the("backlog", "ok")["measured"]["pending"], 0);
    let files = told.of("file-descriptors")[0];
    assert!(text(files, "found").contains(&format!("of the running gateway, process {}", gateway.id())), "{files}");
    assert!(told.the("store", "ok")["found"].as_str().is_some_and(|found| found.contains("records.db")));

    let elsewhere = examine("http://127.0.0.1:1");
    assert!(text(elsewhere.the("ready", "warning"), "found").contains("nobody answers"));

    // The gateway has noticed nothing.
    assert_eq!(names(&folder.path().join("data")), before);
    let headers = [("X-Api-Key", KEY), ("Content-Type", "application/json")];
    let post = request("POST", "/api/v1/records", &headers, nth_incident(1).as_bytes());
    assert_eq!(exchange(gateway.public, &post).status, 202);
    assert_eq!(gateway.terminate(), Some(0));
}

#[test]
fn a_store_that_a_start_would_refuse_is_a_fault() {
    let patient = Patient::sound().with_data();
    std::fs::write(patient.data().join("high-water.mark"), [0; 16]).expect("written");
    let told = patient.examined(&["data-directory"], &[]);
    let lost = told.the("store", "fault");
    assert!(text(lost, "found").contains("records were lost"), "{lost}");
    std::fs::write(patient.data().join("records.db"), "no database").expect("written");
    let told = patient.examined(&["data-directory"], &[]);
    assert!(text(told.the("store", "fault"), "found").contains("is not a Streamgate record store"));
    // A named pipe where a file should be would wait for a writer for ever.
    let pipe = patient.data().join("gateway.lock");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("made");
    let told = patient.examined(&["data-directory"], &[]);
    assert!(text(told.the("lock", "fault"), "found").contains("not a regular file"));
}

#[test]
fn a_stop_leaves_nothing_behind() {
    let patient = Patient::sound().with_data();
    let mut child = patient.command(&["--json", "--only", "disk"]).stdout(Stdio::null()).spawn().expect("started");
    let mut ended = None;
    eventually("the measurement to begin", || {
        ended = child.try_wait().expect("known");
        (ended.is_some() || !names(&patient.data()).is_empty()).then_some(())
    });
    if ended.is_none() {
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
        child.wait().expect("ended");
    }
    assert!(names(&patient.data()).is_empty());
    let owner = std::fs::metadata(patient.data()).expect("there").mode();
    assert_eq!(owner & 0o777, 0o700);
    make_private(&patient.data().join("still-writable"));
}
