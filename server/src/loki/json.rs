//! `{"streams": [{"stream": {"label": "value"}, "values": [["<ns>", "<line>", {"metadata": "value"}]]}]}`.
//!
//! Strings without escapes are borrowed from the body. A field that is not known is passed over.
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::push::{Budget, Entry, PushError, Stream};

/// The streams of `bytes`.
///
/// # Errors
/// `Malformed` or `TooLarge`.
pub fn decode<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Vec<Stream<'a>>, PushError> {
    let shared = Shared { budget: RefCell::new(budget), spent: RefCell::new(None) };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let decoded = Push(&shared).deserialize(&mut json).and_then(|streams| json.end().map(|()| streams));
    decoded.map_err(|error| {
        let spent = shared.spent.take();
        spent.unwrap_or_else(|| {
            PushError::Malformed(format!("cannot decode the body as a push request in JSON: {error}"))
        })
    })
}

/// What all parts take from.
struct Shared<'b> {
    budget: RefCell<&'b mut Budget>,
    /// Why decoding was given up.
    spent: RefCell<Option<PushError>>,
}

impl Shared<'_> {
    fn take<E: serde::de::Error>(&self) -> Result<(), E> {
        self.budget.borrow_mut().take().map_err(|error| {
            let text = E::custom(&error);
            *self.spent.borrow_mut() = Some(error);
            text
        })
    }
}

/// A string, borrowed where it can be.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Str;
        impl<'de> Visitor<'de> for Str {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Str)
    }
}

macro_rules! seed {
    ($name:ident, $value:ty, $method:ident, $expecting:literal, $($visit:tt)*) => {
        struct $name<'s, 'b>(&'s Shared<'b>);
        impl<'de> DeserializeSeed<'de> for $name<'_, '_> {
            type Value = $value;
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.$method(self)
            }
        }
        impl<'de> Visitor<'de> for $name<'_, '_> {
            type Value = $value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expecting)
            }
            $($visit)*
        }
    };
}

seed!(
    Push,
    Vec<Stream<'de>>,
    deserialize_map,
    "an object with streams",
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut streams = None;
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "streams" => streams = Some(map.next_value_seed(Streams(self.0))?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        streams.ok_or_else(|| A::Error::missing_field("streams"))
    }
);

seed!(
    Streams,
    Vec<Stream<'de>>,
    deserialize_seq,
    "a list of streams",
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut streams = Vec::new();
        while let Some(stream) = list.next_element_seed(One(self.0))? {
            self.0.take::<A::Error>()?;
            streams.push(stream);
        }
        Ok(streams)
    }
);

seed!(
    One,
    Stream<'de>,
    deserialize_map,
    "an object with stream and values",
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut stream = Stream::default();
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "stream" => stream.labels = map.next_value_seed(Pairs(self.0))?,
                "values" => stream.entries = map.next_value_seed(Entries(self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(stream)
    }
);

seed!(
    Pairs,
    Vec<(Cow<'de, str>, Cow<'de, str>)>,
    deserialize_map,
    "an object of strings",
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((Text(name), Text(value))) = map.next_entry()? {
            self.0.take::<A::Error>()?;
            pairs.push((name, value));
        }
        Ok(pairs)
    }
);

seed!(
    Entries,
    Vec<Entry<'de>>,
    deserialize_seq,
    "a list of lines",
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element_seed(Line(self.0))? {
            self.0.take::<A::Error>()?;
            entries.push(entry);
        }
        Ok(entries)
    }
);

seed!(
    Line,
    Entry<'de>,
    deserialize_seq,
    "[\"<nanoseconds>\", \"<line>\"] or the same with an object of metadata",
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let Text(ns) = list.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let Text(line) = list.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self))?;
        let metadata = list.next_element_seed(Pairs(self.0))?.unwrap_or_default();
        if list.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::invalid_length(4, &self));
        }
        let digits = ns.strip_prefix('-').unwrap_or(&ns);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(A::Error::custom(format!("{ns:?} is not a number of nanoseconds")));
        }
        Ok(Entry { ts: ns.parse().ok(), line, metadata })
    }
);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read() {
        let text = r#"{"x": [1, {"y": 2}], "streams": [
            {"values": [["5000000007", "hell\u00f6", {"trace": "abc"}], ["-1", ""], ["99999999999999999999", "far"]],
             "stream": {"app": "shop"}, "z": null}, {}]}"#;
        let streams = decode(text.as_bytes(), &mut Budget::new(7)).unwrap();
        let first =
            Entry { ts: Some(5_000_000_007), line: "hellö".into(), metadata: vec![("trace".into(), "abc".into())] };
        let second = Entry { ts: Some(-1), ..Entry::default() };
        let third = Entry { line: "far".into(), ..Entry::default() };
        let stream = Stream { labels: vec![("app".into(), "shop".into())], entries: vec![first, second, third] };
        assert_eq!(streams, [stream, Stream::default()]);
        assert!(matches!(decode(text.as_bytes(), &mut Budget::new(6)), Err(PushError::TooLarge(_))));
    }

    #[test]
    fn what_is_no_request_is_an_error_that_says_where() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"streams": {}}"#,
            r#"{"streams": [{"stream": {"a": 1}}]}"#,
            r#"{"streams": [{"values": [["1"]]}]}"#,
            r#"{"streams": [{"values": [[1, "x"]]}]}"#,
            r#"{"streams": [{"values": [["now", "x"]]}]}"#,
            r#"{"streams": [{"values": [["1", "x", {}, 1]]}]}"#,
            r#"{"streams": [{"values": [["1", "x", {"a": {}}]]}]}"#,
            r#"{"streams": []} x"#,
        ] {
            let error = decode(text.as_bytes(), &mut Budget::new(100)).unwrap_err();
            assert!(matches!(&error, PushError::Malformed(why) if why.contains("line 1 column")), "{text}: {error}");
        }
        assert!(decode(b"{\"streams\": [{\"stream\": {\"a\": \"\xff\"}}]}", &mut Budget::new(100)).is_err());
        let deep = format!("{{\"x\": {}", "[".repeat(100_000));
        assert!(decode(deep.as_bytes(), &mut Budget::new(100)).is_err());
    }
}
