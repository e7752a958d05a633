//! A folder to measure in: on the disk of the build, and gone afterwards.

use std::path::Path;

use tempfile::TempDir;

/// A new one for a benchmark of this name. What runs of it that were killed have left behind is removed first.
pub(crate) fn folder(benchmark: &str) -> TempDir {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(&format!("{benchmark}-")).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            std::fs::remove_dir_all(entry.path()).expect("removed");
        }
    }
    let name = format!("{benchmark}-{}-", std::process::id());
    tempfile::Builder::new().prefix(&name).tempdir_in(place).expect("a folder")
}
