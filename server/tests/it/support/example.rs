//! An example of a page of the documentation: a `curl` that sends something, and what is asked afterwards.
use std::path::Path;
use std::process::Command;

use super::Server;

/// The first example of `page`, as [`run_example_of`] does it.
pub fn run_example(server: &Server, page: &str) -> String {
    run_example_of(server, page, 1)
}

/// Sends what the `curl` of the page's example number `number` sends, runs the lines after it, and returns what these print.
pub fn run_example_of(server: &Server, page: &str, number: usize) -> String {
    let script = example(page, number);
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
    run_script(server, &format!("foretell {rest}"), Path::new("."))
}

/// The shell script that is `page`'s example number `number`.
pub fn example(page: &str, number: usize) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    text.split("```sh\n").nth(number).unwrap().split("```").next().unwrap().to_owned()
}

/// Runs `script` in `directory`, with commands of ours that talk to `server`, and returns what it prints.
pub fn run_script(server: &Server, script: &str, directory: &Path) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_foretell")).parent().unwrap().display();
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", script]).current_dir(directory).env("FORETELL_URL", &server.url);
    shell.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
