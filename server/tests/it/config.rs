//! Configuration from the outside.
use crate::support::binary;

fn serve(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = binary().arg("serve").args(args).envs(env.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn print_config_shows_each_value_and_its_origin() {
    let (code, out, err) = serve(
        &["--data-dir", "/tmp/x", "--print-config"],
        &[("FORETELL_QUERY_CONCURRENCY", "3"), ("FORETELL_LISTEN_HTTP", "127.0.0.1:0")],
    );
    assert_eq!(code, Some(0), "{err}");
    let line = |key: &str| out.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key} in {out}"));
    assert!(line("data_dir").contains("\"/tmp/x\"") && line("data_dir").ends_with("# flag --data-dir"));
    assert!(line("concurrency = 3").ends_with("# environment FORETELL_QUERY_CONCURRENCY"));
    assert!(line("listen_http").ends_with("# environment FORETELL_LISTEN_HTTP"));
    assert!(line("memory").contains("# default: half of "), "{}", line("memory"));
    assert!(line("wire_bytes_max = \"8MiB\"").ends_with("# default"));
}

#[test]
fn the_memory_is_divided_and_each_share_can_be_set() {
    let print = |args: &[&str], env: &[(&str, &str)]| {
        let (code, out, err) = serve(&[args, &["--print-config"]].concat(), env);
        assert_eq!(code, Some(0), "{err}");
        move |key: &str| {
            let line = out.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key} in {out}"));
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        }
    };
    let line = print(&["--memory", "1GiB"], &[]);
    assert_eq!(line("memory ="), "memory = \"1GiB\" # flag --memory");
    for key in ["index_bytes_max", "feed_bytes_max", "in_flight_bytes_max", "memory_bytes_max", "connections_max"] {
        assert!(line(key).ends_with("# share of memory"), "{}", line(key));
    }
    let small = print(&[], &[("FORETELL_MEMORY", "512MiB"), ("FORETELL_STORAGE_FEED_BYTES_MAX", "1MiB")]);
    assert_eq!(small("memory ="), "memory = \"512MiB\" # environment FORETELL_MEMORY");
    assert_eq!(small("feed_bytes_max"), "feed_bytes_max = \"1MiB\" # environment FORETELL_STORAGE_FEED_BYTES_MAX");
    assert_ne!(small("index_bytes_max"), line("index_bytes_max"));
}

#[test]
fn the_shares_in_the_documentation_are_those_in_force() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/limits.md")).unwrap();
    let table: Vec<Vec<&str>> = docs
        .lines()
        .skip_while(|line| !line.starts_with("| share |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    assert!(table.len() > 8, "{table:?}");
    for (column, memory) in [(2, "512MiB"), (3, "4GiB")] {
        let (code, out, err) = serve(&["--memory", memory, "--print-config"], &[]);
        assert_eq!(code, Some(0), "{err}");
        for row in &table {
            let key = row[1].trim_matches('`').rsplit('.').next().unwrap();
            let line = out.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
            let value = line.split([' ', '"']).find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap();
            assert_eq!(row[column].replace([' ', ','], ""), value, "{} of {memory}", row[1]);
        }
    }
}

#[test]
fn what_cannot_be_is_refused_with_advice() {
    for (args, env, expected) in [
        (&["--print-config"][..], &[("FORETELL_LISTEN_HTPP", "x")][..], "did you mean FORETELL_LISTEN_HTTP?"),
        (&["--data-dir", "/tmp/x", "--listen-http", "0.0.0.0:8484"], &[], "authentication is not built yet"),
        (&["--data-dir", "/tmp/x", "--listen-grpc", "0.0.0.0:4317"], &[], "authentication is not built yet"),
        (&["--data-dir", "/tmp/x", "--listen-pg", "127.0.0.1:5434"], &[], "not built yet"),
        (&["--data-dir", "/tmp/x", "--listen-otlp-http", "here"], &[], "127.0.0.1:4318"),
        (&["--listen-http", "127.0.0.1:0"], &[], "--data-dir"),
        (&["--config", "/does/not/exist.toml"], &[], "/does/not/exist.toml"),
        (&["--data-dir", "/tmp/x"], &[("FORETELL_QUERY_TIMEOUT", "later")], "30s"),
        (&["--data-dir", "/tmp/x", "--memory", "100MiB"], &[], "too little to work with: give at least"),
        (
            &["--data-dir", "/tmp/x", "--memory", "1GiB"],
            &[("FORETELL_QUERY_MEMORY_BYTES_MAX", "1GiB")],
            "more than memory = 1GiB; lower them (the largest is query.memory_bytes_max) or raise memory",
        ),
    ] {
        let (code, _, err) = serve(args, env);
        assert_eq!(code, Some(1), "{args:?}: {err}");
        assert!(err.contains(expected), "{args:?}: {err}");
    }
}

#[test]
fn a_data_directory_belongs_to_one_process() {
    let server = crate::support::Server::start();
    let dir = server.dir.path().join("data");
    let (code, _, err) = serve(
        &[
            "--listen-http",
            "none",
            "--listen-otlp-http",
            "none",
            "--listen-grpc",
            "none",
            "--data-dir",
            dir.to_str().unwrap(),
        ],
        &[],
    );
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("cannot open the store"), "{err}");
}

#[test]
fn a_port_that_is_taken_ends_the_start_and_is_named_with_its_option() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::TempDir::new().unwrap();
    let data = dir.path().join("data");
    for option in ["--listen-http", "--listen-otlp-http", "--listen-grpc"] {
        let mut args = vec!["--data-dir", data.to_str().unwrap()];
        for other in ["--listen-http", "--listen-otlp-http", "--listen-grpc"] {
            args.extend([other, if other == option { address.as_str() } else { "127.0.0.1:0" }]);
        }
        let (code, out, err) = serve(&args, &[]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "nothing is said to listen: {err}");
        assert!(err.contains(&address) && err.contains(&format!("give {option} another address")), "{err}");
        assert!(!data.exists(), "nothing is opened");
    }
}
