//! The arrows between crates are those of docs/ARCHITECTURE.md, and the top level holds what it says.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// crate -> crates of the workspace that it may depend on, tests and build scripts included
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("engine", &[]),
    ("ml", &[]),
    ("query", &["engine", "ml"]),
    ("server", &["engine", "ml", "proto", "query"]),
    ("benches", &["engine", "ml", "proto", "query", "server"]),
];

const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "Makefile",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
    "rust-toolchain.toml",
    "proto",
    "engine",
    "ml",
    "query",
    "server",
    "benches",
    "docs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Violations of `allowed` in `cargo metadata`'s answer, as sentences.
fn violations(metadata: &serde_json::Value, allowed: &[(&str, &[&str])]) -> Vec<String> {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        allowed.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let from = name.strip_prefix("foretell-").unwrap_or(name);
        seen.insert(from);
        let Some(to) = allowed.get(from) else {
            found.push(format!("crate {name} is not in the architecture"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            if let Some(target) = dependency.strip_prefix("foretell-")
                && !to.contains(target)
            {
                found.push(format!("{from} -> {target} is not an arrow of the architecture"));
            }
        }
    }
    found.extend(allowed.keys().filter(|name| !seen.contains(*name)).map(|name| format!("crate {name} is missing")));
    found
}

fn metadata() -> serde_json::Value {
    let answer = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    serde_json::from_slice(&answer.stdout).unwrap()
}

#[test]
fn crates_depend_only_along_the_arrows_of_the_architecture() {
    assert_eq!(violations(&metadata(), ARROWS), Vec::<String>::new());
}

#[test]
fn an_arrow_that_is_not_allowed_is_reported() {
    let mut narrowed = ARROWS.to_vec();
    narrowed.retain(|(from, _)| *from != "query");
    narrowed.push(("query", &["ml"]));
    assert_eq!(violations(&metadata(), &narrowed), ["query -> engine is not an arrow of the architecture"]);
}

#[test]
fn the_top_level_holds_only_what_the_architecture_lists() {
    let strays: Vec<String> = root()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target" && !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    assert_eq!(strays, Vec::<String>::new());
}
