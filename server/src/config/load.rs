//! Gathering the four sources into one [`Config`], keeping track of which one set each value.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::{ByteSize, Config, ConfigError, budget};

/// Environment variables with this prefix are ours ...
const ENV_PREFIX: &str = "FORETELL_";
/// ... but these are not configuration of the server.
const ENV_OTHER: [&str; 3] = ["FORETELL_CONFIG", "FORETELL_LOG", "FORETELL_URL"];
/// ... and neither is anything that starts so.
const ENV_OTHER_PREFIXES: [&str; 3] = ["FORETELL_TEST_", "FORETELL_BENCH_", "FORETELL_DEMO_"];

/// Name of the source of what the memory budget decides.
pub(super) const SHARE: &str = "memory";

/// Values given as flags, by configuration key.
pub type Flags = BTreeMap<&'static str, String>;

/// A configuration and where its values came from.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    pub(super) figment: Figment,
}

/// Loads `file` if given, the environment `env` and `flags` over the defaults.
///
/// # Errors
/// Unknown keys (with the nearest known one) and values of the wrong form, with their source.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &Flags,
) -> Result<Loaded, ConfigError> {
    let defaults = Figment::from(Serialized::defaults(Config::default()));
    let env = from_env(&keys(&defaults)?, env)?;
    let mut given = Source { name: "flag", values: Dict::new() };
    for (key, value) in flags {
        insert(&mut given.values, key, Value::from(value.as_str()));
    }
    let extract = |defaults: Figment| {
        let mut figment = defaults;
        if let Some(path) = file {
            figment = figment.merge(Toml::file_exact(path));
        }
        figment = figment.merge(env.clone()).merge(given.clone());
        let config: Config = figment.extract().map_err(|error| explain(&error, file))?;
        Ok::<_, ConfigError>(Loaded { config, figment })
    };
    // What is configured decides how much memory there is to divide; the shares are defaults.
    let shares = shares(&extract(defaults.clone())?.config)?;
    let mut loaded = extract(defaults.merge(shares))?;
    if let Some(dir) = file.and_then(Path::parent) {
        loaded.config.rule_files = loaded.config.rule_files.below(dir);
    }
    Ok(loaded)
}

/// The keys that the memory budget decides.
fn shares(config: &Config) -> Result<Source, ConfigError> {
    let request_bytes_max = config.limits.wire_bytes_max.0.saturating_add(config.limits.decoded_bytes_max.0);
    let mut source = Source { name: SHARE, values: Dict::new() };
    for (key, value) in budget::divide(config.memory.0, request_bytes_max)? {
        let Some((section, leaf)) = key.split_once('.') else { continue };
        let value = if leaf.contains("bytes") { Value::from(ByteSize(value).to_string()) } else { Value::from(value) };
        let section = source.values.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
        if let Value::Dict(_, leaves) = section {
            leaves.insert(leaf.to_owned(), value);
        }
    }
    Ok(source)
}

/// All configuration keys, dotted.
pub(super) fn keys(figment: &Figment) -> Result<Vec<String>, ConfigError> {
    fn walk(prefix: &str, dict: &Dict, keys: &mut Vec<String>) {
        for (name, value) in dict {
            match value {
                Value::Dict(_, inner) => walk(&format!("{prefix}{name}."), inner, keys),
                _ => keys.push(format!("{prefix}{name}")),
            }
        }
    }
    let all: Dict = figment.extract().map_err(|error| ConfigError(error.to_string()))?;
    let mut keys = Vec::new();
    walk("", &all, &mut keys);
    Ok(keys)
}

/// The environment variable of a key.
pub(super) fn env_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.replace('.', "_").to_uppercase())
}

/// A provider with a name that [`origin`](super::print) shows.
#[derive(Clone)]
struct Source {
    name: &'static str,
    values: Dict,
}

impl Provider for Source {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }
    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn from_env(known: &[String], env: impl IntoIterator<Item = (String, String)>) -> Result<Source, ConfigError> {
    let by_name: BTreeMap<String, &String> = known.iter().map(|key| (env_name(key), key)).collect();
    let mut values = Dict::new();
    for (name, text) in env {
        if !name.starts_with(ENV_PREFIX)
            || ENV_OTHER.contains(&name.as_str())
            || ENV_OTHER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        {
            continue;
        }
        let Some(key) = by_name.get(&name) else {
            let hint = did_you_mean(&name, by_name.keys().map(String::as_str));
            return Err(ConfigError(format!("unknown environment variable {name}{hint}")));
        };
        // Numbers must arrive as numbers; everything else is text.
        let value = text.parse::<u64>().map_or_else(|_| Value::from(text.as_str()), Value::from);
        let value = if key.contains('.') { value } else { Value::from(text.as_str()) };
        insert(&mut values, key, value);
    }
    Ok(Source { name: "env", values })
}

/// Puts `value` in the place that the dotted `key` names.
fn insert(values: &mut Dict, key: &str, value: Value) {
    let Some((section, leaf)) = key.split_once('.') else {
        values.insert(key.to_owned(), value);
        return;
    };
    let section = values.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, leaves) = section {
        leaves.insert(leaf.to_owned(), value);
    }
}

/// `; did you mean X?` for the nearest candidate, or the list when nothing is near.
pub(crate) fn did_you_mean<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let nearest = candidates.map(|candidate| (strsim::damerau_levenshtein(given, candidate), candidate)).min();
    match nearest {
        Some((distance, candidate)) if distance <= 2 + given.len() / 4 => format!("; did you mean {candidate}?"),
        _ => "; `foretell serve --print-config` lists the known ones".to_owned(),
    }
}

fn explain(error: &figment::Error, file: Option<&Path>) -> ConfigError {
    let source = match error.metadata.as_ref().map(|metadata| metadata.name.as_ref()) {
        Some("flag") => "flag".to_owned(),
        Some("env") => "environment".to_owned(),
        _ => file.map_or_else(|| "configuration".to_owned(), |path| path.display().to_string()),
    };
    let place = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(field, expected) => {
            let section = error
                .path
                .iter()
                .filter(|part| *part != field)
                .fold(String::new(), |all, part| format!("{all}{part}."));
            let hint = did_you_mean(field, expected.iter().copied());
            ConfigError(format!("{source}: unknown key {section}{field}{hint}"))
        }
        kind if place.is_empty() => ConfigError(format!("{source}: {kind}")),
        kind => ConfigError(format!("{source}: {place}: {kind}")),
    }
}

/// The file to read: the flag, else `FORETELL_CONFIG`.
pub(crate) fn file_path(flag: Option<PathBuf>) -> Option<PathBuf> {
    flag.or_else(|| std::env::var_os("FORETELL_CONFIG").map(PathBuf::from))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
