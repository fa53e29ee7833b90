//! `--print-config`: every value and where it came from, as a file that could be loaded again.
use std::fmt::Write as _;

use figment::value::{Dict, Value};

use super::load::{Loaded, SHARE, env_name};
use super::machine::Machine;
use super::{Config, ConfigError};

impl Loaded {
    /// The configuration as TOML, each value with its origin as a comment.
    ///
    /// # Errors
    /// Never in practice: the values have been loaded before.
    pub fn print(&self) -> Result<String, ConfigError> {
        let error = |error: figment::Error| ConfigError(error.to_string());
        let values = Value::serialize(&self.config).map_err(error)?;
        let Value::Dict(_, values) = values else {
            return Err(ConfigError("configuration is not a table".to_owned()));
        };
        let mut text = String::from("# flag > environment > file > default; each value with its origin\n");
        self.table("", &values, &mut text);
        for (section, value) in &values {
            if let Value::Dict(_, inner) = value {
                let _ = write!(text, "\n[{section}]\n");
                self.table(&format!("{section}."), inner, &mut text);
            }
        }
        Ok(text)
    }

    fn table(&self, prefix: &str, values: &Dict, text: &mut String) {
        for (name, value) in values {
            let key = format!("{prefix}{name}");
            let shown = match value {
                Value::Dict(..) => continue,
                // A JSON string is a TOML basic string too.
                Value::String(_, string) => serde_json::Value::from(string.as_str()).to_string(),
                Value::Empty(..) => {
                    let _ = writeln!(text, "# {name} is not set");
                    continue;
                }
                Value::Num(_, number) => match number.to_u128() {
                    Some(whole) => whole.to_string(),
                    None => number.to_f64().unwrap_or(f64::NAN).to_string(),
                },
                Value::Bool(_, flag) => flag.to_string(),
                // And an array of JSON strings is one of TOML.
                Value::Array(_, items) => {
                    let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                    serde_json::json!(texts).to_string()
                }
                other => format!("{other:?}"),
            };
            let _ = writeln!(text, "{:<40} # {}", format!("{name} = {shown}"), self.origin(&key));
        }
    }

    /// Where the value of `key` came from.
    pub fn origin(&self, key: &str) -> String {
        let Some(metadata) = self.figment.find_metadata(key) else {
            return "default".to_owned();
        };
        match metadata.name.as_ref() {
            "flag" => format!("flag --{}", key.replace(['.', '_'], "-")),
            "env" => format!("environment {}", env_name(key)),
            SHARE => "share of memory".to_owned(),
            _ => match metadata.source.as_ref().and_then(|source| source.file_path()) {
                Some(path) => format!("file {}", path.display()),
                None if key == "memory" => format!("default: half of {}, or the least", Machine::read().source),
                None => "default".to_owned(),
            },
        }
    }
}

impl Config {
    /// Every key, dotted, in order.
    pub fn keys() -> Vec<String> {
        let figment = figment::Figment::from(figment::providers::Serialized::defaults(Self::default()));
        super::load::keys(&figment).unwrap_or_default()
    }
}
