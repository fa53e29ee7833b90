//! Lists of texts: an array in the file, texts with commas between them in the environment.
use std::path::Path;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize, Serializer};

/// Texts in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub Vec<String>);

impl List {
    /// As paths: those that are not absolute lie below `dir`.
    pub(super) fn below(&self, dir: &Path) -> Self {
        Self(self.0.iter().map(|path| dir.join(path).to_string_lossy().into_owned()).collect())
    }
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a list of texts, such as [\"a\", \"b\"]")]
        enum Written {
            Many(Vec<String>),
            One(String),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Many(texts) => texts,
            Written::One(text) => {
                text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
            }
        }))
    }
}
