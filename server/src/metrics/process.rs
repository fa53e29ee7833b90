//! What the kernel says about this process (Linux; zeros elsewhere).
use std::fs;

/// Ticks of `/proc/self/stat` in a second: fixed in Linux's user interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resources in use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) threads: u64,
    pub(super) open_fds: u64,
    pub(super) cpu_seconds: f64,
}

impl Usage {
    pub(super) fn read() -> Self {
        let mut usage = Self::default();
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            for line in status.lines() {
                let mut words = line.split_ascii_whitespace();
                let (name, value) = (words.next(), words.next().and_then(|value| value.parse::<u64>().ok()));
                match (name, value) {
                    (Some("VmRSS:"), Some(kib)) => usage.resident_bytes = kib << 10,
                    (Some("VmSize:"), Some(kib)) => usage.virtual_bytes = kib << 10,
                    (Some("Threads:"), Some(threads)) => usage.threads = threads,
                    _ => {}
                }
            }
        }
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            // The second field may contain spaces and ends with the last parenthesis; utime and stime are the 14th and 15th.
            let ticks = stat.rsplit_once(')').map_or(0.0, |(_, rest)| {
                rest.split_ascii_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum()
            });
            usage.cpu_seconds = ticks / TICKS_PER_SECOND;
        }
        // The directory that is being read is one of them.
        usage.open_fds = fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count().saturating_sub(1) as u64);
        usage
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::read();
        assert!(usage.resident_bytes > 100_000 && usage.virtual_bytes >= usage.resident_bytes);
        assert!(usage.threads >= 1 && usage.open_fds >= 3, "{usage:?}");
    }
}
