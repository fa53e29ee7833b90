//! How much memory there is: the machine's, or less when a control group limits this process (Linux; elsewhere 2 GiB are
//! assumed).
use std::path::{Path, PathBuf};

/// Assumed where nothing can be found out.
const BYTES_ASSUMED: u64 = 2 << 30;

/// Memory this process may use, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) bytes: u64,
    /// In words that follow "of ".
    pub(super) source: &'static str,
}

impl Machine {
    /// Of this process.
    pub(super) fn read() -> Self {
        Self::from(|path| std::fs::read_to_string(path).ok())
    }

    /// From the files that `read` returns.
    fn from(read: impl Fn(&Path) -> Option<String>) -> Self {
        let ram = read(Path::new("/proc/meminfo")).and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
        });
        let machine = match ram {
            Some(bytes) => Self { bytes, source: "the machine's memory" },
            None => Self { bytes: BYTES_ASSUMED, source: "2GiB, as nothing else is known" },
        };
        match cgroup_limit(&read) {
            Some(bytes) if bytes < machine.bytes => Self { bytes, source: "the control group's limit" },
            _ => machine,
        }
    }
}

/// The smallest limit on the way from our group to the root, in version 2 or 1 of control groups.
fn cgroup_limit(read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // In a container the group's path may be that of the host, of which only the root is mounted here.
        let group = PathBuf::from(root).join(group.trim_start_matches('/'));
        for dir in group.ancestors().take_while(|dir| dir.starts_with(root)) {
            // "max", and what no machine has, mean no limit: both are dropped by who compares with the machine's memory.
            limits.extend(read(&dir.join(file)).and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    limits.into_iter().filter(|&limit| limit > 0).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Machine {
        Machine::from(|path| files.iter().find(|file| Path::new(file.0) == path).map(|file| file.1.to_owned()))
    }

    const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");

    #[test]
    fn without_a_control_group_it_is_the_machine() {
        assert_eq!(machine(&[MEMINFO]).bytes, 8 << 30);
        assert_eq!(machine(&[]).bytes, BYTES_ASSUMED);
        let unlimited = [MEMINFO, ("/proc/self/cgroup", "0::/a\n"), ("/sys/fs/cgroup/a/memory.max", "max\n")];
        assert_eq!(machine(&unlimited), Machine { bytes: 8 << 30, source: "the machine's memory" });
    }

    #[test]
    fn the_smallest_limit_up_to_the_root_counts() {
        let nested = [
            MEMINFO,
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "2147483648\n"),
            ("/sys/fs/cgroup/a/memory.max", "1073741824\n"),
        ];
        assert_eq!(machine(&nested), Machine { bytes: 1 << 30, source: "the control group's limit" });
        let container = [
            MEMINFO,
            ("/proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/1\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
        ];
        assert_eq!(machine(&container).bytes, 512 << 20);
    }
}
