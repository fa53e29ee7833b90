//! Every ```sql block of docs/sql.md is executed.
use std::path::PathBuf;

use crate::store::Store;

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_sql_reference_runs() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/sql.md");
    let text = String::from_utf8(std::fs::read_to_string(path).unwrap().into_bytes()).unwrap();
    let store = Store::prepared();
    let mut examples = 0;
    for block in text.split("```sql\n").skip(1) {
        let sql = block.split("```").next().unwrap();
        for statement in sql.split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
            if let Err(error) = store.rows(statement).await {
                panic!("{statement}\n{error}");
            }
            examples += 1;
        }
    }
    assert!(examples > 20, "{examples}");
}
