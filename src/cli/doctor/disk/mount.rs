//! Which mount a path is on, and how it is mounted: `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Major and minor number of the device; with major 0 there is none.
    pub(super) device: (u32, u32),
    pub(super) point: PathBuf,
    /// The kind of file system, such as `ext4` or `fuse.sshfs`.
    pub(super) kind: String,
    /// What is mounted, such as `/dev/vda1`.
    pub(super) source: String,
    /// The options of the mount and of the file system.
    pub(super) options: Vec<String>,
}

/// Reads the list of mounts; a line that cannot be read is left out.
pub(super) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Mount> {
    let (mounted, system) = text.split_once(" - ")?;
    let fields: Vec<_> = mounted.split(' ').collect();
    let (device, point, options) = (fields.get(2)?, fields.get(4)?, fields.get(5)?);
    let (major, minor) = device.split_once(':')?;
    let mut system = system.split(' ');
    let (kind, source, of_system) = (system.next()?, system.next()?, system.next().unwrap_or_default());
    let options = options.split(',').chain(of_system.split(',')).filter(|option| !option.is_empty());
    Some(Mount {
        device: (major.parse().ok()?, minor.parse().ok()?),
        point: unescaped(point),
        kind: kind.to_owned(),
        source: unescaped(source).to_string_lossy().into_owned(),
        options: options.map(str::to_owned).collect(),
    })
}

/// A path as it is: the kernel writes blanks, tabs, line feeds and backslashes as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => bytes.push(*first),
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The mount that a path (absolute, without links) is on: the deepest, and of several on one place the last.
pub(super) fn of(path: &Path, mounts: &[Mount]) -> Option<Mount> {
    let around = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    around.max_by_key(|mount| mount.point.components().count()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,nobarrier,data=writeback\n\
        25 22 0:23 / /dev/shm rw - tmpfs tmpfs rw,size=1k\n\
        26 22 8:1 / /srv/with\\040blank rw,noatime - xfs /dev/sda1 rw\n\
        nonsense\n\
        27 26 0:44 / /srv/with\\040blank rw master:2 propagate_from:3 - fuse.sshfs me@host: rw,user_id=0\n";

    #[test]
    fn the_deepest_and_last_mount_counts() {
        let mounts = parse(LIST);
        assert_eq!(mounts.len(), 4);
        let kind = |path: &str| of(Path::new(path), &mounts).expect("a mount").kind;
        assert_eq!(kind("/var/lib/streamgate"), "ext4");
        assert_eq!(kind("/dev/shm/data"), "tmpfs");
        assert_eq!(kind("/dev/shmother"), "ext4");
        assert_eq!(kind("/srv/with blank/data"), "fuse.sshfs");
    }

    #[test]
    fn devices_and_options_are_read() {
        let mounts = parse(LIST);
        let root = of(Path::new("/"), &mounts).expect("a mount");
        assert_eq!((root.device, root.source.as_str()), ((254, 0), "/dev/vda"));
        assert_eq!(root.options, ["rw", "relatime", "rw", "nobarrier", "data=writeback"]);
        assert_eq!(unescaped("a\\134b\\0x"), Path::new("a\\b\\0x"));
    }
}
