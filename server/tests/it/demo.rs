//! `foretell demo` from the outside.
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Far longer than a demo of one second takes on a busy machine.
const DEMO_WITHIN: Duration = Duration::from_secs(180);

/// Runs the demo to its end, with a temporary directory that it alone uses.
fn demo(arguments: &[&str]) -> (Output, Vec<String>) {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_foretell"))
        .args(["demo", "--for", "1s", "--listen-http", "127.0.0.1:0"])
        .args(arguments)
        .env("TMPDIR", temporary.path())
        // A user's own settings must not reach the demo's server.
        .env("FORETELL_LISTEN_HTTP", "none")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + DEMO_WITHIN;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the demo did not end by itself: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let left = std::fs::read_dir(temporary.path()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    (child.wait_with_output().unwrap(), left)
}

#[test]
fn the_demo_finds_its_fault_ends_by_itself_and_leaves_nothing() {
    let (output, left) = demo(&[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("898560 samples"), "{said}");
    assert!(said.contains("CREATE CONTINUOUS QUERY") && !said.contains("not possible"), "{said}");
    // The first row of the answer is the injected fault's series.
    let row = said.lines().skip_while(|line| !line.starts_with('╞')).nth(1).unwrap();
    assert!(row.contains("cpu_usage_ratio") && row.contains(" cart "), "{said}");
    assert!(said.contains("that is it"), "{said}");
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_directory_given_to_the_demo_must_be_empty_and_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("shop");
    let data_dir = data.to_str().unwrap();
    let (output, _) = demo(&["--data-dir", data_dir, "--seed", "2"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(data.is_dir());

    let (output, _) = demo(&["--data-dir", data_dir]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not empty"));
}
