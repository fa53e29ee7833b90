//! Bytes against the field numbers of the specification, by a walk of its own.
use super::super::mapping::Mapping;
use super::super::row::Row;
use super::*;
use crate::remote_write::wire::{Cursor, FIXED64 as WIRE_FIXED64, VARINT as WIRE_VARINT};

/// Numbers of fields and their contents; those in `messages` are read as messages, others as text or hexadecimal digits.
fn shown(bytes: &[u8], messages: &[u32]) -> String {
    let (mut cursor, mut out) = (Cursor::new(bytes), String::new());
    while !cursor.is_at_end() {
        let (number, wire_type) = cursor.tag().unwrap();
        let text = match wire_type {
            WIRE_VARINT => cursor.varint().unwrap().to_string(),
            WIRE_FIXED64 => cursor.fixed64().unwrap().to_string(),
            _ => {
                let content = cursor.delimited().unwrap();
                if messages.contains(&number) {
                    format!("({})", shown(content, &[2]))
                } else {
                    String::from_utf8(content.to_vec()).unwrap_or_else(|_| foretell_query::event::hex(content))
                }
            }
        };
        out.push_str(&format!("{number}:{text} "));
    }
    out
}

fn encoded(signal: Signal, json: &str) -> Result<Vec<u8>, String> {
    let Value::Object(object) = serde_json::from_str(json).unwrap() else { panic!("{json}") };
    let row = Row { fields: object.into_iter().map(|(name, value)| (name.into(), Cell::of_json(value))).collect() };
    let mapping = Mapping::new(signal, Times::default(), Vec::new(), Vec::new());
    let (parts, mut out) = (mapping.parts(&row)?, Vec::new());
    event(signal, &parts, mapping.times(), &mut out)?;
    Ok(out)
}

#[test]
fn a_line_has_the_fields_of_the_specification_and_typed_attributes() {
    let bytes = encoded(
        Signal::Logs,
        r#"{"ts":"1970-01-01T00:00:01Z","severity":"WARN","body":"b","trace_id":"AB","span_id":"ffffffffffffffff",
            "i":-1,"d":0.5,"t":true,"s":"x","n":null,"l":[1,{"k":"v"}]}"#,
    );
    let bytes = bytes.unwrap();
    let half = 0.5f64.to_bits();
    let expected =
        format!("1:1000000000 2:13 3:WARN 5:(1:b ) 6:(1:d 2:(4:{half} ) ) 6:(1:i 2:(3:{} ) ) 6:(1:l 2:(5:", u64::MAX);
    let text = shown(&bytes, &[5, 6]);
    assert!(text.starts_with(&expected), "{text}");
    assert!(text.contains("6:(1:s 2:(1:x ) ) 6:(1:t 2:(2:1 ) ) 9:"), "{text}");
    assert!(text.ends_with("10:ffffffffffffffff "), "{text}");
    let tail = [&[9 << 3 | 2, 16][..], &[0; 15], &[0xab, 10 << 3 | 2, 8], &[0xff; 8]].concat();
    assert!(bytes.ends_with(&tail), "a short id has zeros before it");
}

#[test]
fn a_span_has_the_fields_of_the_specification() {
    let bytes = encoded(
        Signal::Spans,
        r#"{"ts":"1970-01-01T00:00:01Z","duration":5,"trace_id":"ff","span_id":"f0","name":"GET","kind":"SPAN_KIND_SERVER",
            "status":"error","status_message":"no",
            "events":[{"ts":"1970-01-01T00:00:02Z","name":"e","attributes":{"k":1}}],
            "links":[{"trace_id":"fe","span_id":"fd","trace_state":"a=b"}]}"#,
    );
    let bytes = bytes.unwrap();
    let text = shown(&bytes, &[]);
    assert!(text.contains("7:1000000000 8:1000000005 5:GET 6:2 11:"), "{text}");
    assert!(bytes.ends_with(b"\x7a\x06\x12\x02no\x18\x02"), "{text}");
}

#[test]
fn what_cannot_be_carried_is_refused_with_its_reason() {
    let line = |rest: &str| encoded(Signal::Logs, &format!("{{{rest}}}")).unwrap_err();
    assert!(line(r#""body":"x""#).contains("no ts"));
    assert!(line(r#""ts":"1969-12-31T23:59:59Z""#).contains("before 1970"));
    assert!(line(r#""ts":"1970-01-01T00:00:00Z""#).contains("unknown"));
    assert!(line(r#""ts":5"#).contains("--epoch"));
    assert!(line(r#""ts":"1970-01-01T00:00:01Z","trace_id":"xyz""#).contains("hexadecimal"));
    assert!(line(r#""ts":"1970-01-01T00:00:01Z","severity_number":25"#).contains("0 to 24"));
    let span = |rest: &str| {
        let start = r#""ts":"1970-01-01T00:00:01Z","trace_id":"01","span_id":"02""#;
        encoded(Signal::Spans, &format!("{{{start}{rest}}}")).unwrap_err()
    };
    assert!(span("").contains("neither duration nor end"));
    assert!(span(r#","end":"1970-01-01T00:00:00Z""#).contains("before the start"));
    assert!(span(r#","duration":1,"kind":"boss""#).contains("none of unspecified"));
    assert!(span(r#","duration":1,"events":[1]"#).contains("list of objects"));
    assert!(span(r#","duration":9223372036854775807"#).contains("2262"));
}
