//! `lastpoint`: the newest sample of every series of a large fleet, by one instant query over HTTP.
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use anyhow::{Result, ensure};

use super::{SAMPLES_PER_REQUEST, filled};
use crate::http::{Client, FORM_HEADERS, Sender};
use crate::peer::Binaries;
use crate::process::scratch_dir;
use crate::promql::Question;
use crate::recording::record;
use crate::report::{Goal, Report, median, print};
use crate::run::promql::ask;
use crate::workload::Kind;

const QUERY: &str = r#"{__name__=~"cpu_usage_.+"}"#;
/// From the request until its answer is there whole.
const MS_MAX: f64 = 20.0;

/// Parameters of the third part.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[group(skip)]
pub struct Options {
    /// lastpoint: series
    #[arg(long, default_value_t = 100_000)]
    pub lastpoint_series: usize,
    /// lastpoint: minutes of data
    #[arg(long, default_value_t = 5.0)]
    pub lastpoint_minutes: f64,
    /// lastpoint: warm requests of each kind
    #[arg(long, default_value_t = 20)]
    pub lastpoint_requests: usize,
}

/// Asks again and again, in turn with a cache of answers and without; the answer is read inside the time and not looked into.
pub(super) fn measure(options: &super::Options, binaries: &Binaries, report: &mut Report) -> Result<()> {
    let own = &options.lastpoint;
    let hours = own.lastpoint_minutes / 60.0;
    let fleet = Kind::Tsbs.fleet(own.lastpoint_series, options.seed, crate::run::start_ms(hours)?);
    let (rounds, series) = (fleet.rounds(hours), fleet.series());
    let at = fleet.round_start_ms(rounds) as f64 / 1e3;
    let question = Question { expr: QUERY.to_owned(), at, range: None };
    let dir = scratch_dir("lastpoint")?;
    print(&format!("storing {rounds} scrapes of {series} series"));
    let recordings = record(fleet, rounds, options.senders, SAMPLES_PER_REQUEST, dir.path())?;
    filled::fill(&recordings, binaries, dir.path())?;
    let (server, client) = (filled::open(binaries, dir.path())?, Client::default());
    let first = ask(&client, &server, &question, true)?;
    let found = first.parse()?["data"]["result"].as_array().map_or(0, Vec::len);
    ensure!(found == series, "{series} series sent, {found} answered");
    // A client that reads into memory that it has: its own cost is not the server's.
    let connect = |address| Sender::connect(address, "/api/v1/query", FORM_HEADERS);
    let (_, form) = question.request();
    let (mut sender, mut bare) = (connect(server.address)?, connect(answers_only(&form, first.body.clone())?)?);
    let timed = |sender: &mut Sender, form: &str| {
        let begun = Instant::now();
        let (status, bytes) = sender.post_for_length(form.as_bytes())?;
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        ensure!(status == 200 && bytes == first.body.len(), "status {status}, {bytes} bytes");
        Ok(ms)
    };
    // The second of two equal questions finds the answer as it was written out for the first.
    for _ in 0..2 {
        timed(&mut sender, &form)?;
        timed(&mut bare, &form)?;
    }
    let (mut plain_ms, mut bare_ms, mut fresh_ms) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..own.lastpoint_requests.max(1) {
        plain_ms.push(timed(&mut sender, &form)?);
        bare_ms.push(timed(&mut bare, &form)?);
        fresh_ms.push(timed(&mut sender, &format!("{form}&nocache=1"))?);
    }
    server.stop()?;
    report.figure("lastpoint/series", series as f64, "");
    report.figure("lastpoint/answer_bytes", first.body.len() as f64, "");
    report.figure("lastpoint/first_ms", first.ms, "the first request after a start, nocache=1");
    report.figure("lastpoint/nocache_p50_ms", median(&fresh_ms), "nocache=1");
    let note = "the same bytes out of memory through a socket of their own: what the system itself takes";
    report.figure("lastpoint/bare_socket_p50_ms", median(&bare_ms), note);
    let note = "the newest sample of every series, the answer read whole";
    report.goal("lastpoint/goal: p50 ms", median(&plain_ms), Goal::AtMost(MS_MAX), note);
    Ok(())
}

/// The address of a thread that answers each request that ends with `form` with `body`, and does nothing else. It serves one
/// connection and ends with it.
fn answers_only(form: &str, body: Vec<u8>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, form) = (listener.local_addr()?, form.to_owned());
    std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let (mut request, mut part) = (Vec::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut part)?;
            request.extend_from_slice(&part[..read]);
            if read == 0 {
                return Ok(());
            }
            if request.ends_with(form.as_bytes()) {
                request.clear();
                stream.write_all(head.as_bytes())?;
                stream.write_all(&body)?;
            }
        }
    });
    Ok(address)
}
