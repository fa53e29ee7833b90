//! Every ```sql block of docs/sql.md, docs/models.md, docs/alerts.md and docs/log-templates.md is executed.
use std::path::PathBuf;

use crate::store::Store;

fn page(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn statements(block: &str) -> impl Iterator<Item = &str> {
    block.split(";\n").map(str::trim).filter(|s| !s.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_sql_reference_runs() {
    assert!(run_all("sql.md").await > 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_about_models_runs() {
    assert!(run_all("models.md").await > 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_about_detectors_and_alerts_runs() {
    assert!(run_all("alerts.md").await > 12);
}

/// Runs the examples of a page, one after the other in one store. Answers how many there are.
async fn run_all(name: &str) -> usize {
    let text = page(name);
    let store = Store::prepared();
    let mut examples = 0;
    for block in text.split("```sql\n").skip(1) {
        for statement in statements(block.split("```").next().unwrap()) {
            if let Err(error) = store.rows(statement).await {
                panic!("{statement}\n{error}");
            }
            examples += 1;
        }
    }
    examples
}

/// The block after each example is its answer: a line of names, then a line for each row, two blanks or more between cells.
#[tokio::test(flavor = "multi_thread")]
async fn every_example_about_log_templates_answers_as_shown() {
    let text = page("log-templates.md");
    let mut examples = 0;
    for block in text.split("```sql\n").skip(1) {
        let (sql, after) = block.split_once("```\n").unwrap();
        let answer = after.strip_prefix("```text\n").expect(sql).split("```").next().unwrap();
        let cells = |line: &str| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect();
        let expected: Vec<Vec<String>> = answer.lines().skip(1).map(cells).collect();
        // Each in a store that has seen nothing.
        let store = Store::prepared();
        let mut rows = Vec::new();
        for statement in statements(sql) {
            rows = store.rows(statement).await.unwrap_or_else(|error| panic!("{statement}\n{error}"));
        }
        assert_eq!(rows, expected, "{sql}");
        examples += 1;
    }
    assert!(examples >= 4, "{examples}");
}
