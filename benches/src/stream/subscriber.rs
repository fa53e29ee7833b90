//! Somebody who follows a table over server-sent events, rests now and then, and goes on from the last cursor after each break.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::objects::FOLLOWED_SELECT;

/// How long nothing is waited for before `stop` is looked at again.
const READ_WITHIN: Duration = Duration::from_millis(200);

/// What the rows told so far come to.
#[derive(Clone, Default)]
pub(super) struct Followed {
    /// The newest value by what else a row has.
    pub(super) rows: BTreeMap<String, String>,
    cursor: Option<String>,
    pub(super) told: u64,
    pub(super) resumed: u64,
    pub(super) begun_anew: u64,
    pub(super) fault: Option<String>,
}

impl Followed {
    /// How many rows there are, or how they differ from `expected`.
    pub(super) fn compare(&self, expected: &BTreeMap<String, String>) -> std::result::Result<u64, String> {
        if self.rows == *expected {
            return Ok(expected.len() as u64);
        }
        let differs = |(key, value): &(&String, &String)| self.rows.get(*key) != Some(*value);
        let missing = expected.iter().find(differs);
        let surplus = self.rows.iter().find(|(key, _)| !expected.contains_key(*key));
        Err(format!(
            "the subscriber has {} rows of {}; not told: {missing:?}; told of something else: {surplus:?}",
            self.rows.len(),
            expected.len()
        ))
    }
}

/// A row of the subscription's SELECT as key and value.
pub(super) fn row(fields: &[Value]) -> Result<(String, String)> {
    let (value, key) = fields.split_last().context("a row without columns")?;
    Ok((Value::from(key.to_vec()).to_string(), value.to_string()))
}

/// See the module.
pub(super) struct Subscriber {
    followed: Mutex<Followed>,
    address: Mutex<Option<SocketAddr>>,
    seed: u64,
}

impl Subscriber {
    pub(super) fn new(seed: u64) -> Self {
        Self { followed: Mutex::default(), address: Mutex::new(None), seed }
    }

    /// Where the server listens now, if it does.
    pub(super) fn server_is_at(&self, address: Option<SocketAddr>) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    pub(super) fn followed(&self) -> Followed {
        self.with(|followed| followed.clone())
    }

    fn with<T>(&self, what: impl FnOnce(&mut Followed) -> T) -> T {
        what(&mut self.followed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows until `stop`.
    pub(super) fn follow(&self, stop: &AtomicBool) {
        let mut rng = SmallRng::seed_from_u64(self.seed ^ 0x5e5e);
        while !stop.load(Ordering::Acquire) {
            let address = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(address) = address
                && let Err(error) = self.connection(address, stop, &mut rng)
            {
                self.with(|followed| followed.fault.get_or_insert_with(|| format!("{error:#}")).len());
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// One connection, to its end. A break is no error.
    fn connection(&self, address: SocketAddr, stop: &AtomicBool, rng: &mut SmallRng) -> Result<()> {
        let cursor = self.with(|followed| followed.cursor.clone());
        let sql = format!("SUBSCRIBE ({FOLLOWED_SELECT}) FROM '{}'", cursor.as_deref().unwrap_or("start"));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, READ_WITHIN) else { return Ok(()) };
        stream.set_read_timeout(Some(READ_WITHIN))?;
        let head = format!(
            "POST /api/v1/sql HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{sql}",
            sql.len()
        );
        if stream.write_all(head.as_bytes()).is_err() {
            return Ok(());
        }
        let mut lines = Lines { reader: BufReader::new(stream), line: Vec::new() };
        let Some(status) = lines.next(stop) else { return Ok(()) };
        let status = status.split(' ').nth(1).unwrap_or_default().to_owned();
        while let Some(line) = lines.next(stop) {
            if line.is_empty() {
                break;
            }
        }
        match status.as_str() {
            "200" => {}
            "503" => return Ok(()),
            _ => return self.refused(&format!("{status} {}", lines.rest()), cursor.is_some()),
        }
        if cursor.is_some() {
            self.with(|followed| followed.resumed += 1);
        }
        let mut event = String::new();
        while let Some(line) = lines.next(stop) {
            if rng.random_bool(0.002) {
                thread::sleep(Duration::from_millis(rng.random_range(0..150)));
            }
            if let Some(name) = line.strip_prefix("event: ") {
                name.clone_into(&mut event);
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            match event.as_str() {
                "row" => self.told(data)?,
                "cursor" => {
                    let told: Value = serde_json::from_str(data)?;
                    let cursor = told["cursor"].as_str().context("no cursor")?.to_owned();
                    self.with(|followed| followed.cursor = Some(cursor));
                }
                _ => return self.refused(data, cursor.is_some()),
            }
        }
        Ok(())
    }

    fn told(&self, data: &str) -> Result<()> {
        let told: Value = serde_json::from_str(data).with_context(|| format!("row {data}"))?;
        let fields = ["at", "job", "instance", "eighths"].map(|name| told[name].clone());
        let (key, value) = row(&fields)?;
        self.with(|followed| {
            followed.told += 1;
            followed.rows.insert(key, value);
        });
        Ok(())
    }

    /// A cursor may be too old after a restart: then everything is read again.
    fn refused(&self, error: &str, had_cursor: bool) -> Result<()> {
        if had_cursor && error.contains("no longer has what follows") {
            self.with(|followed| {
                followed.begun_anew += 1;
                followed.cursor = None;
            });
            return Ok(());
        }
        bail!("the subscriber was refused: {error}");
    }
}

/// Lines of a connection, with the lengths of chunks between them, which are no lines of events.
struct Lines {
    reader: BufReader<TcpStream>,
    line: Vec<u8>,
}

impl Lines {
    /// The next line; `None` at the end of the connection and at `stop`.
    fn next(&mut self, stop: &AtomicBool) -> Option<String> {
        self.line.clear();
        loop {
            match self.reader.read_until(b'\n', &mut self.line) {
                Ok(0) => return None,
                Ok(_) if self.line.ends_with(b"\n") => break,
                Ok(_) => return None,
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if stop.load(Ordering::Acquire) {
                        return None;
                    }
                }
                Err(_) => return None,
            }
        }
        let line = String::from_utf8_lossy(&self.line);
        Some(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// What comes within [`READ_WITHIN`], as it is.
    fn rest(mut self) -> String {
        let _ = self.reader.read_to_end(&mut self.line);
        String::from_utf8_lossy(&self.line).into_owned()
    }
}

/// What the table has, as a subscriber should have it.
pub(super) fn expected(rows: Vec<Vec<Value>>) -> Result<BTreeMap<String, String>> {
    let count = rows.len();
    let expected = rows.iter().map(|fields| row(fields)).collect::<Result<BTreeMap<_, _>>>()?;
    ensure!(expected.len() == count, "the table has a row twice");
    Ok(expected)
}
