//! Where an export goes: standard output, or a file that is there when it is complete and not before.
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// An output being written. Dropped before [`Output::finish`], a new file is removed.
pub(super) struct Output {
    writer: Box<dyn Write>,
    part: Option<Part>,
}

/// A file under the name that it has until it is complete.
struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    complete: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.complete {
            let _ = remove(&self.path);
        }
    }
}

impl Output {
    /// `-` is standard output.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub(super) fn create(target: &Path) -> anyhow::Result<Self> {
        if target == Path::new("-") {
            return Ok(Self { writer: Box::new(BufWriter::new(io::stdout())), part: None });
        }
        // A pipe or a device is written to, never replaced.
        if fs::metadata(target).is_ok_and(|found| !found.is_file()) {
            let file = File::options().write(true).open(target).with_context(|| target.display().to_string())?;
            return Ok(Self { writer: Box::new(BufWriter::new(file)), part: None });
        }
        let mut name = target.file_name().context("FILE has no name")?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(name);
        let file = File::options().write(true).create_new(true).open(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        let writer = Box::new(BufWriter::new(file.try_clone()?));
        Ok(Self { writer, part: Some(Part { file, path, target: target.to_owned(), complete: false }) })
    }

    /// Appends.
    ///
    /// # Errors
    /// When the disk is full or the pipe is closed.
    pub(super) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.writer.write_all(bytes).context("cannot write")
    }

    /// Gives the file its name.
    ///
    /// # Durability
    /// A new file is on stable storage when this returns, its name after the next sync of its directory.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.writer.flush().context("cannot write")?;
        let Some(mut part) = self.part.take() else { return Ok(()) };
        part.file.sync_all().context("cannot write")?;
        rename(&part.path, &part.target).with_context(|| format!("cannot name {}", part.target.display()))?;
        part.complete = true;
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the user's, outside of any store")]
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

#[expect(clippy::disallowed_methods, reason = "a file of the user's, outside of any store")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_complete_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out.csv");
        let files = || fs::read_dir(dir.path()).unwrap().count();
        let mut output = Output::create(&target).unwrap();
        output.write(b"half").unwrap();
        assert!(!target.exists() && files() == 1);
        drop(output);
        assert_eq!(files(), 0, "nothing is left of an export that broke off");
        let mut output = Output::create(&target).unwrap();
        output.write(b"whole").unwrap();
        output.finish().unwrap();
        assert_eq!((fs::read_to_string(&target).unwrap().as_str(), files()), ("whole", 1));
        assert!(Output::create(&dir.path().join("no/such/dir")).is_err());
    }
}
