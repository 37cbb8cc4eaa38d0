//! How much memory this process can use: the machine's, or the limit of its control group.

use std::fs;
use std::path::Path;

/// The lesser of both; `None` where neither can be read.
pub(super) fn limit() -> Option<usize> {
    let of_groups = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| of_groups(&text, "/sys/fs/cgroup"));
    of_machine().into_iter().chain(of_groups).min()
}

fn of_machine() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// The least limit of the process's control group and of the groups that contain it. `text` is /proc/self/cgroup.
fn of_groups(text: &str, mount: &str) -> Option<usize> {
    let limits = text.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("/"));
        // Version 2 has one tree without a controller's name; in version 1 memory has a tree of its own.
        let (root, file) = match controllers {
            "" => (mount.to_owned(), "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                (format!("{mount}/memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let group = Path::new(group.trim_start_matches('/'));
        let read = |group: &Path| fs::read_to_string(Path::new(&root).join(group).join(file)).ok()?.trim().parse().ok();
        group.ancestors().filter_map(read).collect::<Vec<usize>>()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::{limit, of_groups};

    #[test]
    fn the_least_of_all_groups_counts() {
        let folder = tempfile::tempdir().unwrap();
        let unit = folder.path().join("system.slice/wattlake.service");
        std::fs::create_dir_all(&unit).unwrap();
        std::fs::write(unit.join("memory.max"), "max\n").unwrap();
        std::fs::write(folder.path().join("system.slice/memory.max"), "1048576\n").unwrap();
        let mount = folder.path().to_str().unwrap();
        assert_eq!(of_groups("0::/system.slice/wattlake.service\n", mount), Some(1_048_576));
        assert_eq!(of_groups("0::/\n", mount), None);
        assert!(limit().is_some_and(|bytes| bytes > 1 << 20));
    }
}
