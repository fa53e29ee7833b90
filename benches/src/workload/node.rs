//! `node`: a real node exporter's page, replayed for many instances, every 15 s.
use std::sync::{Arc, LazyLock};

use super::encode::encode_labels;
use super::page::{Labels, Page};
use super::{Fleet, Target};

/// Milliseconds between two scrapes.
pub const INTERVAL_MS: i64 = 15_000;

/// The page, as [`super::learn`] made it from a real exporter's.
pub static PAGE: LazyLock<Page> = LazyLock::new(|| {
    // a compiled-in file that a test reads
    Page::parse(include_str!("../../data/node.page")).unwrap_or_default()
});

/// At least `series` series: as many instances as that takes.
pub fn fleet(series: usize, seed: u64, start_ms: i64) -> Fleet {
    let page = &*PAGE;
    let instances = series.div_ceil(page.series.len().max(1)).max(1);
    let targets = (0..instances).map(|i| target(page, i, seed, None)).collect();
    Fleet::new(INTERVAL_MS, start_ms, targets)
}

/// Instance number `i` of a page; `extra` adds a label to each series.
pub(super) fn target(page: &Page, i: usize, seed: u64, extra: Option<(&str, &str)>) -> Target {
    let instance = format!("10.{}.{}.{}:9100", i >> 16 & 255, i >> 8 & 255, i & 255);
    let mut series = Vec::with_capacity(page.series.len());
    for (labels, behaviour) in &page.series {
        let mut labels: Labels = labels.clone();
        labels.push(("instance".into(), instance.clone()));
        labels.push(("job".into(), "node".into()));
        labels.extend(extra.map(|(name, value)| (name.to_owned(), value.to_owned())));
        labels.sort();
        series.push((encode_labels(&labels), Arc::clone(behaviour)));
    }
    Target::new(seed ^ (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15), INTERVAL_MS, series)
}
