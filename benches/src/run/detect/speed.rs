//! `detect-speed`: what detection costs: many series of a week, a row a minute, written to a real server and scored in SQL.
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use foretell_ml::detect::{Detector, DetectorOptions, Method};
use serde_json::{Map, json};

use super::series::{KINDS, START_MS, values};
use super::{libraries, score};
use crate::peer::Binaries;
use crate::report::{Goal, Report, median, print};
use crate::run::scorer::Sources;
use crate::run::store::{Store, Writer};

const METRIC: &str = "fleet";
const STEP_MS: i64 = 60_000;
const ROWS_PER_DAY: usize = 1_440;
/// Parts that the series are divided into, by a label.
const PARTS: usize = 10;
const OVER: &str = "OVER (PARTITION BY id ORDER BY ts)";
/// The default method over all series, on two cores.
const ALL_SECONDS_GOAL: Goal = Goal::AtMost(60.0);
/// The methods that are cheap enough for every series there is; the others keep a season or a window.
const CHEAP: [&str; 4] = ["mad", "ewma", "cusum", "spot"];
/// Series that the other methods are measured with: some take a thousand times as long.
const SLOW_SERIES: usize = 60;
/// A cheap method, CPU time.
const POINT_NS_GOAL: Goal = Goal::AtMost(200.0);
/// A cheap method, what is kept of a series.
const STATE_BYTES_GOAL: Goal = Goal::AtMost(512.0);

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The Python of `--libraries`
    #[command(flatten)]
    pub sources: Sources,
    /// Series, of six kinds
    #[arg(long, default_value_t = 10_000)]
    pub series: usize,
    /// Days of each, 1,440 rows a day
    #[arg(long, default_value_t = 7)]
    pub days: usize,
    /// Repetitions of the statements over a tenth of the series, of which the median counts
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Series for the libraries of Python, each of a week
    #[arg(long, default_value_t = 12)]
    pub library_series: usize,
    /// Seed of the series
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Runs it.
///
/// # Errors
/// When the server refuses a body or a statement, or, after all is written, a figure missed its goal.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let rows = (options.series * options.days * ROWS_PER_DAY) as u64;
    let mut report = Report::new(
        "detect-speed",
        json!({
            "series": options.series, "days": options.days, "rows": rows,
            "runs": options.runs, "library_series": options.library_series, "seed": options.seed,
        }),
    );
    let store = Store::start("detect-speed", binaries)?;
    print(&format!("writing {rows} rows of {} series", options.series));
    let begun = Instant::now();
    write(options, &store)?;
    report.figure("write_seconds", begun.elapsed().as_secs_f64(), "making the values included");
    store.wait_idle()?;
    methods(options, &store, &mut report)?;
    all(&store, rows, &mut report)?;
    store.stop()?;
    if options.sources.libraries {
        beside_libraries(options, &mut report)?;
    }
    report.finish(results)?;
    report.refuse_missed()
}

/// Kind and values of a series.
fn series(options: &Options, i: usize) -> Result<(&'static str, Vec<f64>)> {
    let kind = KINDS[i % KINDS.len()];
    let values = values(kind, options.days * ROWS_PER_DAY, ROWS_PER_DAY as f64, options.seed * 1_000_003 + i as u64)?;
    Ok((kind, values))
}

/// Writes all series, some hundred at a time, day by day, over two connections.
fn write(options: &Options, store: &Store) -> Result<()> {
    const AT_A_TIME: usize = 250;
    const SENDERS: usize = 2;
    let some = |writer: &mut Writer, from: usize| -> Result<()> {
        let made: Vec<_> =
            (from..options.series.min(from + AT_A_TIME)).map(|i| series(options, i)).collect::<Result<_>>()?;
        for day in 0..options.days {
            let start = START_MS + (day * ROWS_PER_DAY) as i64 * STEP_MS;
            for (i, (kind, values)) in made.iter().enumerate() {
                let (id, part) = (format!("s{}", from + i), format!("p{}", (from + i) / KINDS.len() % PARTS));
                let labels = [("__name__", METRIC), ("id", id.as_str()), ("kind", kind), ("part", part.as_str())];
                let values = values[day * ROWS_PER_DAY..][..ROWS_PER_DAY].iter().copied();
                writer.write(&labels, (start..).step_by(STEP_MS as usize).zip(values))?;
            }
        }
        writer.flush()
    };
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn(move || -> Result<()> {
                    let mut writer = store.writer()?;
                    let mut starts = (sender * AT_A_TIME..options.series).step_by(SENDERS * AT_A_TIME);
                    starts.try_for_each(|from| some(&mut writer, from))
                })
            })
            .collect();
        senders.into_iter().try_for_each(|sender| sender.join().map_err(|_| anyhow!("a sender panicked"))?)
    })
}

/// What each method adds to a statement over a tenth of the series, or over some of them, and how large its state is.
fn methods(options: &Options, store: &Store, report: &mut Report) -> Result<()> {
    let ask = |scored: &str, only: &str| -> Result<f64> {
        let sql = format!(
            "SELECT count(*), max(x) FROM (SELECT {scored} {OVER} AS x FROM metrics.\"{METRIC}\" WHERE {only})"
        );
        let mut ns = Vec::new();
        // the first statement finds files that nobody has read
        store.rows(&sql)?;
        for _ in 0..options.runs.max(1) {
            let (rows, _, cpu) = store.timed(&sql)?;
            let counted = rows.first().and_then(|row| row.first()?.as_u64()).filter(|&n| n > 0).context("no rows")?;
            ns.push(cpu * 1e9 / counted as f64);
        }
        Ok(median(&ns))
    };
    let tenth = "part = 'p0'".to_owned();
    let some: Vec<String> = (0..options.series.min(SLOW_SERIES)).map(|i| format!("'s{i}'")).collect();
    let some = format!("id IN ({})", some.join(", "));
    let (base, base_of_some) = (ask("row_number()", &tenth)?, ask("row_number()", &some)?);
    report.figure("row_number_ns_per_point", base, "the server's CPU time of the same statement with row_number()");
    for method in Method::ALL {
        let name = method.name();
        let cheap = method == Method::Auto || CHEAP.contains(&name);
        let (only, base) = if cheap { (&tenth, base) } else { (&some, base_of_some) };
        print(&format!("{name} over {} of the series", if cheap { "a tenth" } else { "some" }));
        let whole = ask(&score(name), only)?;
        report.figure(&format!("{name}_statement_ns_per_point"), whole, "the server's CPU time of the statement");
        let (key, note) = (format!("{name}_ns_per_point"), "what the score adds to row_number()");
        let state = state_bytes(options, method)?;
        let (state_key, state_note) = (format!("{name}_state_bytes"), "largest saved state after all of a series");
        if CHEAP.contains(&name) {
            report.goal(&key, whole - base, POINT_NS_GOAL, note);
            report.goal(&state_key, state, STATE_BYTES_GOAL, state_note);
        } else {
            report.figure(&key, whole - base, note);
            report.figure(&state_key, state, state_note);
        }
    }
    Ok(())
}

/// The largest saved state over a series of each kind.
fn state_bytes(options: &Options, method: Method) -> Result<f64> {
    let mut largest = 0;
    for i in 0..KINDS.len() {
        let mut detector = Detector::new(method, DetectorOptions::default())?;
        for (at, value) in series(options, i)?.1.into_iter().enumerate() {
            detector.update((START_MS + at as i64 * STEP_MS) * 1_000_000, value);
        }
        let mut saved = Vec::new();
        detector.save(&mut saved);
        largest = largest.max(saved.len());
    }
    Ok(largest as f64)
}

/// The default method over all series.
fn all(store: &Store, rows: u64, report: &mut Report) -> Result<()> {
    print("the default method over all series");
    let (answer, wall, cpu) = store.timed(&format!(
        "SELECT count(*), count(*) FILTER (WHERE score > 1) FROM (SELECT {} {OVER} AS score FROM metrics.\"{METRIC}\")",
        score("auto")
    ))?;
    let cell = |i: usize| answer.first().and_then(|row| row.get(i)?.as_u64()).context("no count");
    let (counted, alarms, seconds) = (cell(0)?, cell(1)?, wall.as_secs_f64());
    ensure!(counted == rows, "{rows} rows written, {counted} scored");
    report.goal("auto_all_seconds", seconds, ALL_SECONDS_GOAL, "every row of every series, wall clock over HTTP");
    report.figure("auto_all_cpu_ns_per_point", cpu * 1e9 / rows as f64, "the server's user and system time");
    report.figure("auto_all_points_per_second", rows as f64 / seconds, "wall clock");
    report.figure("auto_all_rows_above_1", alarms as f64, "");
    report.figure("rss_peak_bytes", store.usage()?.rss_peak_bytes as f64, "the server's most memory, writes included");
    Ok(())
}

/// The CPU time of a point in Python, and ours to it.
fn beside_libraries(options: &Options, report: &mut Report) -> Result<()> {
    let mut made = Map::new();
    for i in 0..options.library_series {
        made.insert(format!("s{i}"), series(options, i)?.1.into());
    }
    let dir = crate::process::scratch_dir("detect-libraries")?;
    for (name, detector) in libraries::detect(&options.sources, made, dir.path())? {
        let ns = detector["ns_per_point"].as_f64().with_context(|| format!("{name}: no time"))?;
        report.text(&format!("{name}_version"), detector["version"].as_str().unwrap_or_default(), "");
        report.figure(&format!("{name}_ns_per_point"), ns, "CPU time in its own process, without reading");
        if let Some(own) = report.get("auto_all_cpu_ns_per_point") {
            report.figure(&format!("ratio_{name}_ns_per_point"), own / ns, "auto, the whole statement, to theirs");
        }
    }
    Ok(())
}
