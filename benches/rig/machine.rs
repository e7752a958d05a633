//! The machine: its cores, its disk, and what a process used of them.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The kernel counts processor time in hundredths of a second, on every machine that Rust's standard library runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// What a sync measured here covers.
const BLOCK: [u8; 4_096] = [0x5a; 4_096];
const BLOCKS: u64 = 1_024;

/// Which core serves and which one loads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    /// For the gateways.
    pub(crate) server: usize,
    /// For the load.
    pub(crate) load: usize,
}

impl Cores {
    /// The first and the last core that this process may use; `None` where there is only one, or no `taskset`.
    pub(crate) fn find() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
        let mut numbers = list.split([',', '-']).filter_map(|number| number.parse().ok());
        let server = numbers.next()?;
        let load = numbers.next_back()?;
        let taskset = Command::new("taskset").arg("--version").stdout(Stdio::null()).status();
        taskset.is_ok_and(|it| it.success()).then_some(Self { server, load })
    }

    /// Keeps this process, and all that it starts from now on, on the core of the load.
    pub(crate) fn move_to_load(self) {
        Self::move_to(&self.load.to_string());
    }

    /// Lets this process, and all that it starts from now on, use both cores: for what is prepared and not measured.
    pub(crate) fn move_to_both(self) {
        Self::move_to(&format!("{},{}", self.server, self.load));
    }

    fn move_to(cores: &str) {
        let own = std::process::id().to_string();
        let moved = Command::new("taskset").args(["-acp", cores, &own]).stdout(Stdio::null()).status();
        assert!(moved.is_ok_and(|it| it.success()), "taskset moves this process");
    }
}

/// What the machine is, in words.
pub(crate) fn description() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("?");
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} × {model}, Linux {}", kernel.trim())
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// Seconds of processor time.
    pub(crate) cpu_seconds: f64,
    /// Bytes that it made the kernel write.
    pub(crate) written_bytes: u64,
}

impl Used {
    /// By the process with this ID.
    pub(crate) fn by(pid: u32) -> Self {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        // The second field is a name in parentheses, which may hold anything.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace()).expect("fields");
        let ticks: u32 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
        Self { cpu_seconds: f64::from(ticks) / TICKS_PER_SECOND, written_bytes: written.unwrap_or_default() }
    }

    /// Since then.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            written_bytes: self.written_bytes - before.written_bytes,
        }
    }
}

/// Seconds of processor time that the whole machine has used so far, or that its host has kept from it.
pub(crate) fn busy_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut ticks = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let mut ticks = || ticks.next().and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    let [user, nice, system, _idle, _waiting, interrupts, soft, stolen] = std::array::from_fn(|_| ticks());
    (user + nice + system + interrupts + soft + stolen) / TICKS_PER_SECOND
}

/// Seconds of processor time that this process has used, and what it started and has seen end.
pub(crate) fn own_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace());
    let ticks = fields.into_iter().flatten().skip(11).take(4).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

/// How many megabytes of memory the process with this ID holds.
pub(crate) fn resident_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.unwrap_or(0.0) * 1_024.0 / 1e6
}

/// The files under a folder, and the bytes that each takes up on disk. Files that go away meanwhile are left out.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for entry in entries {
        match entry.metadata() {
            Ok(it) if it.is_dir() => found.extend(files(&entry.path())),
            // Blocks of 512 bytes, whatever the file system's own are (stat(2)).
            Ok(it) => found.push((entry.path(), it.blocks() * 512)),
            Err(_) => {}
        }
    }
    found
}

/// Bytes that a folder takes up on disk.
pub(crate) fn disk_bytes(folder: &Path) -> u64 {
    files(folder).iter().map(|(_, bytes)| bytes).sum()
}

/// Bytes of the write-ahead logs in a data directory: whatever ends in `-wal`.
fn log_bytes(data_dir: &Path) -> u64 {
    let logs = files(data_dir).into_iter().filter(|(file, _)| file.to_string_lossy().ends_with("-wal"));
    logs.map(|(_, bytes)| bytes).sum()
}

/// Looks at the write-ahead logs of a data directory again and again, and keeps the most that they took up.
pub(crate) struct LogWatch {
    done: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl LogWatch {
    /// How often it looks. A log that a bound holds grows by some megabytes meanwhile.
    const EVERY: Duration = Duration::from_millis(50);

    /// From here on.
    pub(crate) fn start(data_dir: &Path) -> Self {
        let (done, data_dir) = (Arc::new(AtomicBool::new(false)), data_dir.to_owned());
        let told = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while !told.load(Ordering::Relaxed) {
                most = most.max(log_bytes(&data_dir));
                std::thread::park_timeout(Self::EVERY);
            }
            most
        });
        Self { done, thread }
    }

    /// The most bytes seen.
    pub(crate) fn most_bytes(self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().expect("the watch")
    }
}

/// A file to measure syncs with: filled and synced beforehand, so that a sync moves one block and nothing else.
pub(crate) struct SyncProbe {
    file: File,
    at: u64,
}

impl SyncProbe {
    /// Makes the file.
    pub(crate) fn new(folder: &Path) -> Self {
        let mut file = File::create_new(folder.join("sync-probe")).expect("a file");
        for _ in 0..BLOCKS {
            file.write_all(&[0; BLOCK.len()]).expect("written");
        }
        file.sync_all().expect("synced");
        Self { file, at: 0 }
    }

    /// Syncs block after block for a while. The microseconds that each took.
    pub(crate) fn measure(&mut self, duration: Duration) -> Vec<f64> {
        let (began, mut took) = (Instant::now(), Vec::new());
        while began.elapsed() < duration {
            self.at = (self.at + 1) % BLOCKS;
            let before = Instant::now();
            self.file.write_all_at(&BLOCK, self.at * BLOCK.len() as u64).expect("written");
            self.file.sync_data().expect("synced");
            took.push(before.elapsed().as_secs_f64() * 1e6);
        }
        took
    }
}
