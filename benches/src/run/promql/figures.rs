//! What was measured of one class, as figures and as a row of the table.
use comfy_table::{Cell, CellAlignment, Table, presets};

use super::class::Class;
use crate::peer::Peer;
use crate::report::{Goal, Report, human, median, percentile, print};

/// What one server showed for one class.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// Each the first request of its kind after a start.
    pub(super) cold_ms: Vec<f64>,
    pub(super) warm_ms: Vec<f64>,
    /// Of the server, over all warm requests.
    pub(super) cpu_seconds: f64,
    /// How its answer differs from the first peer's, if it does.
    pub(super) difference: Option<String>,
}

/// What was measured of one class, by server, in the order of the peers; ours is the first.
pub(super) struct Measured {
    pub(super) class: Class,
    /// Series and samples of the answer.
    pub(super) series: usize,
    pub(super) samples: usize,
    pub(super) shown: Vec<Shown>,
}

impl Shown {
    fn warm_p50(&self) -> f64 {
        median(&self.warm_ms)
    }

    fn warm_p99(&self) -> f64 {
        let mut sorted = self.warm_ms.clone();
        sorted.sort_by(f64::total_cmp);
        percentile(&sorted, 0.99)
    }

    fn cold(&self) -> f64 {
        median(&self.cold_ms)
    }

    /// Milliseconds of CPU a request.
    fn cpu_ms(&self) -> f64 {
        self.cpu_seconds * 1e3 / self.warm_ms.len() as f64
    }
}

/// A figure of a server: its key, and how to get it.
type Figure = (&'static str, fn(&Shown) -> f64);

const FIGURES: [Figure; 4] = [
    ("warm_p50_ms", Shown::warm_p50),
    ("warm_p99_ms", Shown::warm_p99),
    ("cold_ms", Shown::cold),
    ("cpu_ms", Shown::cpu_ms),
];

/// What ours may be, to the fastest of the others, by its name in the report.
const GOALS: [(Figure, f64); 2] = [(("warm p50", Shown::warm_p50), 1.0), (("cold", Shown::cold), 0.5)];

impl Measured {
    /// Nothing measured yet.
    pub(super) fn new(class: Class, peers: usize) -> Self {
        Self { class, series: 0, samples: 0, shown: vec![Shown::default(); peers] }
    }

    /// Ours to the fastest of the others; `None` alone.
    fn to_the_fastest(&self, of: fn(&Shown) -> f64) -> Option<f64> {
        let (ours, others) = self.shown.split_first()?;
        let fastest = others.iter().map(of).min_by(f64::total_cmp)?;
        Some(of(ours) / fastest)
    }

    /// Adds everything to `report`.
    pub(super) fn describe(&self, peers: &[Peer], report: &mut Report) {
        let name = &self.class.name;
        report.text(&format!("{name}/query"), &self.class.question.expr, "");
        report.figure(&format!("{name}/answer_series"), self.series as f64, "");
        report.figure(&format!("{name}/answer_samples"), self.samples as f64, "");
        for (peer, shown) in peers.iter().zip(&self.shown) {
            for (key, of) in FIGURES {
                report.figure(&format!("{name}/{}_{key}", peer.name()), of(shown), "");
            }
            report.figure(&format!("{name}/{}_requests", peer.name()), shown.warm_ms.len() as f64, "");
            let agrees = shown.difference.as_deref().unwrap_or("yes");
            report.text(&format!("{name}/{}_agrees", peer.name()), agrees, "");
        }
        for (peer, shown) in peers.iter().zip(&self.shown).skip(1) {
            for (key, of) in FIGURES {
                let ratio = of(&self.shown[0]) / of(shown);
                // Less CPU than the kernel counts makes no ratio.
                if ratio.is_finite() {
                    report.figure(&format!("{name}/ratio_{}_{key}", peer.name()), ratio, "ours to theirs");
                }
            }
        }
    }

    /// Adds the goals, their names beginning with `prefix`; none when we are alone.
    pub(super) fn judge(&self, prefix: &str, report: &mut Report) {
        for ((what, of), most) in GOALS {
            if let Some(ratio) = self.to_the_fastest(of) {
                let key = format!("{prefix}{}/goal: {what}, to the fastest peer", self.class.name);
                report.goal(&key, ratio, Goal::AtMost(most), "ours to theirs");
            }
        }
    }
}

/// Prints one row for each class: figures of all servers side by side, then ours to the fastest of the others.
pub(super) fn print_table(all: &[Measured], peers: &[Peer]) {
    let names: Vec<&str> = peers.iter().map(|peer| peer.name()).collect();
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(["class", "answer", "warm p50 ms", "warm p99 ms", "cold ms", "CPU ms", "warm", "cold", "agrees"]);
    for measured in all {
        let answer = format!("{} x {}", measured.series, measured.samples / measured.series.max(1));
        let mut row = vec![Cell::new(&measured.class.name), right(answer)];
        for (_, of) in FIGURES {
            let values: Vec<String> = measured.shown.iter().map(|shown| human(of(shown))).collect();
            row.push(right(values.join(" / ")));
        }
        for of in [Shown::warm_p50 as fn(&Shown) -> f64, Shown::cold] {
            row.push(right(measured.to_the_fastest(of).map_or_else(String::new, |ratio| format!("{ratio:.2}x"))));
        }
        let unlike = peers.iter().zip(&measured.shown).filter(|(_, shown)| shown.difference.is_some());
        let unlike: Vec<&str> = unlike.map(|(peer, _)| peer.name()).collect();
        row.push(Cell::new(if unlike.is_empty() { "yes".to_owned() } else { format!("not {}", unlike.join(", ")) }));
        table.add_row(row);
    }
    print(&format!("{table}\n{}; warm and cold: foretell to the fastest of the others", names.join(" / ")));
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// Which class is worth a profile first: where we are slowest beside the fastest of the others, else slowest at all.
pub(super) fn slowest(all: &[Measured]) -> Option<String> {
    let weight =
        |measured: &Measured| measured.to_the_fastest(Shown::warm_p50).unwrap_or_else(|| measured.shown[0].warm_p50());
    let measured = all.iter().max_by(|a, b| weight(a).total_cmp(&weight(b)))?;
    let shown = &measured.shown[0];
    let beside = measured.to_the_fastest(Shown::warm_p50);
    let beside = beside.map_or_else(String::new, |ratio| format!(", {ratio:.2}x of the fastest of the others"));
    // Far below the number of cores: something in it runs on one thread, or waits.
    let cores = shown.cpu_ms() / shown.warm_p50();
    Some(format!(
        "{}: {} ms{beside}, about {cores:.1} cores busy; profile it first: {}",
        measured.class.name,
        human(shown.warm_p50()),
        measured.class.question.expr
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::Question;

    fn measured(name: &str, ours: f64, theirs: [f64; 2]) -> Measured {
        let class = Class { name: name.into(), question: Question { expr: "up".into(), at: 0.0, range: None } };
        let shown = [ours, theirs[0], theirs[1]];
        let shown = shown.map(|ms| Shown { cold_ms: vec![ms], warm_ms: vec![ms; 3], ..Shown::default() });
        Measured { class, series: 1, samples: 1, shown: shown.into() }
    }

    #[test]
    fn the_class_to_profile_is_the_slowest_beside_the_fastest_peer() {
        let all =
            [measured("a", 10.0, [5.0, 20.0]), measured("b", 90.0, [100.0, 95.0]), measured("c", 3.0, [9.0, 2.0])];
        assert_eq!(all[2].to_the_fastest(Shown::warm_p50), Some(1.5));
        assert!(slowest(&all).unwrap().starts_with("a: 10 ms, 2.00x"), "{:?}", slowest(&all));
    }

    #[test]
    fn a_ratio_is_ours_to_theirs() {
        let mut report = Report::new("trial", serde_json::json!({}));
        let peers = [Peer::Foretell, Peer::Prometheus, Peer::VictoriaMetrics];
        measured("a", 10.0, [5.0, 20.0]).describe(&peers, &mut report);
        assert_eq!(report.get("a/ratio_prometheus_warm_p50_ms"), Some(2.0));
        assert_eq!(report.get("a/ratio_victoriametrics_cold_ms"), Some(0.5));
        assert_eq!(report.get("a/ratio_prometheus_cpu_ms"), None);
    }

    #[test]
    fn goals_are_against_the_fastest_peer_and_there_are_none_without_one() {
        let mut report = Report::new("trial", serde_json::json!({}));
        let mut one = measured("a", 6.0, [10.0, 20.0]);
        one.judge("promql/", &mut report);
        assert_eq!(report.get("promql/a/goal: warm p50, to the fastest peer"), Some(0.6));
        let missed = report.refuse_missed().unwrap_err().to_string();
        assert_eq!(missed, "trial: promql/a/goal: cold, to the fastest peer: 0.60, at most 0.50 wanted");
        let mut report = Report::new("trial", serde_json::json!({}));
        one.shown.truncate(1);
        one.judge("", &mut report);
        report.refuse_missed().unwrap();
    }
}
