//! Which segments to merge next.
//!
//! Size-tiered inside a partition: the segments stand in the order of their commits, and neighbours are merged when
//! [`INPUTS_MIN`] of them in a row are of like size (each older one at most twice what the newer ones of the row hold
//! together). Rows are therefore rewritten a logarithmic number of times. A cold partition, one older than the newest,
//! will not grow by much: there two in a row are enough, which ends with one file, or with a large one and the late rows
//! that are not yet worth a rewrite of it.
//!
//! A segment with deleted rows is rewritten alone when no merge is due; before all merges when many deletes wait.
use std::collections::BTreeMap;

use crate::segment::SegmentMeta;

/// A merge starts with at least this many segments, in the newest partition.
const INPUTS_MIN: usize = 4;
/// The same for a partition that is not the newest.
const COLD_INPUTS_MIN: usize = 2;
/// A merge reads at most this many segments.
const INPUTS_MAX: usize = 32;
/// A segment joins a row of newer ones when it is at most this many times their sum ..
const SIZE_RATIO: u64 = 2;
/// .. or this many times in a cold partition.
const COLD_SIZE_RATIO: u64 = 8;
/// Larger outputs are not made: readers gain nothing and a merge would hold its disk space for long.
const BYTES_MAX: u64 = 16 << 30;

/// A merge to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Number of the time partition.
    pub(crate) partition: i64,
    /// File names, oldest commits first.
    pub(crate) inputs: Vec<String>,
    /// Level of the output.
    pub(crate) level: u8,
}

/// A live segment as the plan sees it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) meta: SegmentMeta,
    /// Whether deletes concern it that were not carried out on it.
    pub(crate) deleted: bool,
}

/// The most useful merge of `segments` (in any order), if one is due: the one that removes most files, of equals that of
/// the newest partition. If none is, or `deletes_press`, the rewrite of the smallest segment with deleted rows. `today` is
/// the partition of now.
pub(crate) fn plan(segments: &[Candidate], today: i64, deletes_press: bool) -> Option<Job> {
    if deletes_press {
        rewrite(segments).or_else(|| merge(segments, today))
    } else {
        merge(segments, today).or_else(|| rewrite(segments))
    }
}

/// The newest of `partitions` (increasing) that is not ahead of `today`; the newest of all if all are. One row of a far
/// future must not make a partition old that still grows.
pub(crate) fn newest(partitions: impl DoubleEndedIterator<Item = i64> + Clone, today: i64) -> Option<i64> {
    partitions.clone().rfind(|&at| at <= today).or_else(|| partitions.clone().next_back())
}

fn rewrite(segments: &[Candidate]) -> Option<Job> {
    let smallest =
        segments.iter().filter(|s| s.deleted).map(|s| &s.meta).min_by_key(|meta| (meta.bytes, &meta.file))?;
    Some(Job { partition: smallest.partition, inputs: vec![smallest.file.clone()], level: smallest.level })
}

fn merge(segments: &[Candidate], today: i64) -> Option<Job> {
    let mut partitions: BTreeMap<i64, Vec<&SegmentMeta>> = BTreeMap::new();
    for segment in segments {
        partitions.entry(segment.meta.partition).or_default().push(&segment.meta);
    }
    let newest = newest(partitions.keys().copied(), today)?;
    let row_of = |(partition, mut row): (i64, Vec<&SegmentMeta>)| {
        row.sort_by_key(|s| (s.max_lsn, s.min_lsn));
        let cold = partition < newest;
        like_sized(&row, cold).map(|from_to| Job {
            partition,
            inputs: row[from_to.clone()].iter().map(|s| s.file.clone()).collect(),
            level: row[from_to].iter().map(|s| s.level).max().unwrap_or(0).saturating_add(1),
        })
    };
    partitions.into_iter().filter_map(row_of).max_by_key(|job| job.inputs.len())
}

/// The newest neighbours of like size in `row` (oldest first) that are enough for a merge.
fn like_sized(row: &[&SegmentMeta], cold: bool) -> Option<std::ops::Range<usize>> {
    let (inputs_min, ratio) = if cold { (COLD_INPUTS_MIN, COLD_SIZE_RATIO) } else { (INPUTS_MIN, SIZE_RATIO) };
    for end in (1..=row.len()).rev() {
        let mut start = end - 1;
        let mut sum = row[start].bytes;
        while start > 0 && end - start < INPUTS_MAX {
            let older = row[start - 1].bytes;
            if older > sum.saturating_mul(ratio) || sum.saturating_add(older) > BYTES_MAX {
                break;
            }
            sum += older;
            start -= 1;
        }
        if end - start >= inputs_min {
            return Some(start..end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::types::{Lsn, SeriesId};

    fn segment(partition: i64, lsn: u64, level: u8, bytes: u64) -> SegmentMeta {
        SegmentMeta {
            file: format!("p{partition}-{lsn}"),
            partition,
            level,
            rows: 1,
            series: 1,
            blocks: 1,
            bytes,
            min_ts: 0,
            max_ts: 0,
            min_series: SeriesId(0),
            max_series: SeriesId(0),
            min_lsn: Lsn(lsn),
            max_lsn: Lsn(lsn),
            applied: Lsn(lsn),
        }
    }

    fn plan(segments: &[SegmentMeta]) -> Option<Job> {
        super::plan(&candidates(segments, &[]), i64::MAX, false)
    }

    fn candidates(segments: &[SegmentMeta], deleted: &[&str]) -> Vec<Candidate> {
        let candidate = |meta: &SegmentMeta| Candidate { meta: meta.clone(), deleted: deleted.contains(&&*meta.file) };
        segments.iter().map(candidate).collect()
    }

    fn inputs(segments: &[SegmentMeta]) -> Option<(Vec<String>, u8)> {
        plan(segments).map(|job| (job.inputs, job.level))
    }

    #[test]
    fn a_row_of_a_far_future_does_not_make_the_partition_cold_that_still_grows() {
        let all = candidates(&[segment(5, 1, 0, 10), segment(5, 2, 0, 10), segment(4000, 3, 0, 1)], &[]);
        for today in [0, 5, 6, 3999] {
            let merged = super::plan(&all, today, false);
            assert_eq!(merged.is_some(), today == 0, "{today}: {merged:?}");
        }
        assert_eq!(super::plan(&all, 4000, false).unwrap().inputs.len(), 2);
    }

    #[test]
    fn deleted_rows_are_rewritten_when_no_merge_is_due_or_when_they_press() {
        let mut row = vec![segment(0, 1, 3, 100_000)];
        row.extend((2..6).map(|lsn| segment(0, lsn, 0, 100)));
        let all = candidates(&row, &["p0-3", "p0-1"]);
        let files = |job: Option<Job>| job.unwrap().inputs;
        assert_eq!(files(super::plan(&all, i64::MAX, false)).len(), 4);
        assert_eq!(files(super::plan(&all, i64::MAX, true)), ["p0-3"]);
        let job = super::plan(&all[..1], i64::MAX, false).unwrap();
        assert_eq!((job.inputs, job.level), (vec!["p0-1".to_string()], 3), "its level stays");
        assert_eq!(super::plan(&candidates(&row[..1], &[]), i64::MAX, true), None);
    }

    #[test]
    fn nothing_to_merge_gives_no_job() {
        assert_eq!(plan(&[]), None);
        assert_eq!(plan(&[segment(0, 1, 0, 10), segment(0, 2, 0, 10), segment(0, 3, 0, 10)]), None);
    }

    #[test]
    fn four_of_like_size_are_merged_oldest_first_whatever_order_they_come_in() {
        let row = [segment(0, 3, 0, 9), segment(0, 1, 0, 11), segment(0, 4, 1, 10), segment(0, 2, 0, 10)];
        let names = ["p0-1", "p0-2", "p0-3", "p0-4"].map(String::from).to_vec();
        assert_eq!(inputs(&row), Some((names, 2)));
    }

    #[test]
    fn a_large_old_segment_waits_until_the_newer_ones_are_worth_it() {
        let mut row = vec![segment(0, 1, 2, 1000)];
        row.extend((2..6).map(|lsn| segment(0, lsn, 0, 10)));
        assert_eq!(inputs(&row).unwrap().0, ["p0-2", "p0-3", "p0-4", "p0-5"]);
    }

    #[test]
    fn only_neighbours_are_merged() {
        // Small ones on both sides of a large one never meet without it.
        let row = [
            segment(0, 1, 0, 1),
            segment(0, 2, 0, 1),
            segment(0, 3, 2, 1000),
            segment(0, 4, 0, 1),
            segment(0, 5, 0, 1),
        ];
        assert_eq!(plan(&row), None);
    }

    #[test]
    fn a_small_newcomer_does_not_hide_an_older_row() {
        let mut row: Vec<_> = (1..5).map(|lsn| segment(0, lsn, 0, 100)).collect();
        row.push(segment(0, 5, 0, 1));
        assert_eq!(inputs(&row).unwrap().0, ["p0-1", "p0-2", "p0-3", "p0-4"]);
    }

    #[test]
    fn a_cold_partition_ends_with_one_file_but_is_not_rewritten_for_a_few_late_rows() {
        let mut all = vec![segment(0, 1, 1, 100), segment(0, 2, 0, 60), segment(1, 3, 0, 1)];
        assert_eq!(inputs(&all).unwrap().0, ["p0-1", "p0-2"]);
        all = vec![segment(0, 1, 1, 100), segment(0, 4, 0, 1), segment(1, 3, 0, 1)];
        assert_eq!(plan(&all), None);
    }

    #[test]
    fn merging_to_the_end_leaves_few_segments_and_rewrites_little() {
        let (mut row, mut written) = (Vec::new(), 0);
        for lsn in 0..200 {
            row.push(segment(0, lsn, 0, 100));
            while let Some(job) = plan(&row) {
                let bytes = row.iter().filter(|s| job.inputs.contains(&s.file)).map(|s| s.bytes).sum();
                row.retain(|s| !job.inputs.contains(&s.file));
                row.push(segment(0, lsn, job.level, bytes));
                row.last_mut().unwrap().file = format!("merged-{lsn}-{}", job.level);
                written += bytes;
            }
            assert!(row.len() < 16, "{} segments after {lsn} flushes", row.len());
        }
        assert!(written < 200 * 100 * 8, "{written} bytes written for 20000");
    }

    #[test]
    fn a_merge_reads_a_bounded_number_of_segments() {
        let row: Vec<_> = (0..100).map(|lsn| segment(0, lsn, 0, 10)).collect();
        assert_eq!(inputs(&row).unwrap().0.len(), INPUTS_MAX);
    }
}
