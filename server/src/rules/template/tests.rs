#![allow(clippy::unwrap_used)]
use super::*;

/// The text of `source` for an alert of job "api" with `value`.
fn expand_with(source: &str, value: f64) -> String {
    let labels: Labels = [("job", "api"), ("instance", "host.example:9100")].map(|(k, v)| (k.into(), v.into())).into();
    let external_labels: Labels = [("cluster".into(), "eu".into())].into();
    let sample = |instance: &str, value| Sample { labels: [("instance".into(), instance.into())].into(), value };
    let answers: Answers = [
        ("up".to_owned(), Ok([sample("b", 2.0), sample("a", 1.5)].into())),
        ("none".to_owned(), Ok([].into())),
        ("bad".to_owned(), Err("it is bad".to_owned())),
    ]
    .into();
    let data = Data {
        name: "X",
        labels: &labels,
        external_labels: &external_labels,
        external_url: "http://foretell:8484/prefix",
        value,
        now_ms: 1_435_724_802_051,
        queries_max: 100,
        answers: &answers,
    };
    match Template::parse(source).unwrap_or_else(|error| panic!("{source}: {error}")).expand(&data) {
        Ok(text) | Err(Fault::Failed(text)) => text,
        Err(Fault::Needs(query)) => format!("needs {query}"),
    }
}

/// What templates that only ask queries look at.
fn bare<'a>(none: &'a Labels, answers: &'a Answers) -> Data<'a> {
    Data {
        name: "X",
        labels: none,
        external_labels: none,
        external_url: "",
        value: 0.0,
        now_ms: 0,
        queries_max: 100,
        answers,
    }
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (source, expected) in cases {
        assert_eq!(expand_with(source, 0.5), *expected, "{source}");
    }
}

#[test]
fn labels_values_and_variables() {
    check(&[
        ("plain", "plain"),
        ("{{ $labels.job }} is {{ $value }}", "api is 0.5"),
        ("{{ .Labels.job }} {{ .Value }} {{ .ExternalLabels.cluster }}", "api 0.5 eu"),
        (
            "{{ $externalLabels.cluster }} {{ $externalURL }}{{ externalURL }}",
            "eu http://foretell:8484/prefixhttp://foretell:8484/prefix",
        ),
        ("[{{ $labels.absent }}]", "[]"),
        ("{{ index $labels \"job\" }}", "api"),
        ("{{ $x := $labels.job }}{{ $x }}{{ $x = \"b\" }}{{ $x }}", "apib"),
        ("a {{- \" b \" -}} c", "a b c"),
        ("{{/* nothing */}}x", "x"),
        ("{{ $labels }}", "map[instance:host.example:9100 job:api]"),
        ("{{ (index $labels \"job\") | toUpper }}", "API"),
        ("{{ $.Value }}", "0.5"),
    ]);
    assert_eq!(expand_with("{{ $value }}", 1_234_567.0), "1.234567e+06");
}

#[test]
fn conditions_and_loops() {
    check(&[
        ("{{ if gt $value 0.1 }}high{{ else }}low{{ end }}", "high"),
        ("{{ if eq $labels.job \"web\" \"api\" }}a{{ end }}", "a"),
        ("{{ if eq $labels.job \"web\" }}w{{ else if eq $labels.job \"api\" }}a{{ else }}n{{ end }}", "a"),
        ("{{ if and $labels.job (not $labels.absent) }}y{{ end }}", "y"),
        ("{{ or $labels.absent \"none\" }}", "none"),
        ("{{ with $labels.absent }}x{{ else }}without{{ end }}", "without"),
        ("{{ with $labels.job }}{{ . }}{{ end }}", "api"),
        ("{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}", "instance=host.example:9100;job=api;"),
        ("{{ range query \"up\" }}{{ .Labels.instance }}:{{ .Value }} {{ end }}", "b:2 a:1.5 "),
        ("{{ range query \"none\" }}x{{ else }}nothing{{ end }}", "nothing"),
        ("{{ range $i, $s := query \"up\" }}{{ if eq $i 1 }}{{ break }}{{ end }}{{ $i }}{{ end }}", "0"),
        ("{{ range query \"up\" | sortByLabel \"instance\" }}{{ . | label \"instance\" }}{{ end }}", "ab"),
        ("{{ query \"up\" | first | value }}", "2"),
        ("{{ query \"other\" }}", "needs other"),
        ("{{ len (query \"up\") }}", "2"),
    ]);
}

#[test]
fn functions_of_prometheus() {
    for (function, cases) in [
        ("humanize", &[(0.0, "0"), (1.0, "1"), (1_234_567.0, "1.235M"), (0.1235, "123.5m"), (1e-30, "1e-06y")][..]),
        ("humanize1024", &[(0.0, "0"), (1.0, "1"), (1_048_576.0, "1Mi"), (1536.0, "1.5ki")]),
        (
            "humanizeDuration",
            &[
                (0.0, "0s"),
                (1.0, "1s"),
                (60.0, "1m 0s"),
                (3600.0, "1h 0m 0s"),
                (86_400.0, "1d 0h 0m 0s"),
                (-3661.0, "-1h 1m 1s"),
                (0.1, "100ms"),
                (0.000_1, "100us"),
                (899.99, "14m 59s"),
                (12.345_67, "12.35s"),
            ],
        ),
        ("humanizePercentage", &[(-0.22222, "-22.22%"), (0.0, "0%"), (0.123_456_7, "12.35%"), (1.0, "100%")]),
        (
            "humanizeTimestamp",
            &[(0.0, "1970-01-01 00:00:00 +0000 UTC"), (1_435_065_584.128, "2015-06-23 13:19:44.128 +0000 UTC")],
        ),
    ] {
        for (value, text) in cases {
            assert_eq!(expand_with(&format!("{{{{ $value | {function} }}}}"), *value), *text, "{function} {value}");
        }
    }
    assert_eq!(expand_with("{{ humanize $value }}", f64::INFINITY), "+Inf");
    check(&[
        ("{{ \"a b-c_d\" | title }}", "A B-C_d"),
        ("{{ $labels.job | toUpper }}{{ \"A\" | toLower }}", "APIa"),
        ("{{ match \"^a\" $labels.job }} {{ match \"b\" $labels.job }}", "true false"),
        ("{{ reReplaceAll \"(.*):\\\\d+\" \"$1\" $labels.instance }}", "host.example"),
        ("{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }}", "host.example host:9100"),
        ("{{ printf \"%.2f\" $value }} {{ $value | printf \"%.1e\" }}", "0.50 5.0e-01"),
        ("{{ printf \"%s=%v\" $labels.job 3 }}", "api=3"),
        ("{{ print 1 2 \"a\" 3 }}", "1 2a3"),
        ("{{ \"3600\" | humanizeDuration }}", "1h 0m 0s"),
        ("{{ parseDuration \"1h30m\" }} {{ now }} {{ pathPrefix }}", "5400 1.435724802051e+09 /prefix"),
        ("{{ tableLink \"up == 0\" }}", "/graph?g0.expr=up+%3D%3D+0&g0.tab=1"),
        ("{{ html \"<a>\" }} {{ urlquery \"a&b\" }}", "&lt;a&gt; a%26b"),
    ]);
}

#[test]
fn what_cannot_be_computed_is_said_in_the_text() {
    let starts = |source: &str, start: &str, part: &str| {
        let text = expand_with(source, 0.5);
        assert!(text.starts_with(start) && text.ends_with('>') && text.contains(part), "{source}: {text}");
    };
    assert_eq!(
        expand_with("{{ nosuch $value }}", 0.5),
        "<error expanding template: error parsing template __alert_X: template: __alert_X:1: function \"nosuch\" not defined>"
    );
    let executing = "<error expanding template: error executing template __alert_X: ";
    starts("{{ if gt $value 5 }}x{{ end }}", executing, "incompatible types for comparison");
    starts("{{ $labels | humanize }}", executing, "can't convert map[string]string to float");
    starts("{{ \"abc\" | humanize }}", executing, "strconv.ParseFloat: parsing \"abc\"");
    starts("{{ .Nothing }}", executing, "can't evaluate field Nothing");
    starts("{{ query \"none\" | first }}", executing, "first() called on vector with no elements");
    starts("{{ query \"bad\" | first }}", executing, "error calling query: it is bad");
    starts("{{ match \"(\" \"a\" }}", executing, "error calling match");
    starts("{{ toUpper 1 }}", executing, "expected string; got int");
    starts("{{ \"a\" \"b\" }}", executing, "can't give argument to non-function");
}

#[test]
fn what_is_no_template_is_refused() {
    for (source, part) in [
        ("{{ $value ", "unclosed action"),
        ("{{ if $value }}x", "unexpected EOF"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ $nosuch }}", "undefined variable \"$nosuch\""),
        ("{{ }}", "missing value"),
        ("{{ ( $value }}", "unclosed left paren"),
        ("{{ $value ) }}", "unexpected right paren"),
        ("{{ template \"x\" }}", "not supported"),
        ("{{ break }}", "outside"),
        ("{{ if true }}{{ else }}{{ else }}{{ end }}", "expected end"),
    ] {
        let error = Template::parse(source).unwrap_err();
        assert!(error.contains(part), "{source}: {error}");
    }
}

#[test]
fn hostile_templates_are_bounded() {
    let nested = format!("{}x{}", "{{ if true }}".repeat(40), "{{ end }}".repeat(40));
    assert!(Template::parse(&nested).unwrap_err().contains("nested deeper"));
    assert!(Template::parse(&format!("{{{{ {}1{} }}}}", "(".repeat(40), ")".repeat(40))).is_err());
    assert!(Template::parse(&"x".repeat(70_000)).is_err());
    let wide = "{{ printf \"%1000d\" 1 }}".repeat(100);
    assert!(expand_with(&wide, 0.0).contains("longer than"));
    let regex = "{{ match \"(((a{100}){100}){100})\" \"a\" }}";
    assert!(expand_with(regex, 0.0).contains("error calling match"));
}

/// A template that asks for ever new queries would otherwise be expanded anew, and its queries kept, for each of them.
#[test]
fn beyond_the_most_queries_no_answer_is_waited_for() {
    let mut answers = Answers::new();
    let none = Labels::new();
    let template = Template::parse("{{ query \"one more\" }}").unwrap();
    for i in 0..=3 {
        match template.expand(&Data { queries_max: 3, ..bare(&none, &answers) }) {
            Err(Fault::Needs(query)) => assert!(i < 3 && query == "one more", "{i}: {query}"),
            Err(Fault::Failed(text)) => {
                assert!(i == 3 && text.contains("more than 3 queries (rules.queries_max)"), "{i}: {text}")
            }
            Ok(text) => panic!("{i}: {text}"),
        }
        answers.insert(format!("q{i}"), Ok([].into()));
    }
}

/// A text that doubles with each turn of a loop would take all memory.
#[test]
fn texts_on_the_way_are_bounded_like_the_whole() {
    let double = "{{ $x = print $x $x }}".repeat(40);
    let long = "{{ $x = print $x $x }}".repeat(12);
    for source in [
        format!("{{{{ $x := \"0123456789\" }}}}{double}{{{{ len $x }}}}"),
        format!("{{{{ $x := \"0123456789\" }}}}{long}{{{{ len (reReplaceAll \"\" $x $x) }}}}"),
    ] {
        let text = expand_with(&source, 0.5);
        assert!(text.contains("the text is longer than 65536 bytes"), "{text}");
    }
    check(&[("{{ reReplaceAll \"(a)(i)?\" \"<$1$2>\" \"xapiay\" }}", "x<a>pi<a>y")]);
}

#[test]
fn going_through_large_answers_counts_as_steps() {
    let one = Sample { labels: Labels::new(), value: 1.0 };
    let answers: Answers = [("up".to_owned(), Ok(vec![one; 100_000].into()))].into();
    let none = Labels::new();
    let data = bare(&none, &answers);
    let text = |source: &str| match Template::parse(source).unwrap().expand(&data) {
        Ok(text) | Err(Fault::Failed(text)) => text,
        Err(Fault::Needs(query)) => panic!("{query}"),
    };
    assert_eq!(text("{{ query \"up\" | first | value }}"), "1");
    let sorts = "{{ $x = sortByLabel \"a\" $x }}".repeat(1000);
    let sorted = text(&format!("{{{{ $x := query \"up\" }}}}{sorts}"));
    assert!(sorted.contains("more than 100000 steps"), "{sorted}");
}
