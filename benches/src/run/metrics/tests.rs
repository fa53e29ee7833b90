use clap::{CommandFactory as _, Parser as _};

use super::*;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn parsed(arguments: &[&str]) -> Options {
    Cli::parse_from([&["bench"][..], arguments].concat()).options
}

#[test]
fn the_arguments_of_all_parts_live_side_by_side() {
    Cli::command().debug_assert();
}

#[test]
fn all_parts_run_unless_some_are_named_and_then_in_their_order() {
    assert_eq!(parsed(&[]).parts(), Part::ALL);
    let some = parsed(&["--only", "sql", "--only", "merged"]).parts();
    assert_eq!(some, [Part::Merged, Part::Sql]);
    assert_eq!(report_name(&Part::ALL), "metrics");
    assert_eq!(report_name(&some), "metrics-merged-sql");
}

#[test]
fn a_size_is_named_as_it_is() {
    for (series, name) in [
        (500, "500"),
        (1_000, "1k"),
        (20_000, "20k"),
        (100_000, "100k"),
        (100_001, "100001"),
        (1_000_000, "1M"),
        (1_500_000, "1500k"),
        (2_000_000, "2M"),
    ] {
        assert_eq!(size_name(series), name);
    }
}

#[test]
fn parameters_of_each_part_are_written_down() {
    let options = parsed(&["--linear-series", "2000", "--series", "20000"]);
    assert_eq!(options.parameters(Part::Linear).unwrap()["linear_series"], 2_000);
    assert_eq!(options.parameters(Part::Ingest).unwrap()["series"], json!([20_000]));
    assert!(options.parameters(Part::Sql).unwrap().get("python").is_none());
}

#[test]
fn another_benchmark_has_its_own_defaults() {
    let short: crate::run::promql::Options = options_of(&[]).unwrap();
    let full: crate::run::promql::Options = options_of(&["--full"]).unwrap();
    assert!(!short.full && full.full && short.requests == full.requests);
}
