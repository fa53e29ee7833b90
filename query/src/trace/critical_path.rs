//! The critical path of a trace: the stretches of its spans that it waited for. Shortening any other stretch would not
//! have made the trace end sooner.
//!
//! Walked backwards from the end of the root, as CRISP does (Zhang et al., USENIX ATC 2022): a span was waiting for that of
//! its children that ended last, until that child began; before it for the one that had ended last by then; where there was none, it
//! worked itself. What children do outside of the time of their caller does not count.
//!
//! ```text
//!  root   ├──────────────────────────┤        path: root 0-1, a 1-4, root 4-5, c 5-9, root 9-10
//!   a      ├───────┤
//!   b       ├───┤            b ended before a did: nobody waited for it
//!   c                 ├──────────┤
//! ```
use super::Timed;
use super::tree::Node;

/// A time in which the trace waited for what a span itself did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Index among the nodes.
    pub(crate) node: usize,
    /// ns UTC.
    pub(crate) start: i64,
    /// ns UTC, after the start.
    pub(crate) end: i64,
}

/// A span that is being walked.
struct Walk {
    node: usize,
    start: i64,
    /// The path of the time from here on is known.
    known_from: i64,
    /// Children that have not been looked at, with their times inside the span; the last of them ends last.
    children: Vec<(usize, i64, i64)>,
}

impl Walk {
    fn of(nodes: &[Node], spans: &[Timed], node: usize, start: i64, end: i64) -> Self {
        let within = |&child: &usize| {
            let span = &spans[nodes[child].span];
            (child, span.ts.clamp(start, end), span.end().clamp(start, end))
        };
        let mut children: Vec<_> = nodes[node].children.iter().map(within).filter(|(_, from, to)| from < to).collect();
        children.sort_by_key(|&(child, from, to)| (to, std::cmp::Reverse(from), std::cmp::Reverse(child)));
        Self { node, start, known_from: end, children }
    }
}

/// The critical path of the first tree of `nodes`, by time. Its stretches touch each other and are together as long as
/// the root.
pub(crate) fn find(nodes: &[Node], spans: &[Timed]) -> Vec<Stretch> {
    let Some(root) = nodes.first().map(|node| &spans[node.span]) else { return Vec::new() };
    let mut path = Vec::new();
    let mut walks = vec![Walk::of(nodes, spans, 0, root.ts, root.end())];
    while let Some(walk) = walks.last_mut() {
        let mut put = |start: i64, end: i64| {
            if start < end {
                path.push(Stretch { node: walk.node, start, end });
            }
        };
        match walk.children.pop() {
            // Still running when the trace already waited for another.
            Some((_, _, to)) if to > walk.known_from => {}
            Some((child, from, to)) => {
                put(to, walk.known_from);
                walk.known_from = from;
                walks.push(Walk::of(nodes, spans, child, from, to));
            }
            None => {
                put(walk.start, walk.known_from);
                walks.pop();
            }
        }
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tree::grow;
    use super::super::tree::tests::span;
    use super::*;

    /// Id of the span, start, end.
    fn path(spans: &[Timed]) -> Vec<(u64, i64, i64)> {
        let nodes = grow(spans);
        let found = find(&nodes, spans);
        found.iter().map(|s| (u64::from_be_bytes(spans[nodes[s.node].span].id), s.start, s.end)).collect()
    }

    #[test]
    fn it_leads_through_what_ended_last() {
        let spans = [span(0, 10, 1, 0), span(1, 4, 2, 1), span(2, 3, 3, 1), span(5, 9, 4, 1)];
        assert_eq!(path(&spans), [(1, 0, 1), (2, 1, 4), (1, 4, 5), (4, 5, 9), (1, 9, 10)]);
        let parallel = [span(0, 10, 1, 0), span(1, 8, 2, 1), span(1, 9, 3, 1), span(2, 9, 4, 3)];
        assert_eq!(path(&parallel), [(1, 0, 1), (3, 1, 2), (4, 2, 9), (1, 9, 10)]);
    }

    #[test]
    fn what_outlives_its_caller_counts_to_the_end_of_the_caller() {
        assert_eq!(path(&[span(0, 10, 1, 0), span(4, 50, 2, 1)]), [(1, 0, 4), (2, 4, 10)]);
        assert_eq!(path(&[span(0, 10, 1, 0), span(-5, 3, 2, 1), span(20, 30, 3, 1)]), [(2, 0, 3), (1, 3, 10)]);
        assert_eq!(path(&[span(0, 10, 1, 0), span(0, 10, 2, 1)]), [(2, 0, 10)]);
        assert_eq!(path(&[span(5, 5, 1, 0)]), []);
        assert_eq!(path(&[]), []);
    }

    #[test]
    fn a_deep_trace_needs_no_deep_stack() {
        let spans: Vec<Timed> = (1..=100_000).map(|n| span(n as i64, 1_000_000, n, n - 1)).collect();
        assert_eq!(path(&spans).len(), 100_000);
    }

    proptest! {
        #[test]
        fn its_stretches_touch_and_fill_the_root(
            spans in prop::collection::vec((-50i64..50, 0i64..60, 1u64..12, 1u64..12), 0..20),
            len in 0i64..100,
        ) {
            let children = spans.into_iter().map(|(ts, len, n, parent)| span(ts, ts + len, n + 1, parent));
            let spans: Vec<Timed> = std::iter::once(span(-60, -60 + len, 1, 0)).chain(children).collect();
            let nodes = grow(&spans);
            let found = find(&nodes, &spans);
            let mut at = spans[nodes[0].span].ts;
            for stretch in &found {
                let of = &spans[nodes[stretch.node].span];
                prop_assert!(stretch.start == at && stretch.end > at);
                prop_assert!(of.ts <= stretch.start && stretch.end <= of.end());
                at = stretch.end;
            }
            prop_assert_eq!(at, spans[nodes[0].span].end());
        }
    }
}
