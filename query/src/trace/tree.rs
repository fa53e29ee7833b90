//! Spans in the order of calls: each after what called it, children by start.
//!
//! Real traces are not always trees. A span whose parent is not there begins a tree of its own; of several spans with one id
//! the one that begins first is the parent; spans that call each other in a circle hang below the one of them that begins
//! first.
use hashbrown::HashMap;

use super::{SpanId, Timed};

/// A span in its tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// Index of the span among those that were given.
    pub(crate) span: usize,
    /// Of a root 0.
    pub(crate) depth: usize,
    /// Indexes among the nodes, by start.
    pub(crate) children: Vec<usize>,
}

/// The trees of `spans`, each node before its children; the first is the root that begins first.
pub(crate) fn grow(spans: &[Timed]) -> Vec<Node> {
    let mut by_start: Vec<usize> = (0..spans.len()).collect();
    // Longer ones first, so that a parent that begins with its child comes before it.
    by_start.sort_by_key(|&i| (spans[i].ts, std::cmp::Reverse(spans[i].duration), spans[i].id));
    let mut named: HashMap<SpanId, usize> = HashMap::with_capacity(spans.len());
    for &i in &by_start {
        named.entry(spans[i].id).or_insert(i);
    }
    let parent = |i: usize| spans[i].parent.and_then(|id| named.get(&id).copied()).filter(|&parent| parent != i);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    let mut roots = Vec::new();
    for &i in &by_start {
        match parent(i) {
            Some(parent) => children[parent].push(i),
            None => roots.push(i),
        }
    }
    let mut nodes: Vec<Node> = Vec::with_capacity(spans.len());
    let mut placed = vec![false; spans.len()];
    // What no root leads to hangs in a circle, which is cut before its first span.
    for root in roots.into_iter().chain(by_start) {
        let mut waiting = vec![(root, 0, None::<usize>)];
        while let Some((span, depth, above)) = waiting.pop() {
            if std::mem::replace(&mut placed[span], true) {
                continue;
            }
            let node = nodes.len();
            nodes.push(Node { span, depth, children: Vec::new() });
            if let Some(above) = above {
                nodes[above].children.push(node);
            }
            waiting.extend(children[span].iter().rev().map(|&child| (child, depth + 1, Some(node))));
        }
    }
    nodes
}

/// Nanoseconds of `node` during which none of its children ran.
pub(crate) fn own_time(nodes: &[Node], spans: &[Timed], node: usize) -> i64 {
    let (start, end) = (spans[nodes[node].span].ts, spans[nodes[node].span].end());
    let (mut covered_to, mut own) = (start, 0i64);
    // By start, as the children are.
    for &child in &nodes[node].children {
        let child = &spans[nodes[child].span];
        let (from, to) = (child.ts.clamp(start, end), child.end().clamp(start, end));
        own = own.saturating_add(from.saturating_sub(covered_to).max(0));
        covered_to = covered_to.max(to);
    }
    own.saturating_add(end.saturating_sub(covered_to))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn id(n: u64) -> SpanId {
        n.to_be_bytes()
    }

    /// Start, end, id and parent, 0 for none.
    pub(crate) fn span(ts: i64, end: i64, n: u64, parent: u64) -> Timed {
        Timed { ts, duration: end - ts, id: id(n), parent: (parent != 0).then(|| id(parent)) }
    }

    /// Ids and depths in order.
    fn order(spans: &[Timed]) -> Vec<(u64, usize)> {
        grow(spans).iter().map(|node| (u64::from_be_bytes(spans[node.span].id), node.depth)).collect()
    }

    #[test]
    fn each_span_follows_its_caller_and_children_stand_by_start() {
        let spans = [span(20, 30, 4, 2), span(5, 9, 3, 1), span(0, 100, 1, 0), span(10, 60, 2, 1), span(11, 12, 5, 2)];
        assert_eq!(order(&spans), [(1, 0), (3, 1), (2, 1), (5, 2), (4, 2)]);
        let nodes = grow(&spans);
        assert_eq!(nodes[0].children, [1, 2]);
        let own: Vec<i64> = (0..nodes.len()).map(|node| own_time(&nodes, &spans, node)).collect();
        assert_eq!(own, [46, 4, 39, 1, 10]);
    }

    #[test]
    fn orphans_circles_and_ids_that_occur_twice_lose_no_span() {
        assert_eq!(order(&[span(3, 4, 2, 9), span(1, 9, 1, 0)]), [(1, 0), (2, 0)], "an orphan");
        assert_eq!(
            order(&[span(2, 3, 1, 2), span(1, 5, 2, 3), span(3, 4, 3, 1)]),
            [(2, 0), (1, 1), (3, 2)],
            "a circle"
        );
        assert_eq!(order(&[span(1, 2, 1, 1)]), [(1, 0)], "its own parent");
        let twice = [span(1, 9, 1, 0), span(2, 8, 1, 1), span(3, 4, 2, 1)];
        assert_eq!(order(&twice), [(1, 0), (1, 1), (2, 1)], "a server that takes its client's id");
        assert_eq!(order(&[]), []);
    }

    #[test]
    fn time_that_children_share_or_overrun_is_counted_once() {
        let spans =
            [span(0, 100, 1, 0), span(10, 50, 2, 1), span(40, 60, 3, 1), span(90, 200, 4, 1), span(-9, 1, 5, 1)];
        let nodes = grow(&spans);
        assert_eq!(spans[nodes[1].span].id, id(5), "clocks differ: it begins before what called it");
        assert_eq!(own_time(&nodes, &spans, 0), 9 + 30);
        let far = [span(0, i64::MAX, 1, 0), Timed { duration: i64::MAX, ..span(i64::MAX, i64::MAX, 2, 1) }];
        assert_eq!(own_time(&grow(&far), &far, 0), i64::MAX);
    }

    #[test]
    fn a_deep_trace_needs_no_deep_stack() {
        let spans: Vec<Timed> = (1..=200_000).map(|n| span(n as i64, 1_000_000, n, n - 1)).collect();
        assert_eq!(grow(&spans).last().map(|node| node.depth), Some(199_999));
    }

    proptest! {
        #[test]
        fn every_span_stands_once_and_after_its_caller(
            spans in prop::collection::vec((-50i64..50, -5i64..60, 1u64..12, 0u64..14), 0..20),
        ) {
            let spans: Vec<Timed> = spans.into_iter().map(|(ts, len, n, parent)| span(ts, ts + len, n, parent)).collect();
            let nodes = grow(&spans);
            let mut seen: Vec<usize> = nodes.iter().map(|node| node.span).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..spans.len()).collect::<Vec<_>>());
            for (at, node) in nodes.iter().enumerate() {
                for &child in &node.children {
                    prop_assert!(child > at && nodes[child].depth == node.depth + 1);
                    prop_assert_eq!(spans[nodes[child].span].parent, Some(spans[node.span].id));
                }
                let own = own_time(&nodes, &spans, at);
                prop_assert!((0..=spans[node.span].duration.max(0)).contains(&own));
            }
        }
    }
}
