//! How a value follows the one before it.
//!
//! Numbers that exporters print are integers in some unit (bytes, pages of 4 KiB, hundredths of a second), so a behaviour
//! walks over integers and the unit turns them into the very floats that the exporter would have printed, its rounding
//! noise included.
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rand::rngs::SmallRng;

/// Steps larger than this are varied by a tenth, so that a long replay has more steps than were observed.
const VARIED_ABOVE: i64 = 32;

/// Turns an integer into the float that an exporter prints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// The integer counts multiples of this.
    pub quantum: i64,
    /// ... of this many decimals.
    pub decimals: u8,
    /// Whether the exporter multiplies by 0.001 (and prints 0.026000000000000002) instead of dividing by 1000.
    pub multiplies: bool,
}

impl Unit {
    /// The float.
    pub fn value(self, n: i64) -> f64 {
        let n = n.wrapping_mul(self.quantum) as f64;
        let power = POWERS[usize::from(self.decimals)];
        if self.multiplies { n * (1.0 / power) } else { n / power }
    }
}

/// Powers of ten that units use.
pub(super) const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// What a series does.
#[derive(Clone, Debug, PartialEq)]
pub enum Behaviour {
    /// Never changes.
    Constant(f64),
    /// Never falls; each step is one that was observed, scaled to the instance.
    Counter {
        /// Unit of the integers.
        unit: Unit,
        /// A level it was seen at.
        start: i64,
        /// Observed steps.
        steps: Box<[i64]>,
    },
    /// Walks by observed steps between borders.
    Gauge {
        /// Unit of the integers.
        unit: Unit,
        /// Lower border.
        lo: i64,
        /// Upper border.
        hi: i64,
        /// Observed steps.
        steps: Box<[i64]>,
    },
    /// A float with all its bits: normal noise around a level.
    Float {
        /// Level.
        mean: f64,
        /// Standard deviation.
        sd: f64,
    },
    /// TSBS's clamped random walk: normal steps, printed as integers.
    Clamped {
        /// Lower border.
        lo: f64,
        /// Upper border.
        hi: f64,
    },
}

/// Where one series stands.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    n: i64,
    level: f64,
    scale: f64,
}

fn pick(steps: &[i64], scale: f64, rng: &mut SmallRng) -> i64 {
    if steps.is_empty() {
        return 0;
    }
    let step = steps[rng.random_range(0..steps.len())];
    if step.abs() <= VARIED_ABOVE {
        return step;
    }
    (step as f64 * scale * rng.random_range(0.9..1.1)).round() as i64
}

/// A standard normal number (sum of uniforms: tails are of no interest here, speed is).
fn normal(rng: &mut SmallRng) -> f64 {
    let sum: f64 = (0..4).map(|_| rng.random::<f64>()).sum();
    (sum - 2.0) * 3.0_f64.sqrt()
}

impl Walk {
    /// An instance of its own: same behaviour, other level and size.
    pub(super) fn begin(behaviour: &Behaviour, rng: &mut SmallRng) -> Self {
        let scale = (0.5 * normal(rng)).exp();
        let (n, level) = match behaviour {
            Behaviour::Constant(value) if value.fract() == 0.0 && value.abs() > 1e6 => (0, (value * scale).round()),
            Behaviour::Constant(value) => (0, *value),
            Behaviour::Counter { start, .. } => ((*start as f64 * scale) as i64, 0.0),
            Behaviour::Gauge { lo, hi, .. } => (rng.random_range(*lo..=*hi), 0.0),
            Behaviour::Float { mean, .. } => (0, *mean),
            Behaviour::Clamped { lo, hi } => (0, rng.random_range(*lo..*hi)),
        };
        Self { n, level, scale }
    }

    /// The next value.
    pub(super) fn next(&mut self, behaviour: &Behaviour, rng: &mut SmallRng) -> f64 {
        match behaviour {
            Behaviour::Constant(_) => self.level,
            Behaviour::Counter { unit, steps, .. } => {
                self.n += pick(steps, self.scale, rng);
                unit.value(self.n)
            }
            Behaviour::Gauge { unit, lo, hi, steps } => {
                let step = pick(steps, 1.0, rng);
                let next = self.n + step;
                self.n = if next < *lo || next > *hi { self.n - step } else { next }.clamp(*lo, *hi);
                unit.value(self.n)
            }
            Behaviour::Float { mean, sd } => mean + sd * normal(rng),
            Behaviour::Clamped { lo, hi } => {
                self.level = (self.level + normal(rng)).clamp(*lo, *hi);
                self.level.trunc()
            }
        }
    }
}

/// The notation of a page file, such as `counter 1/100 12031 5,0,12`.
impl std::fmt::Display for Behaviour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |steps: &[i64]| steps.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        match self {
            Self::Constant(value) => write!(f, "constant {value}"),
            Self::Counter { unit, start, steps } => write!(f, "counter {unit} {start} {}", list(steps)),
            Self::Gauge { unit, lo, hi, steps } => write!(f, "gauge {unit} {lo} {hi} {}", list(steps)),
            Self::Float { mean, sd } => write!(f, "float {mean} {sd}"),
            Self::Clamped { lo, hi } => write!(f, "clamped {lo} {hi}"),
        }
    }
}

impl FromStr for Behaviour {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split(' ');
        let kind = words.next().unwrap_or_default();
        let mut word = || words.next().with_context(|| format!("{kind:?} needs more words"));
        let steps = |list: &str| list.split(',').map(|n| Ok(n.parse()?)).collect::<Result<Box<[i64]>>>();
        Ok(match kind {
            "constant" => Self::Constant(word()?.parse()?),
            "counter" => Self::Counter { unit: word()?.parse()?, start: word()?.parse()?, steps: steps(word()?)? },
            "gauge" => {
                let (unit, lo, hi): (Unit, i64, i64) = (word()?.parse()?, word()?.parse()?, word()?.parse()?);
                ensure!(lo <= hi, "a gauge needs lo <= hi, got {lo} and {hi}");
                Self::Gauge { unit, lo, hi, steps: steps(word()?)? }
            }
            "float" => Self::Float { mean: word()?.parse()?, sd: word()?.parse()? },
            "clamped" => Self::Clamped { lo: word()?.parse()?, hi: word()?.parse()? },
            _ => bail!("unknown behaviour {kind:?}: use constant, counter, gauge, float or clamped"),
        })
    }
}

/// `4096/0` is a multiple of 4096, `1/2` divides by 100, `1*3` multiplies by 0.001.
impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.quantum, if self.multiplies { '*' } else { '/' }, self.decimals)
    }
}

impl FromStr for Unit {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let at = text.find(['*', '/']).with_context(|| format!("{text:?} is no unit, such as 1/2"))?;
        let decimals: u8 = text[at + 1..].parse()?;
        ensure!(usize::from(decimals) < POWERS.len(), "a unit has at most 9 decimals, got {decimals}");
        Ok(Self { quantum: text[..at].parse()?, decimals, multiplies: text.as_bytes()[at] == b'*' })
    }
}
