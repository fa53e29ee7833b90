//! Random conditions on the rows of a metric: as SQL, and as what they mean.
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;

/// Labels of the series that conditions speak of, and values they may have; "" is a label that a series lacks.
pub(crate) const LABELS: [&str; 3] = ["a", "b", "c"];
pub(crate) const VALUES: [&str; 6] = ["x", "y", "xy", "x.y", "", "Zz"];

/// The labels that a series has.
pub(crate) type Labels = BTreeMap<&'static str, &'static str>;

/// A sample.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) ts: i64,
    pub(crate) value: f64,
    pub(crate) labels: Arc<Labels>,
}

/// Whether a condition holds for a row, `None` when it is NULL.
type Truth = Box<dyn Fn(&Row) -> Option<bool>>;

/// A condition: its SQL, and its truth for a row.
pub(crate) struct Condition {
    pub(crate) sql: String,
    truth: Truth,
}

impl Condition {
    fn new(sql: String, truth: impl Fn(&Row) -> Option<bool> + 'static) -> Self {
        Self { sql, truth: Box::new(truth) }
    }

    /// Whether WHERE keeps the row.
    pub(crate) fn holds(&self, row: &Row) -> bool {
        (self.truth)(row) == Some(true)
    }
}

/// What conditions may be about.
pub(crate) struct Domain<'a> {
    /// How SQL names `ts`, `value` and the labels.
    pub(crate) column: fn(&str) -> String,
    /// Instants near which bounds of time are.
    pub(crate) instants: &'a [i64],
}

impl Domain<'_> {
    /// A random condition, nested at most `depth` deep.
    pub(crate) fn condition(&self, random: &mut StdRng, depth: u32) -> Condition {
        if depth > 0 && random.random_bool(0.5) {
            let (left, right) = (self.condition(random, depth - 1), self.condition(random, depth - 1));
            return match random.random_range(0..3) {
                0 => Condition::new(format!("({} AND {})", left.sql, right.sql), move |row| {
                    match ((left.truth)(row), (right.truth)(row)) {
                        (Some(false), _) | (_, Some(false)) => Some(false),
                        (Some(true), Some(true)) => Some(true),
                        _ => None,
                    }
                }),
                1 => Condition::new(format!("({} OR {})", left.sql, right.sql), move |row| {
                    match ((left.truth)(row), (right.truth)(row)) {
                        (Some(true), _) | (_, Some(true)) => Some(true),
                        (Some(false), Some(false)) => Some(false),
                        _ => None,
                    }
                }),
                _ => Condition::new(format!("NOT ({})", left.sql), move |row| (left.truth)(row).map(|b| !b)),
            };
        }
        match random.random_range(0..8) {
            0 | 1 => self.time(random),
            2 => self.value(random),
            _ => self.label(random),
        }
    }

    /// Bounds are never zero, for which SQL and IEEE 754 tell -0.0 and 0.0 apart in their own ways.
    fn value(&self, random: &mut StdRng) -> Condition {
        let bound = f64::from(random.random_range(1..10));
        let sql = (self.column)("value");
        // NaN lies beyond infinity.
        let order = move |row: &Row| row.value.total_cmp(&bound);
        match random.random_range(0..4) {
            0 => Condition::new(format!("{sql} > {bound:?}"), move |row| Some(order(row) == Ordering::Greater)),
            1 => Condition::new(format!("{sql} <= {bound:?}"), move |row| Some(order(row) != Ordering::Greater)),
            2 => Condition::new(format!("{sql} <> {bound:?}"), move |row| Some(order(row) != Ordering::Equal)),
            _ => Condition::new(format!("{sql} BETWEEN {bound:?} AND 9.5"), move |row| {
                Some(order(row) != Ordering::Less && row.value.total_cmp(&9.5) != Ordering::Greater)
            }),
        }
    }

    fn time(&self, random: &mut StdRng) -> Condition {
        let near = |random: &mut StdRng| {
            self.instants[random.random_range(0..self.instants.len())].saturating_add(random.random_range(-1..=1))
        };
        let (at, sql) = (near(random), (self.column)("ts"));
        let literal = |at: i64| format!("to_timestamp_nanos({at})");
        if random.random_bool(0.3) {
            let end = near(random);
            let sql = format!("{sql} BETWEEN {} AND {}", literal(at), literal(end));
            return Condition::new(sql, move |row| Some((at..=end).contains(&row.ts)));
        }
        let (op, holds): (&str, fn(Ordering) -> bool) = match random.random_range(0..6) {
            0 => (">", Ordering::is_gt),
            1 => (">=", Ordering::is_ge),
            2 => ("<", Ordering::is_lt),
            3 => ("<=", Ordering::is_le),
            4 => ("=", Ordering::is_eq),
            _ => ("!=", Ordering::is_ne),
        };
        Condition::new(format!("{sql} {op} {}", literal(at)), move |row| Some(holds(row.ts.cmp(&at))))
    }

    fn label(&self, random: &mut StdRng) -> Condition {
        let name = LABELS[random.random_range(0..LABELS.len())];
        let value = VALUES[random.random_range(0..VALUES.len())];
        let sql = (self.column)(name);
        let get = move |row: &Row| row.labels.get(name).copied();
        let list: Vec<&'static str> =
            (0..random.random_range(1..6)).map(|_| VALUES[random.random_range(0..VALUES.len())]).collect();
        let quoted = list.iter().map(|v| format!("'{v}'")).collect::<Vec<_>>().join(", ");
        match random.random_range(0..12) {
            0 | 1 => Condition::new(format!("{sql} = '{value}'"), move |row| get(row).map(|v| v == value)),
            2 => Condition::new(format!("{sql} != '{value}'"), move |row| get(row).map(|v| v != value)),
            3 => Condition::new(format!("{sql} IN ({quoted})"), move |row| get(row).map(|v| list.contains(&v))),
            4 => Condition::new(format!("{sql} NOT IN ({quoted})"), move |row| get(row).map(|v| !list.contains(&v))),
            5 => Condition::new(format!("{sql} IS NULL"), move |row| Some(get(row).is_none())),
            6 => Condition::new(format!("{sql} IS NOT NULL"), move |row| Some(get(row).is_some())),
            7 => Condition::new(format!("{sql} LIKE '%x_'"), move |row| {
                get(row).map(|v| v.len() >= 2 && v.as_bytes()[v.len() - 2] == b'x')
            }),
            8 => Condition::new(format!("{sql} NOT LIKE 'x.%'"), move |row| get(row).map(|v| !v.starts_with("x."))),
            9 => Condition::new(format!("{sql} ~ 'x|^y'"), move |row| {
                get(row).map(|v| v.contains('x') || v.starts_with('y'))
            }),
            10 => Condition::new(format!("{sql} !~ 'y$'"), move |row| get(row).map(|v| !v.ends_with('y'))),
            // The parser would take what follows into the right-hand side.
            _ => {
                Condition::new(format!("({sql} IS DISTINCT FROM '{value}')"), move |row| Some(get(row) != Some(value)))
            }
        }
    }
}
