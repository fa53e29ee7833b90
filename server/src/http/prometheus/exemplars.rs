//! `GET|POST /api/v1/query_exemplars`
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use foretell_query::promql::{Exemplar, ExemplarQuery, SeriesExemplars};

use super::super::respond;
use super::elsewhere;
use super::encode::{join, write_labels, write_number, write_pairs, write_seconds};
use super::params::Params;
use crate::app::App;
use crate::error::ApiError;

/// 204 for an expression that selects no series whatever there is, as Prometheus answers.
pub(in super::super) async fn query_exemplars(
    State(app): State<Arc<App>>,
    params: Params,
) -> Result<Response, ApiError> {
    let (start_ms, end_ms) = params.range()?;
    let text = params.one("query").unwrap_or_default().to_owned();
    let timeout = params.timeout()?;
    let query = ExemplarQuery { text, start_ms, end_ms };
    Ok(match app.store()?.database.exemplars(query, timeout).await? {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(found) => respond::json(StatusCode::OK, elsewhere(move || encode(&found)).await?),
    })
}

fn encode(found: &[SeriesExemplars]) -> Vec<u8> {
    let mut out = br#"{"status":"success","data":["#.to_vec();
    join(found, &mut out, |series, out| {
        out.extend_from_slice(br#"{"seriesLabels":"#);
        write_labels(&series.labels, out);
        out.extend_from_slice(br#","exemplars":["#);
        join(&series.exemplars, out, write_exemplar);
        out.extend_from_slice(b"]}");
    });
    out.extend_from_slice(b"]}");
    out
}

fn write_exemplar(exemplar: &Exemplar, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"labels":"#);
    write_pairs(exemplar.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())), out);
    out.extend_from_slice(br#","value":""#);
    write_number(exemplar.value, out);
    out.extend_from_slice(br#"","timestamp":"#);
    write_seconds(exemplar.ts_ms, out);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use foretell_engine::LabelSet;

    use super::*;

    #[test]
    fn exemplars_have_the_shape_that_grafana_expects() {
        let exemplar = Exemplar { labels: vec![("trace_id".into(), "é\"".into())], value: 0.25, ts_ms: 1_500 };
        let labels = LabelSet::from_pairs([("__name__", "up")]).unwrap_or_default();
        let text = encode(&[SeriesExemplars { labels, exemplars: vec![exemplar.clone(), exemplar] }]);
        let one = r#"{"labels":{"trace_id":"é\""},"value":"0.25","timestamp":1.500}"#;
        assert_eq!(
            String::from_utf8(text).unwrap_or_default(),
            format!(
                r#"{{"status":"success","data":[{{"seriesLabels":{{"__name__":"up"}},"exemplars":[{one},{one}]}}]}}"#
            )
        );
    }
}
