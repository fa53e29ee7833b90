//! The first example of a page of the documentation: a `curl` that sends something, and what is asked afterwards.
use std::path::Path;
use std::process::Command;

use super::Server;

/// Sends what the page's `curl` sends, runs the lines after it, and returns what these print.
pub fn run_example(server: &Server, page: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let script = text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let (curl, rest) = script.split_once("\nforetell ").unwrap();
    let after = |mark: &str, ends: &[char]| {
        let value = curl.split_once(mark)?.1;
        Some(value.split(ends).next().unwrap())
    };
    let route = after("http://127.0.0.1:8484", &['\'', ' ']).unwrap();
    let body = after("--data-binary '", &['\'']).unwrap();
    let header = after("-H '", &['\'']).and_then(|header| header.split_once(": "));
    let answer = server.post(route, header.as_slice(), body.as_bytes());
    assert!((200..300).contains(&answer.status), "{curl}: {}", answer.text);
    let programs = Path::new(env!("CARGO_BIN_EXE_foretell")).parent().unwrap().display();
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &format!("foretell {rest}")]).env("FORETELL_URL", &server.url);
    shell.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
