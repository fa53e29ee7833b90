//! Files that patterns name: `rules/*.yml`, `/etc/foretell/rules/team-?/[a-m]*.yaml`.
use std::path::{Component, Path, PathBuf};

use regex::Regex;

/// Most files that all patterns may name, and most entries of directories that are looked at for them.
const FILES_MAX: usize = 1000;
const ENTRIES_MAX: usize = 100_000;

/// The files that `patterns` name, each once, in the order of the patterns and sorted within one.
///
/// # Errors
/// A path without a wildcard that does not exist, a directory that cannot be read, too many files or entries.
pub(crate) fn files(patterns: &[String]) -> Result<Vec<PathBuf>, String> {
    find(patterns, ENTRIES_MAX)
}

fn find(patterns: &[String], entries_max: usize) -> Result<Vec<PathBuf>, String> {
    let (mut files, mut left): (Vec<PathBuf>, _) = (Vec::new(), entries_max);
    for pattern in patterns {
        for file in matching(pattern, &mut left)? {
            if !files.contains(&file) {
                files.push(file);
            }
            if files.len() > FILES_MAX {
                return Err(format!("rule_files name more than {FILES_MAX} files: name fewer"));
            }
        }
    }
    Ok(files)
}

/// The files that `pattern` names; `left` entries of directories may still be looked at.
fn matching(pattern: &str, left: &mut usize) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::new()];
    for part in Path::new(pattern).components() {
        match part {
            Component::Normal(name) if is_pattern(&name.to_string_lossy()) => {
                let name =
                    compile(&name.to_string_lossy()).ok_or_else(|| format!("rule_files: {pattern:?} is no pattern"))?;
                let mut next = Vec::new();
                for dir in &found {
                    next.extend(entries(dir, &name, left)?);
                }
                found = next;
            }
            part => found.iter_mut().for_each(|path| path.push(part)),
        }
    }
    if is_pattern(pattern) {
        found.retain(|path| path.is_file());
    } else if let Some(missing) = found.iter().find(|path| !path.is_file()) {
        return Err(format!(
            "{}: there is no such rule file: create it or take it out of rule_files",
            missing.display()
        ));
    }
    Ok(found)
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Sorted entries of `dir` whose name matches.
fn entries(dir: &Path, name: &Regex, left: &mut usize) -> Result<Vec<PathBuf>, String> {
    let listed = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let entries = match std::fs::read_dir(listed) {
        Ok(entries) => entries,
        // What is no directory has no entries, as for a shell.
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(listed, &error)),
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in entries {
        *left = left.checked_sub(1).ok_or_else(|| {
            format!(
                "{}: too many entries of directories to look for rule files among: keep rule files in directories of their \
                 own, and name these without wildcards",
                listed.display()
            )
        })?;
        let entry = entry.map_err(|error| unreadable(listed, &error))?.file_name();
        if entry.to_str().is_some_and(|entry| name.is_match(entry)) {
            found.push(dir.join(entry));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn unreadable(dir: &Path, error: &std::io::Error) -> String {
    format!("{}: cannot look for rule files: {error}", dir.display())
}

/// A pattern of one name as a regular expression.
fn compile(pattern: &str) -> Option<Regex> {
    let mut regex = String::from("^");
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => {
                regex.push('[');
                for c in rest.by_ref() {
                    match c {
                        ']' => break,
                        '\\' | '[' | '&' | '~' => regex.extend(['\\', c]),
                        c => regex.push(c),
                    }
                }
                regex.push(']');
            }
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    regex.push('$');
    Regex::new(&regex).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files_in_order_and_once() {
        let dir = tempfile::TempDir::new().unwrap();
        for name in ["a.yml", "b.yml", "c.txt", "sub/d.yml", "sub/e.yml"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let names = |patterns: &[&str]| -> Vec<String> {
            let patterns: Vec<String> = patterns.iter().map(|p| format!("{}/{p}", dir.path().display())).collect();
            let relative = |path: PathBuf| path.strip_prefix(dir.path()).unwrap().display().to_string();
            files(&patterns).unwrap().into_iter().map(relative).collect()
        };
        assert_eq!(names(&["*.yml"]), ["a.yml", "b.yml"]);
        assert_eq!(names(&["b.yml", "[ab].yml"]), ["b.yml", "a.yml"]);
        assert_eq!(names(&["s*/?.yml"]), ["sub/d.yml", "sub/e.yml"]);
        assert_eq!(names(&["nothing-*/*.yml", "*/*"]), ["sub/d.yml", "sub/e.yml"]);
        let missing = files(&[format!("{}/z.yml", dir.path().display())]).unwrap_err();
        assert!(missing.contains("z.yml: there is no such rule file"), "{missing}");
        // Four entries beside the one file that is named, and two in another directory.
        let patterns = ["a*.yml", "sub/*.yml"].map(|p| format!("{}/{p}", dir.path().display()));
        assert_eq!(find(&patterns, 6).unwrap().len(), 3);
        let many = find(&patterns, 5).unwrap_err();
        assert!(many.contains("sub: too many entries"), "{many}");
    }
}
