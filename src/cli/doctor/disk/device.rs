//! The block devices under a mount, and what the kernel knows about them (`/sys/dev/block`, sysfs-block(5)).

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::mount::Mount;

/// Layers of devices on devices (encryption on volumes on RAID) that are followed.
const DEEPEST: usize = 8;

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    /// Such as `sda`.
    pub(super) name: String,
    /// `write back` or `write through`, where the kernel says.
    pub(super) write_cache: Option<String>,
    /// Whether it turns, where the kernel says.
    pub(super) rotational: Option<bool>,
}

/// The disks under a mount, through partitions, volumes and encryption; none where that cannot be seen.
pub(super) fn under(mount: &Mount) -> Vec<Device> {
    let (major, minor) = match mount.device {
        // Btrfs and ZFS have numbers of their own; the source may be a device all the same.
        (0, _) => match std::fs::metadata(&mount.source) {
            Ok(metadata) if mount.source.starts_with("/dev/") => {
                (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()))
            }
            Ok(_) | Err(_) => return Vec::new(),
        },
        device => device,
    };
    let mut found = Vec::new();
    if let Ok(place) = Path::new("/sys/dev/block").join(format!("{major}:{minor}")).canonicalize() {
        collect(&place, DEEPEST, &mut found);
    }
    found
}

fn collect(place: &Path, depth: usize, found: &mut Vec<Device>) {
    // A partition has no queue; its disk is the folder around it.
    let disk = match place.parent() {
        Some(parent) if place.join("partition").exists() => parent.to_owned(),
        Some(_) | None => place.to_owned(),
    };
    let below: Vec<PathBuf> = std::fs::read_dir(disk.join("slaves"))
        .map(|entries| entries.filter_map(|entry| entry.ok()?.path().canonicalize().ok()).collect())
        .unwrap_or_default();
    if !below.is_empty() && depth > 0 {
        below.iter().for_each(|place| collect(place, depth - 1, found));
        return;
    }
    let said =
        |name: &str| std::fs::read_to_string(disk.join("queue").join(name)).ok().map(|text| text.trim().to_owned());
    let device = Device {
        name: disk.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        write_cache: said("write_cache"),
        rotational: said("rotational").map(|text| text == "1"),
    };
    if !found.contains(&device) {
        found.push(device);
    }
}
