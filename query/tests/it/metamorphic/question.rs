//! Random statements with the answers that they must have.
//!
//! Each kind of statement is a function of [`Questions`]: it draws one, and works the answer out from the rows with loops
//! and maps. Another language over the same rows needs another [`Questions::draw`] and nothing else.
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use foretell_ml::detect::{Detector, DetectorOptions, Method};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::answer::{Cell, Cells, Expected};
use super::history::{METRICS, ODD, OTHER, PLAIN, SCORED};
use crate::conditions::{Condition, Domain, LABELS, Row};

/// Lengths of time as SQL writes them, ns.
const WIDTHS: [(&str, i64); 6] = [
    ("7s", 7_000_000_000),
    ("90s", 90_000_000_000),
    ("5m", 300_000_000_000),
    ("1h", 3_600_000_000_000),
    ("1d", 86_400_000_000_000),
    ("1ns", 1),
];

/// A statement and its answer.
pub(crate) struct Question {
    pub(crate) sql: String,
    pub(crate) expected: Expected,
}

/// Draws questions about the rows of each metric.
pub(crate) struct Questions<'a> {
    tables: &'a [Vec<Row>; METRICS.len()],
    instants: Vec<i64>,
}

/// A WHERE clause.
struct Filter(Option<Condition>);

impl Filter {
    fn sql(&self) -> String {
        self.0.as_ref().map_or(String::new(), |condition| format!(" WHERE {}", condition.sql))
    }
    fn keeps(&self, row: &Row) -> bool {
        self.0.as_ref().is_none_or(|condition| condition.holds(row))
    }
}

impl<'a> Questions<'a> {
    pub(crate) fn about(tables: &'a [Vec<Row>; METRICS.len()]) -> Self {
        let instants = tables.iter().flatten().map(|row| row.ts).collect();
        Self { tables, instants }
    }

    /// A question of any kind.
    pub(crate) fn draw(&self, random: &mut StdRng) -> Question {
        match random.random_range(0..20) {
            0..6 => self.rows(random),
            6..11 => self.groups(random),
            11 | 12 => self.distinct(random),
            13..15 => self.join(random),
            15..17 => self.scores(random),
            _ => self.samples(random),
        }
    }

    fn domain(&self, column: fn(&str) -> String) -> Domain<'_> {
        Domain { column, instants: &self.instants }
    }

    fn filter(&self, random: &mut StdRng) -> Filter {
        let depth = random.random_range(0..4);
        Filter(random.random_bool(0.85).then(|| self.domain(str::to_owned).condition(random, depth)))
    }

    fn kept(&self, metric: usize, filter: &Filter) -> Vec<&'a Row> {
        self.tables[metric].iter().filter(|row| filter.keeps(row)).collect()
    }

    /// Projections, ORDER BY, LIMIT, OFFSET.
    fn rows(&self, random: &mut StdRng) -> Question {
        let metric = random.random_range(0..METRICS.len());
        let filter = self.filter(random);
        let outputs: Vec<Output> = (0..random.random_range(1..6)).map(|_| Output::random(metric, random)).collect();
        let mut rows = self.kept(metric, &filter);
        let mut sql = format!("SELECT {} FROM metrics.\"{}\"{}", listed(&outputs), METRICS[metric], filter.sql());
        let keys = random.random_bool(0.6).then(|| Key::random(random));
        if let Some(keys) = &keys {
            rows.sort_by(|a, b| keys.iter().fold(Ordering::Equal, |order, key| order.then_with(|| key.compare(a, b))));
            let keys: Vec<String> = keys.iter().map(Key::sql).collect();
            sql += &format!(" ORDER BY {}", keys.join(", "));
        }
        let limit = random.random_bool(0.5).then(|| random.random_range(0..60));
        let skip = if limit.is_some() && random.random_bool(0.3) { random.random_range(0..20) } else { 0 };
        if let Some(limit) = limit {
            sql += &format!(" LIMIT {limit}");
        }
        if skip > 0 {
            sql += &format!(" OFFSET {skip}");
        }
        let answers = rows.iter().map(|row| outputs.iter().map(|output| output.of(row)).collect::<Cells>());
        let n = rows.len().saturating_sub(skip).min(limit.unwrap_or(usize::MAX));
        let expected = match keys {
            Some(_) => Expected::Ordered(answers.skip(skip).take(n).collect()),
            None => Expected::Some(answers.collect(), n),
        };
        Question { sql, expected }
    }

    /// Aggregates, of groups or of all.
    fn groups(&self, random: &mut StdRng) -> Question {
        let metric = random.random_range(0..METRICS.len());
        let filter = self.filter(random);
        let mut labels = LABELS.to_vec();
        labels.shuffle(random);
        labels.truncate(random.random_range(0..=LABELS.len()));
        let mut keys: Vec<Output> = labels.iter().map(|name| Output::Label(name)).collect();
        if random.random_bool(0.5) {
            keys.push(Output::Bucket(random.random_range(0..WIDTHS.len())));
        }
        let one_series = labels.len() == LABELS.len();
        let aggregates: Vec<Aggregate> =
            (0..random.random_range(1..5)).map(|_| self.aggregate(metric, one_series, random)).collect();
        let mut groups: BTreeMap<Cells, Vec<&Row>> = BTreeMap::new();
        if keys.is_empty() {
            groups.insert(Cells::new(), Vec::new());
        }
        for row in self.kept(metric, &filter) {
            groups.entry(keys.iter().map(|key| key.of(row)).collect()).or_default().push(row);
        }
        let shown = keys.iter().map(Output::sql).chain(aggregates.iter().map(Aggregate::sql));
        let shown: Vec<String> = shown.enumerate().map(|(at, sql)| format!("{sql} AS o{at}")).collect();
        let mut sql = format!("SELECT {} FROM metrics.\"{}\"{}", shown.join(", "), METRICS[metric], filter.sql());
        if !keys.is_empty() {
            let numbers: Vec<String> = (1..=keys.len()).map(|n| n.to_string()).collect();
            sql += &format!(" GROUP BY {}", numbers.join(", "));
            if random.random_bool(0.25) {
                let least = random.random_range(1..12);
                sql += &format!(" HAVING count(*) >= {least}");
                groups.retain(|_, rows| rows.len() >= least);
            }
        }
        let answer = |(mut cells, rows): (Cells, Vec<&Row>)| {
            cells.extend(aggregates.iter().map(|aggregate| aggregate.of(&rows)));
            cells
        };
        Question { sql, expected: Expected::AnyOrder(groups.into_iter().map(answer).collect()) }
    }

    fn aggregate(&self, metric: usize, one_series: bool, random: &mut StdRng) -> Aggregate {
        let exact = metric == PLAIN || metric == OTHER;
        let of_values = [Aggregate::Sum, Aggregate::Min, Aggregate::Max, Aggregate::Avg];
        match random.random_range(0..10) {
            0 => Aggregate::Count,
            1 => Aggregate::CountIf(self.domain(str::to_owned).condition(random, 1)),
            2 => Aggregate::Distinct(LABELS[random.random_range(0..LABELS.len())]),
            3 => Aggregate::FirstTime,
            4 => Aggregate::LastTime,
            5 if one_series => Aggregate::First,
            6 if one_series => Aggregate::Last,
            // Sums of other values depend on their order, and an order of NaN is not promised.
            at if exact => of_values.into_iter().nth(at % 4).unwrap_or(Aggregate::Count),
            _ => Aggregate::DistinctTimes,
        }
    }

    fn distinct(&self, random: &mut StdRng) -> Question {
        let metric = random.random_range(0..METRICS.len());
        let filter = self.filter(random);
        let mut outputs: Vec<Output> = LABELS.iter().map(|name| Output::Label(name)).collect();
        outputs.push(Output::Bucket(random.random_range(0..WIDTHS.len())));
        outputs.shuffle(random);
        outputs.truncate(random.random_range(1..=outputs.len()));
        let mut rows: Vec<Cells> = self
            .kept(metric, &filter)
            .iter()
            .map(|row| outputs.iter().map(|output| output.of(row)).collect::<Cells>())
            .collect();
        rows.sort();
        rows.dedup();
        let sql = format!("SELECT DISTINCT {} FROM metrics.\"{}\"{}", listed(&outputs), METRICS[metric], filter.sql());
        Question { sql, expected: Expected::AnyOrder(rows) }
    }

    /// Two metrics by time and labels.
    fn join(&self, random: &mut StdRng) -> Question {
        let left_join = random.random_bool(0.4);
        let labels = &["a", "b"][..random.random_range(1..3)];
        let x = Filter(random.random_bool(0.7).then(|| self.domain(|name| format!("x.{name}")).condition(random, 2)));
        let y = Filter(
            (!left_join && random.random_bool(0.5))
                .then(|| self.domain(|name| format!("y.{name}")).condition(random, 2)),
        );
        // NULL is equal to nothing.
        let same = |a: Option<&&str>, b: Option<&&str>| a.is_some() && a == b;
        let mut by_time: HashMap<i64, Vec<&Row>> = HashMap::new();
        for row in self.kept(OTHER, &y) {
            by_time.entry(row.ts).or_default().push(row);
        }
        let mut pairs: Vec<(&Row, Option<&Row>)> = Vec::new();
        for row in self.kept(PLAIN, &x) {
            let before = pairs.len();
            for other in by_time.get(&row.ts).into_iter().flatten() {
                if labels.iter().all(|name| same(row.labels.get(name), other.labels.get(name))) {
                    pairs.push((row, Some(other)));
                }
            }
            if left_join && pairs.len() == before {
                pairs.push((row, None));
            }
        }
        let kind = if left_join { "LEFT JOIN" } else { "JOIN" };
        let on: Vec<String> = labels.iter().map(|name| format!(" AND x.{name} = y.{name}")).collect();
        let conditions: Vec<&str> = [&x, &y].into_iter().filter_map(|f| Some(f.0.as_ref()?.sql.as_str())).collect();
        let filter =
            if conditions.is_empty() { String::new() } else { format!(" WHERE ({})", conditions.join(") AND (")) };
        let from = format!(
            "FROM metrics.\"{}\" x {kind} metrics.\"{}\" y ON x.ts = y.ts{}{filter}",
            METRICS[PLAIN],
            METRICS[OTHER],
            on.concat()
        );
        if random.random_bool(0.4) {
            let products = pairs.iter().filter_map(|(x, y)| Some(x.value * y.as_ref()?.value));
            let sum = products.reduce(|a, b| a + b).map_or(Cell::Null, Cell::from);
            let expected = Expected::Ordered(vec![vec![Cell::Integer(pairs.len() as i64), sum]]);
            return Question { sql: format!("SELECT count(*) AS n, sum(x.value * y.value) AS s {from}"), expected };
        }
        let cells = |(x, y): &(&Row, Option<&Row>)| {
            vec![
                Cell::Time(x.ts),
                Cell::from(x.labels.get("c").copied()),
                Cell::from(x.value),
                y.map_or(Cell::Null, |y| Cell::from(y.value)),
                Cell::from(y.and_then(|y| y.labels.get("c").copied())),
            ]
        };
        let sql = format!("SELECT x.ts AS t, x.c AS xc, x.value AS xv, y.value AS yv, y.c AS yc {from}");
        Question { sql, expected: Expected::AnyOrder(pairs.iter().map(cells).collect()) }
    }

    /// Scores are those of a detector that is fed the rows of each series.
    fn scores(&self, random: &mut StdRng) -> Question {
        let metric = if random.random_bool(0.8) { SCORED } else { random.random_range(0..METRICS.len()) };
        let filter = self.filter(random);
        let method = Method::ALL[random.random_range(0..Method::ALL.len())];
        let season = random.random_bool(0.5).then(|| WIDTHS[random.random_range(2..4)]);
        let mut detectors: BTreeMap<_, Detector> = BTreeMap::new();
        let mut rows = Vec::new();
        for row in self.kept(metric, &filter) {
            let options = DetectorOptions { season_ns: season.map(|season| season.1), ..DetectorOptions::default() };
            let detector = detectors.entry(&row.labels).or_insert_with(|| Detector::new(method, options).unwrap());
            rows.push((row, detector.update(row.ts, row.value).score));
        }
        let season = season.map_or(String::new(), |season| format!(", season => '{}'", season.0));
        let mut sql = format!(
            "SELECT ts, a, b, c, value, anomaly_score(value, method => '{method}'{season}) \
             OVER (PARTITION BY a, b, c ORDER BY ts) AS s FROM metrics.\"{}\"{}",
            METRICS[metric],
            filter.sql()
        );
        if random.random_bool(0.3) {
            sql = format!("SELECT * FROM ({sql}) WHERE s > 0.5");
            rows.retain(|(_, score)| score.is_some_and(|score| score.total_cmp(&0.5).is_gt()));
        }
        let cells = |(row, score): &(&Row, Option<f64>)| {
            let mut cells = vec![Cell::Time(row.ts)];
            cells.extend(LABELS.iter().map(|name| Cell::from(row.labels.get(name).copied())));
            cells.extend([Cell::from(row.value), score.map_or(Cell::Null, Cell::from)]);
            cells
        };
        Question { sql, expected: Expected::AnyOrder(rows.iter().map(cells).collect()) }
    }

    /// The table of all metrics.
    fn samples(&self, random: &mut StdRng) -> Question {
        let column: fn(&str) -> String =
            |name| if LABELS.contains(&name) { format!("labels['{name}']") } else { name.to_owned() };
        let depth = random.random_range(0..3);
        let condition = self.domain(column).condition(random, depth);
        let (which, holds): (&str, fn(&str) -> bool) = match random.random_range(0..5) {
            0 => ("metric = 'plain'", |metric| metric == "plain"),
            1 => ("metric IN ('odd', 'other:rate', 'none')", |metric| metric == "odd" || metric == "other:rate"),
            2 => ("metric LIKE '%o%'", |metric| metric.contains('o')),
            3 => ("metric <> 'odd'", |metric| metric != "odd"),
            _ => ("metric ~ '^(plain|sco)'", |metric| metric.starts_with("plain") || metric.starts_with("sco")),
        };
        let metrics = (0..METRICS.len()).filter(|&metric| holds(METRICS[metric]));
        let kept = metrics.map(|metric| {
            let rows: Vec<&Row> = self.tables[metric].iter().filter(|row| condition.holds(row)).collect();
            (Some(METRICS[metric]), rows)
        });
        let from = format!("FROM samples WHERE {which} AND ({})", condition.sql);
        if random.random_bool(0.5) {
            let count = |(metric, rows): (Option<&str>, Vec<&Row>)| {
                vec![Cell::from(metric), Aggregate::Count.of(&rows), Aggregate::LastTime.of(&rows)]
            };
            let sql = format!("SELECT metric, count(*) AS n, max(ts) AS last {from} GROUP BY metric");
            return Question {
                sql,
                expected: Expected::AnyOrder(kept.filter(|(_, rows)| !rows.is_empty()).map(count).collect()),
            };
        }
        let mut answers = Vec::new();
        for (metric, rows) in kept {
            answers.extend(rows.iter().map(|row| {
                let b = row.labels.get("b").copied();
                vec![Cell::Time(row.ts), Cell::from(metric), Cell::from(b), Cell::from(row.value)]
            }));
        }
        let sql = format!("SELECT ts, metric, labels['b'] AS b, value {from}");
        Question { sql, expected: Expected::AnyOrder(answers) }
    }
}

/// A column of an answer.
#[derive(Clone, Copy)]
enum Output {
    Ts,
    Value,
    Doubled,
    Label(&'static str),
    /// Index into [`WIDTHS`].
    Bucket(usize),
}

impl Output {
    fn random(metric: usize, random: &mut StdRng) -> Self {
        match random.random_range(0..7) {
            0 => Self::Ts,
            1 | 2 => Self::Value,
            3 if metric != ODD && metric != SCORED => Self::Doubled,
            4 => Self::Bucket(random.random_range(0..WIDTHS.len())),
            _ => Self::Label(LABELS[random.random_range(0..LABELS.len())]),
        }
    }

    fn sql(&self) -> String {
        match self {
            Self::Ts => "ts".to_owned(),
            Self::Value => "value".to_owned(),
            Self::Doubled => "value * 2".to_owned(),
            Self::Label(name) => (*name).to_owned(),
            Self::Bucket(width) => format!("time_bucket('{}', ts)", WIDTHS[*width].0),
        }
    }

    fn of(&self, row: &Row) -> Cell {
        match self {
            Self::Ts => Cell::Time(row.ts),
            Self::Value => Cell::from(row.value),
            Self::Doubled => Cell::from(row.value * 2.0),
            Self::Label(name) => Cell::from(row.labels.get(name).copied()),
            Self::Bucket(width) => Cell::Time(row.ts - row.ts.rem_euclid(WIDTHS[*width].1)),
        }
    }
}

/// Outputs with names of their own, because one may be there twice.
fn listed(outputs: &[Output]) -> String {
    let named = outputs.iter().enumerate().map(|(at, output)| format!("{} AS o{at}", output.sql()));
    named.collect::<Vec<String>>().join(", ")
}

/// One of ORDER BY.
struct Key {
    output: Output,
    descending: bool,
    nulls_first: bool,
}

impl Key {
    /// Keys that leave no two rows of a metric equal.
    fn random(random: &mut StdRng) -> Vec<Self> {
        let mut outputs: Vec<Output> = LABELS.iter().map(|name| Output::Label(name)).collect();
        outputs.push(Output::Ts);
        outputs.shuffle(random);
        if random.random_bool(0.3) {
            outputs.insert(0, Output::Value);
        }
        let key = |output| Self { output, descending: random.random(), nulls_first: random.random() };
        outputs.into_iter().map(key).collect()
    }

    fn sql(&self) -> String {
        let direction = if self.descending { "DESC" } else { "ASC" };
        let nulls = if self.nulls_first { "FIRST" } else { "LAST" };
        format!("{} {direction} NULLS {nulls}", self.output.sql())
    }

    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let directed = |order: Ordering| if self.descending { order.reverse() } else { order };
        match self.output {
            Output::Label(name) => match (a.labels.get(name), b.labels.get(name)) {
                (Some(a), Some(b)) => directed(a.cmp(b)),
                (a, b) if self.nulls_first => a.is_some().cmp(&b.is_some()),
                (a, b) => a.is_none().cmp(&b.is_none()),
            },
            Output::Value => directed(a.value.total_cmp(&b.value)),
            _ => directed(a.ts.cmp(&b.ts)),
        }
    }
}

/// What is said of the rows of a group.
enum Aggregate {
    Count,
    CountIf(Condition),
    /// Values of a label.
    Distinct(&'static str),
    DistinctTimes,
    FirstTime,
    LastTime,
    /// Of values on which rounding has no part.
    Sum,
    Min,
    Max,
    Avg,
    /// By time, of one series.
    First,
    Last,
}

impl Aggregate {
    fn sql(&self) -> String {
        match self {
            Self::Count => "count(*)".to_owned(),
            Self::CountIf(condition) => format!("count(*) FILTER (WHERE {})", condition.sql),
            Self::Distinct(name) => format!("count(DISTINCT {name})"),
            Self::DistinctTimes => "count(DISTINCT ts)".to_owned(),
            Self::FirstTime => "min(ts)".to_owned(),
            Self::LastTime => "max(ts)".to_owned(),
            Self::Sum => "sum(value)".to_owned(),
            Self::Min => "min(value)".to_owned(),
            Self::Max => "max(value)".to_owned(),
            Self::Avg => "avg(value)".to_owned(),
            Self::First => "first(value, ts)".to_owned(),
            Self::Last => "last(value, ts)".to_owned(),
        }
    }

    fn of(&self, rows: &[&Row]) -> Cell {
        let number = |value: Option<f64>| value.map_or(Cell::Null, Cell::from);
        let time = |row: Option<&&Row>| row.map_or(Cell::Null, |row| Cell::Time(row.ts));
        let count = |n: usize| Cell::Integer(n as i64);
        let values = || rows.iter().map(|row| row.value);
        let unique = |mut all: Vec<Cell>| {
            all.sort();
            all.dedup();
            count(all.len())
        };
        let (first, last) = (rows.iter().min_by_key(|row| row.ts), rows.iter().max_by_key(|row| row.ts));
        match self {
            Self::Count => count(rows.len()),
            Self::CountIf(condition) => count(rows.iter().filter(|row| condition.holds(row)).count()),
            Self::Distinct(name) => {
                unique(rows.iter().filter_map(|r| Some(Cell::from(Some(*r.labels.get(name)?)))).collect())
            }
            Self::DistinctTimes => unique(rows.iter().map(|row| Cell::Time(row.ts)).collect()),
            Self::FirstTime => time(first),
            Self::LastTime => time(last),
            Self::Sum => number(values().reduce(|a, b| a + b)),
            Self::Min => number(values().reduce(f64::min)),
            Self::Max => number(values().reduce(f64::max)),
            Self::Avg => number(values().reduce(|a, b| a + b).map(|sum| sum / rows.len() as f64)),
            Self::First => number(first.map(|row| row.value)),
            Self::Last => number(last.map(|row| row.value)),
        }
    }
}
