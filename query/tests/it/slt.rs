//! Runs `tests/slt/*.slt`. `UPDATE_SLT=1` rewrites their answers: read the difference before committing it.
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use foretell_query::{Error, QueryLimits};
use sqllogictest::{
    AsyncDB, DBOutput, DefaultColumnType, Runner, default_column_validator, default_normalizer, default_validator,
};

use crate::store::Store;

struct Foretell(Arc<Store>);

#[async_trait]
impl AsyncDB for Foretell {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        let rows = self.0.rows(sql).await?;
        // One word a cell, as the format wants it.
        let cell = |c: String| if c.is_empty() { "(empty)".to_owned() } else { c.replace(['\n', '\r'], " ") };
        let types = vec![DefaultColumnType::Any; rows.first().map_or(0, Vec::len)];
        Ok(DBOutput::Rows { types, rows: rows.into_iter().map(|r| r.into_iter().map(cell).collect()).collect() })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "foretell"
    }
}

async fn run(file: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/slt").join(file);
    for spread_small in [false, true] {
        let store = Arc::new(Store::prepared_with(QueryLimits { spread_small, ..QueryLimits::default() }));
        let mut runner = Runner::new(|| {
            let store = Arc::clone(&store);
            async move { Ok(Foretell(store)) }
        });
        if std::env::var_os("UPDATE_SLT").is_some() {
            let updated =
                runner.update_test_file(&path, " ", default_validator, default_normalizer, default_column_validator);
            updated.await.unwrap();
        } else {
            runner.run_file_async(&path).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables() {
    run("tables.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters() {
    run("filters.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions() {
    run("functions.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promql() {
    run("promql.slt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors() {
    run("errors.slt").await;
}
