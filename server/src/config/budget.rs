//! The memory budget: one number, divided into shares.
//!
//! ```text
//!  memory ─┬─ base: program, stacks, buffers of a fixed size
//!          ├─ an eighth of the rest: what allocators waste, what lives for a moment
//!          └─ shares: to each its minimum, then parts of what is left, up to its most
//! ```
//! What the most of each share leaves over is not given away: it is page cache for the mapped segments. Dividing is a pure
//! function; a share that is configured is taken as it is, and the sum is checked against the budget.
use super::machine::Machine;
use super::{ByteSize, Config, ConfigError};

const MIB: u64 = 1 << 20;
/// Program, stacks, buffers of a fixed size: log, flush (up to 16 partitions at once), one merge (a block of each of 32 files,
/// pages of timestamps), one backup.
const BASE: u64 = 64 * MIB;
/// Buffers of a connection: what HTTP may hold of requests not yet read and answers not yet taken.
pub(crate) const CONNECTION_BYTES: u32 = 256 << 10;
/// Requests of the most samples that may be decoded at once.
pub(crate) const DECODED_AT_ONCE: u64 = 2;

/// One share.
struct Share {
    key: &'static str,
    /// Of a thousand parts.
    parts: u64,
    /// Memory that one unit of its value costs: `cost.0 / cost.1` bytes.
    cost: (u64, u64),
    min: u64,
    max: u64,
    value: fn(&Config) -> u64,
}

/// What each use of memory may cost, in the unit of its key.
const SHARES: [Share; 12] = [
    // A quarter on top for the series of a flush: their label sets in a series file and on their way into the catalogue.
    Share {
        key: "storage.index_bytes_max",
        parts: 320,
        cost: (5, 4),
        min: 10 * MIB,
        max: u64::MAX,
        value: |config| config.storage.index_bytes_max.0,
    },
    // As much on top for what operators hold and do not count.
    Share {
        key: "query.memory_bytes_max",
        parts: 200,
        cost: (2, 1),
        min: 14 * MIB,
        max: u64::MAX,
        value: |config| config.query.memory_bytes_max.0,
    },
    Share {
        key: "query.result_cache_bytes_max",
        parts: 20,
        cost: (1, 1),
        min: 0,
        max: 256 * MIB,
        value: |config| config.query.result_cache_bytes_max.0,
    },
    // Half on top for flushed ones that queries still read, half for sorted runs and while they are merged.
    Share {
        key: "storage.memtable_total_bytes_max",
        parts: 190,
        cost: (2, 1),
        min: 16 * MIB,
        max: 512 * MIB,
        value: |config| config.storage.memtable_total_bytes_max.0,
    },
    Share {
        key: "limits.in_flight_bytes_max",
        parts: 50,
        cost: (1, 1),
        min: 0,
        max: 256 * MIB,
        value: |config| config.limits.in_flight_bytes_max.0,
    },
    // Columns of the requests being decoded, which grow by doubling.
    Share {
        key: "limits.samples_per_request_max",
        parts: 20,
        cost: (40 * DECODED_AT_ONCE, 1),
        min: 125_000,
        max: 2_000_000,
        value: |config| config.limits.samples_per_request_max as u64,
    },
    // A group is copied once more to be written.
    Share {
        key: "storage.commit_queue_bytes_max",
        parts: 40,
        cost: (4, 3),
        min: 4 * MIB,
        max: 128 * MIB,
        value: |config| config.storage.commit_queue_bytes_max.0,
    },
    Share {
        key: "storage.catalogue_bytes_max",
        parts: 40,
        cost: (1, 1),
        min: 8 * MIB,
        max: 256 * MIB,
        value: |config| config.storage.catalogue_bytes_max.0,
    },
    // One merge and one flush at a time.
    Share {
        key: "storage.timeline_bytes_max",
        parts: 30,
        cost: (2, 1),
        min: 6 * MIB,
        max: 128 * MIB,
        value: |config| config.storage.timeline_bytes_max.0,
    },
    Share {
        key: "storage.feed_bytes_max",
        parts: 20,
        cost: (1, 1),
        min: 4 * MIB,
        max: 64 * MIB,
        value: |config| config.storage.feed_bytes_max.0,
    },
    Share {
        key: "storage.key_cache_bytes_max",
        parts: 30,
        cost: (1, 1),
        min: 4 * MIB,
        max: 512 * MIB,
        value: |config| config.storage.key_cache_bytes_max.0,
    },
    Share {
        key: "limits.connections_max",
        parts: 40,
        cost: (CONNECTION_BYTES as u64, 1),
        min: 32,
        max: 1024,
        value: |config| config.limits.connections_max as u64,
    },
];
/// Of `storage.memtable_total_bytes_max`: one is filled while others are flushed.
const MEMTABLES: u64 = 4;
const MEMTABLE_BYTES_MAX: u64 = 128 * MIB;

impl Share {
    fn cost_of(&self, value: u64) -> u64 {
        u64::try_from(u128::from(value) * u128::from(self.cost.0) / u128::from(self.cost.1)).unwrap_or(u64::MAX)
    }
    fn worth(&self, bytes: u64) -> u64 {
        u64::try_from(u128::from(bytes) * u128::from(self.cost.1) / u128::from(self.cost.0)).unwrap_or(u64::MAX)
    }
    /// The least that works; the largest request must fit into those in flight.
    fn least(&self, request_bytes_max: u64) -> u64 {
        if self.key == "limits.in_flight_bytes_max" { request_bytes_max } else { self.min }
    }
}

/// What shares that cost `bytes` need in all.
fn with_base(bytes: u64) -> u64 {
    BASE + (bytes.saturating_mul(8) / 7).next_multiple_of(MIB)
}

/// The smallest budget that works when a request may have `request_bytes_max`.
pub(super) fn minimum(request_bytes_max: u64) -> u64 {
    with_base(SHARES.iter().map(|share| share.cost_of(share.least(request_bytes_max))).sum())
}

/// Divides `memory`: the value of each configuration key that the budget decides.
///
/// # Errors
/// When it is too little, with the minimum.
pub(super) fn divide(memory: u64, request_bytes_max: u64) -> Result<Vec<(&'static str, u64)>, ConfigError> {
    let minimum = minimum(request_bytes_max);
    let Some(extra) = memory.checked_sub(minimum) else {
        return Err(ConfigError(format!(
            "memory = {} is too little to work with: give at least {}",
            ByteSize(memory),
            ByteSize(minimum)
        )));
    };
    let extra = extra / 8 * 7;
    let mut values = Vec::new();
    for share in &SHARES {
        let part = u64::try_from(u128::from(extra) * u128::from(share.parts) / 1000).unwrap_or(u64::MAX);
        let least = share.least(request_bytes_max);
        let value = least.saturating_add(share.worth(part)).min(share.max.max(least));
        // Round figures are easier to read.
        let unit = if share.key.contains("bytes") { MIB } else { 1 };
        let value = if value >= unit { value / unit * unit } else { value }.max(least);
        if share.key == "storage.memtable_total_bytes_max" {
            values.push(("storage.memtable_bytes_max", (value / MEMTABLES).min(MEMTABLE_BYTES_MAX)));
        }
        values.push((share.key, value));
    }
    Ok(values)
}

/// The budget when none is configured: half of what there is, but enough to work.
pub(super) fn default_memory(machine: Machine, request_bytes_max: u64) -> u64 {
    (machine.bytes / 2 / MIB * MIB).max(minimum(request_bytes_max))
}

/// Checks that the shares of `config`, configured or derived, fit into its budget.
///
/// # Errors
/// When they do not, with the budget they need.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let cost = |share: &Share| share.cost_of((share.value)(config));
    let needed = with_base(SHARES.iter().map(cost).fold(0, u64::saturating_add));
    if needed <= config.memory.0 {
        return Ok(());
    }
    let largest = SHARES.iter().max_by_key(|share| cost(share)).map_or("", |share| share.key);
    Err(ConfigError(format!(
        "the shares of the memory need {}, more than memory = {}; lower them (the largest is {largest}) or raise memory",
        ByteSize(needed),
        config.memory
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const REQUEST: u64 = 40 * MIB;

    fn cost(values: &[(&str, u64)]) -> u64 {
        let of = |share: &Share| values.iter().find(|value| value.0 == share.key).unwrap().1;
        with_base(SHARES.iter().map(|share| share.cost_of(of(share))).sum())
    }

    #[test]
    fn the_shares_never_exceed_the_budget_and_grow_with_it() {
        assert!(SHARES.iter().map(|share| share.parts).sum::<u64>() <= 1000);
        let mut before: Vec<(&str, u64)> = Vec::new();
        for memory in (minimum(REQUEST)..(64 << 30)).step_by(123 * MIB as usize + 77) {
            let values = divide(memory, REQUEST).unwrap();
            assert!(cost(&values) <= memory, "{values:?} of {memory}");
            assert!(before.iter().zip(&values).all(|(before, value)| before.1 <= value.1), "{before:?} {values:?}");
            before = values;
        }
    }

    #[test]
    fn a_budget_is_used_as_long_as_no_share_has_its_most() {
        for memory in [512 * MIB, 768 * MIB, 1024 * MIB] {
            let used = cost(&divide(memory, REQUEST).unwrap());
            assert!(used > memory / 10 * 9, "{used} of {memory}");
        }
    }

    #[test]
    fn too_little_is_an_error_that_says_the_minimum() {
        let least = minimum(REQUEST);
        assert!(least <= 256 * MIB, "{least}");
        assert!(divide(least, REQUEST).is_ok());
        let error = divide(least - 1, REQUEST).unwrap_err().to_string();
        assert!(error.contains(&ByteSize(least).to_string()), "{error}");
        assert!(minimum(2 * REQUEST) > least);
    }

    #[test]
    fn a_small_machine_still_gets_enough_to_work() {
        let machine = |bytes| Machine { bytes, source: "" };
        assert_eq!(default_memory(machine(8 << 30), REQUEST), 4 << 30);
        assert_eq!(default_memory(machine(100 * MIB), REQUEST), minimum(REQUEST));
    }
}
