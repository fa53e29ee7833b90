//! Points with a distribution: histograms with borders, exponential histograms and summaries.
use super::super::exponential::{self, Buckets};
use super::super::wire::{fields, fixed64s};
use super::{Metric, PARTS_MAX, Point, Resource, STALE, Stop, Walk, encode_refs, exemplar_head};
use crate::remote_write::fault::Fault;
use crate::remote_write::wire::Malformed;

/// Borders of a classic histogram.
const BORDERS_MAX: usize = 16 << 10;

impl Walk<'_, '_> {
    pub(super) fn histogram(
        &mut self,
        message: &[u8],
        metric: Metric<'_>,
        resource: &Resource,
    ) -> Result<Result<i64, Fault>, Stop> {
        let mut point = Point::default();
        let (mut count, mut sum) = (0u64, None);
        let (mut counts, mut borders) =
            (std::mem::take(&mut self.scratch.counts), std::mem::take(&mut self.scratch.borders));
        counts.clear();
        borders.clear();
        fields(message, |number, field| {
            match number {
                3 => point.time = field.fixed64()?,
                4 => count = field.fixed64()?,
                5 => sum = Some(field.double()?),
                6 => fixed64s(field, |count| counts.push(count))?,
                7 => fixed64s(field, |border| borders.push(f64::from_bits(border)))?,
                8 => point.exemplar(field)?,
                9 => point.attribute(field)?,
                10 => point.flags = field.varint()?,
                _ => {}
            }
            Ok::<_, Malformed>(())
        })?;
        let begun = self.begin(&mut point, metric, resource)?;
        let added = match begun.and_then(|ts| check_borders(&counts, &borders).map(|()| ts)) {
            Ok(ts) => {
                // The last bucket has this border whether it is said or not.
                borders.pop_if(|border| *border == f64::INFINITY);
                let value = |value: f64| if point.no_value() { STALE } else { value };
                let name = format!("{}_sum", metric.name);
                if let Some(sum) = sum {
                    self.sample(name.as_bytes(), None, ts, value(sum))?;
                }
                let name = format!("{}_count", metric.name);
                self.sample(name.as_bytes(), None, ts, value(count as f64))?;
                self.buckets(&point, metric, (&counts, &borders), ts, count)?;
                Ok(ts)
            }
            Err(fault) => Err(fault),
        };
        (self.scratch.counts, self.scratch.borders) = (counts, borders);
        Ok(added)
    }

    /// The cumulative buckets of a histogram, each with the exemplars that fell into it.
    fn buckets(
        &mut self,
        point: &Point<'_>,
        metric: Metric<'_>,
        (counts, borders): (&[u64], &[f64]),
        ts: i64,
        count: u64,
    ) -> Result<(), Stop> {
        let name = format!("{}_bucket", metric.name);
        let le = self.rows.symbol(b"le")?;
        let mut exemplars = Vec::with_capacity(point.exemplars.len());
        for message in &point.exemplars {
            let value = exemplar_head(message)?.1;
            exemplars.push((borders.partition_point(|border| *border < value), *message));
        }
        exemplars.sort_by_key(|exemplar| exemplar.0);
        let mut exemplars = exemplars.into_iter().peekable();
        let mut cumulative = 0u64;
        for i in 0..=borders.len() {
            let text = borders.get(i).map_or_else(|| "+Inf".to_owned(), |border| number_text(*border));
            cumulative = cumulative.saturating_add(counts.get(i).copied().unwrap_or_default());
            // The last bucket is the count, whatever the others say.
            let value = if i == borders.len() { count } else { cumulative };
            let label = (le, self.rows.symbol(text.as_bytes())?);
            self.sample(name.as_bytes(), Some(label), ts, if point.no_value() { STALE } else { value as f64 })?;
            while let Some((_, message)) = exemplars.next_if(|exemplar| exemplar.0 == i) {
                self.exemplar(message)?;
            }
        }
        Ok(())
    }

    pub(super) fn exponential(
        &mut self,
        message: &[u8],
        metric: Metric<'_>,
        resource: &Resource,
    ) -> Result<Result<i64, Fault>, Stop> {
        let mut point = Point::default();
        let mut head = exponential::Head::default();
        let scratch = &mut self.scratch;
        scratch.negative.clear();
        scratch.positive.clear();
        fields(message, |number, field| {
            match number {
                1 => point.attribute(field)?,
                2 => point.start = field.fixed64()?,
                3 => point.time = field.fixed64()?,
                4 => head.count = field.fixed64()?,
                5 => head.sum = field.double()?,
                6 => head.scale = zigzag(field.varint()?),
                7 => head.zero_count = field.fixed64()?,
                8 => read_buckets(field.bytes()?, &mut scratch.positive)?,
                9 => read_buckets(field.bytes()?, &mut scratch.negative)?,
                10 => point.flags = field.varint()?,
                11 => point.exemplar(field)?,
                14 => head.zero_threshold = field.double()?,
                _ => {}
            }
            Ok::<_, Malformed>(())
        })?;
        let ts = match self.begin(&mut point, metric, resource)? {
            Ok(ts) => ts,
            fault => return Ok(fault),
        };
        head.ts_ms = ts.div_euclid(1_000_000);
        head.start_ms = i64::try_from(point.start).unwrap_or_default() / 1_000_000;
        if point.no_value() {
            head = exponential::Head { sum: STALE, ts_ms: head.ts_ms, ..exponential::Head::default() };
            self.scratch.negative.clear();
            self.scratch.positive.clear();
        }
        let mut native = std::mem::take(&mut self.scratch.bytes);
        let encoded = exponential::encode(&head, &self.scratch.negative, &self.scratch.positive, &mut native);
        let added = match encoded {
            Err(why) => Err(Fault::Histogram(why)),
            Ok(()) => {
                let name = (self.rows.symbol(b"__name__")?, self.rows.symbol(metric.name.as_bytes())?);
                let scratch = &mut self.scratch;
                encode_refs(&mut scratch.refs, &scratch.labels, None, name);
                self.rows.histogram(&scratch.refs, ts, &native, self.points)?
            }
        };
        self.scratch.bytes = native;
        if added.is_ok() {
            for exemplar in &point.exemplars {
                self.exemplar(exemplar)?;
            }
        }
        Ok(added.map(|()| ts))
    }

    pub(super) fn summary(
        &mut self,
        message: &[u8],
        metric: Metric<'_>,
        resource: &Resource,
    ) -> Result<Result<i64, Fault>, Stop> {
        let mut point = Point::default();
        let (mut count, mut sum, mut quantiles, mut many) = (0u64, 0f64, Vec::new(), false);
        fields(message, |number, field| {
            match number {
                3 => point.time = field.fixed64()?,
                4 => count = field.fixed64()?,
                5 => sum = field.double()?,
                6 => {
                    let mut quantile = (0f64, 0f64);
                    fields(field.bytes()?, |number, field| {
                        match number {
                            1 => quantile.0 = field.double()?,
                            2 => quantile.1 = field.double()?,
                            _ => {}
                        }
                        Ok::<_, Malformed>(())
                    })?;
                    many |= quantiles.len() >= PARTS_MAX;
                    if !many {
                        quantiles.push(quantile);
                    }
                }
                7 => point.attribute(field)?,
                8 => point.flags = field.varint()?,
                _ => {}
            }
            Ok::<_, Malformed>(())
        })?;
        let ts = match self.begin(&mut point, metric, resource)? {
            Ok(ts) => ts,
            fault => return Ok(fault),
        };
        if many {
            return Ok(Err(Fault::Point(format!("a summary of more than {PARTS_MAX} quantiles"))));
        }
        let value = |value: f64| if point.no_value() { STALE } else { value };
        self.sample(format!("{}_sum", metric.name).as_bytes(), None, ts, value(sum))?;
        self.sample(format!("{}_count", metric.name).as_bytes(), None, ts, value(count as f64))?;
        let name = self.rows.symbol(b"quantile")?;
        for (quantile, at) in quantiles {
            let label = (name, self.rows.symbol(number_text(quantile).as_bytes())?);
            self.sample(metric.name.as_bytes(), Some(label), ts, value(at))?;
        }
        Ok(Ok(ts))
    }
}

fn check_borders(counts: &[u64], borders: &[f64]) -> Result<(), Fault> {
    let why = if borders.len() > BORDERS_MAX {
        "a histogram of more than 16384 borders"
    } else if !(counts.len() == borders.len() + 1 || counts.is_empty() && borders.is_empty()) {
        "a histogram whose bucket counts are not one more than its borders"
    } else if borders.iter().any(|border| border.is_nan()) {
        "a histogram with a border that is not a number"
    } else if !borders.is_sorted_by(|a, b| a < b) {
        "a histogram whose borders do not grow"
    } else {
        return Ok(());
    };
    Err(Fault::Point(why.to_owned()))
}

fn read_buckets(message: &[u8], buckets: &mut Buckets) -> Result<(), Malformed> {
    fields(message, |number, field| match number {
        1 => {
            buckets.offset = zigzag(field.varint()?);
            Ok(())
        }
        2 => buckets.read(field),
        _ => Ok(()),
    })
}

/// A border or quantile as Prometheus writes it: no exponent.
fn number_text(number: f64) -> String {
    if number == f64::INFINITY {
        "+Inf".to_owned()
    } else if number == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        number.to_string()
    }
}

fn zigzag(raw: u64) -> i32 {
    ((raw >> 1) as i64 ^ -((raw & 1) as i64)) as i32
}
