use proptest::prelude::*;

use super::line::{Line, TOKENS_MAX};
use super::*;

/// The text of a line's skeleton, before anything else was seen.
fn masked(line: &str) -> String {
    Miner::default().template(line).1
}

fn check(line: &str, expect: &str) {
    assert_eq!(masked(line), expect, "{line}");
}

fn learnt(lines: &[impl AsRef<str>]) -> Miner {
    let mut miner = Miner::default();
    for line in lines {
        miner.learn(line.as_ref());
    }
    miner
}

fn load(bytes: &[u8]) -> crate::Result<Miner> {
    Miner::load(bytes, MinerOptions::default())
}

/// What each line's template is after everything was learnt.
fn answers(miner: &mut Miner, lines: &[String]) -> Vec<(TemplateId, Option<String>)> {
    lines
        .iter()
        .map(|line| {
            let id = miner.find(line);
            (id, miner.text(id))
        })
        .collect()
}

#[test]
fn values_are_seen_by_their_looks() {
    check("took 17 ms, -3 left, +1.5e3 in, .5 out, 98%", "took <*> ms, <*> left, <*> in, <*> out, <*>%");
    check("estimated size 5.2 KB, free 376.0 B", "estimated size <*>, free <*>");
    check("at 0x1f flags=ffffffff key 9f4ef63", "at <*> flags=<*> key <*>");
    check("id 6c9e8d1a-33a0-4b7a-9c54-0a1b2c3d4e5f gone", "id <*> gone");
    check("from /10.251.30.6:33145 to 10.0.0.1", "from /<*>:<*> to <*>");
    check("mac FF:F2:9F:16:E2:23 and fe80::1 up", "mac <*> and <*> up");
    check("host ns.example.com and srv-7.rack.example.com.cn:80", "host <*> and <*>:<*>");
    check("peer msra-sa-41/10.190.173.170:9000 New: msra-sa-41:9000", "peer <*>/<*>:<*> New: <*>:<*>");
    check("read /var/log/messages and C:\\Windows\\Temp\\x.log", "read <*> and <*>");
    check("Input split: hdfs://10.10.34.11:9000/pjhe/logs/a.log:21876+7292", "Input split: hdfs://<*>");
    check("at Fri Jun 17 07:07:00 2005", "at <*>:<*>:<*>");
    check("since Jul  1 01:02:03 on", "since <*>:<*>:<*> on");
    check("2015-10-18 18:01:47,978 start", "<*> <*>:<*>:<*>,<*> start");
    check("a 1 b=\"\" c", "a <*> b=\"\" c");
}

#[test]
fn names_with_numbers_keep_what_names_them() {
    check("block blk_-6952295868487656571 stored", "block blk_<*> stored");
    check("attempt_1445144423722_0020_m_000000_0: Committed", "attempt_<*>: Committed");
    check("generating core.2275", "generating core.<*>");
    check("bcast broadcast_9_piece0", "bcast broadcast_<*>_piece0");
    check("ssh2 on tty1", "ssh2 on tty1");
    check("enable......0", "enable......<*>");
    check("mapred.task.id of org.example.Main$Inner", "mapred.task.id of org.example.Main$Inner");
}

#[test]
fn words_stay() {
    for line in
        ["restart.", "*** done ***", "Can't open it", "a - b -- c", "getMode()", "I/O error: and/or", "héllo wörld…"]
    {
        check(line, line);
    }
    check("  padded \t", "padded");
    check("\n\nfirst line 1\nsecond line 2", "first line <*>");
    check("", "");
    check(" \n ", "");
}

#[test]
fn quotes_hold_values_unless_they_are_json_or_messages() {
    check("GET it: \"GET /api/v1/servers?x=1 HTTP/1.1\" 200", "GET it: \"GET <*>\" <*>");
    let mut miner = learnt(&["open \"a b\" now", "open \"c\" now"]);
    assert_eq!(miner.template("open \"d e f\" now").1, "open \"<*>\" now");
    let mut miner = learnt(&["{\"msg\":\"started\",\"n\":1}", "{\"msg\":\"stopped\",\"n\":2}"]);
    assert_eq!(miner.template("{\"msg\":\"started\",\"n\":3}").1, "{\"msg\":\"started\",\"n\":<*>}");
    let mut miner = learnt(&["level=info msg=\"disk full\"", "level=info msg=\"disk gone\""]);
    assert_eq!(miner.template("level=info msg=\"disk full\"").1, "level=info msg=\"disk full\"");
}

#[test]
fn a_slot_opens_when_two_lines_differ() {
    let mut miner = Miner::default();
    let first = miner.learn("Resolved tty1 for class org.example.Main");
    assert_eq!(miner.text(first).as_deref(), Some("Resolved tty1 for class org.example.Main"));
    assert_eq!(miner.learn("Resolved tty2 for class org.example.Main"), first);
    assert_eq!(miner.text(first).as_deref(), Some("Resolved tty<*> for class org.example.Main"));
    assert_eq!(miner.learn("Resolved tty2 for class org.example.Other"), first);
    assert_eq!(miner.text(first).as_deref(), Some("Resolved tty<*> for class <*>"));
    assert_eq!(miner.templates(), [Template { id: first, text: "Resolved tty<*> for class <*>".to_owned(), count: 3 }]);
}

#[test]
fn many_words_in_one_place_are_a_value() {
    let line = |word: &str| format!("Failed password for {word} from 10.0.0.1 port 22");
    let mut miner = learnt(&["root", "git", "ftp", "uucp"].map(line));
    assert_eq!(miner.templates().len(), 4);
    let old = miner.find(&line("root"));
    let hole = miner.learn(&line("sshd"));
    assert_eq!(miner.text(hole).as_deref(), Some("Failed password for <*> from <*> port <*>"));
    assert_eq!(miner.resolve(old), hole);
    assert_eq!((miner.find(&line("root")), miner.find(&line("never"))), (hole, hole));
    for i in 0..1000 {
        miner.learn(&line(&"x".repeat(i + 1)));
    }
    assert_eq!(miner.clusters(), 6);
    assert_eq!(miner.templates()[0].count, 1005);
}

#[test]
fn first_words_and_short_lines_are_no_values() {
    let miner =
        learnt(&["cupsd", "klogd", "hcid", "sdpd", "portmap", "ntpd"].map(|name| format!("{name} startup succeeded")));
    assert_eq!(miner.templates().len(), 6);
    let miner = learnt(&["a", "b", "c", "d", "e", "f"].map(|name| format!("state {name}")));
    assert_eq!(miner.templates().len(), 6);
}

#[test]
fn lists_of_any_length_are_one_template() {
    let list = |n: usize| format!("ask to delete{}", " blk_1".repeat(n));
    let mut miner = learnt(&[list(9), list(12), list(100)]);
    assert_eq!(miner.templates().len(), 1);
    assert_eq!(miner.template(&list(50)).1, "ask to delete blk_<*>");
    check("row 1, 2, 3, 4, 5, 6, 7, 8", "row <*>");
    check("tuple 1 2 3 4", "tuple <*> <*> <*> <*>");
}

#[test]
fn blanks_do_not_tell_templates_apart() {
    let wide = learnt(&["rhost=  user=x", "rhost= user=x"]);
    let narrow = learnt(&["rhost= user=x", "rhost=  user=x"]);
    assert_eq!(wide.templates(), narrow.templates());
    assert_eq!(wide.templates()[0].text, "rhost= user=x");
}

#[test]
fn ids_are_the_same_in_every_build() {
    assert_eq!(Miner::default().learn("Invalid user admin from 10.0.0.7").to_string(), "944a80a480997d39");
}

#[test]
fn memory_is_bounded_and_lines_beyond_it_are_answered() {
    let options = MinerOptions { clusters_max: 10, bytes_max: 1 << 20 };
    let mut miner = Miner::new(options);
    let line = |i: usize| format!("{} happened to {} at {i}", "w".repeat(i + 1), "o".repeat(i + 1));
    for i in 0..100 {
        let (id, text) = miner.template(&line(i));
        assert_eq!(text, line(i).replace(&format!(" {i}"), " <*>"));
        assert_eq!(id, Miner::default().learn(&line(i)));
    }
    assert_eq!((miner.clusters(), miner.refused()), (10, 90));
    let mut small = Miner::new(MinerOptions { clusters_max: 1 << 20, bytes_max: 10_000 });
    for i in 0..1000 {
        small.learn(&line(i));
    }
    assert!(small.bytes() <= 10_000 && small.clusters() > 2 && small.refused() > 900, "{}", small.clusters());
}

#[test]
fn long_lines_end_in_a_value() {
    for part in ["a ", "1:", "x..", "a=1,", "é1/", "\"q\" ", "a.b:c ", "(", "u1@"] {
        let mut line = Line::default();
        line.read(&part.repeat(100_000));
        assert!(line.tokens.len() <= TOKENS_MAX, "{part}: {}", line.tokens.len());
        assert!(std::str::from_utf8(&line.text).is_ok_and(|text| text.ends_with("<*>")), "{part}");
    }
}

#[test]
fn malformed_states_are_refused() {
    let whole = learnt(&["a 1 b", "c 2 d"]).save();
    for end in 0..whole.len() {
        assert!(load(&whole[..end]).is_err(), "{end}");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        // What it makes of them does not matter, only that it ends and stays inside its limits.
        if let Ok(miner) = load(&bytes) {
            assert!(miner.bytes() <= miner.save().len() * 64, "{at}");
        }
    }
    let mut other = whole;
    other[0] = 9;
    assert!(load(&other).is_err_and(|e| e.to_string().contains("version 9, this build reads 1")));
}

#[test]
fn states_of_higher_limits_are_refused() {
    let options = MinerOptions { clusters_max: 10, bytes_max: 10_000 };
    let mut miner = Miner::new(options);
    miner.learn("a 1 b");
    let saved = miner.save();
    assert!(Miner::load(&saved, options).is_ok_and(|miner| miner.save() == saved));
    for limits in [MinerOptions { clusters_max: 9, ..options }, MinerOptions { bytes_max: 9_999, ..options }] {
        assert!(Miner::load(&saved, limits).is_err_and(|e| e.to_string().contains("the limits here are")));
    }
}

#[test]
fn a_text_is_shown_without_learning_it() {
    let mut miner = learnt(&["open tty1 now"]);
    let before = miner.save();
    assert_eq!(miner.show("open tty2 now"), "open tty1 now");
    assert_eq!(miner.show("close tty2 now"), "close tty2 now");
    assert_eq!(miner.save(), before);
    let mut full = Miner::new(MinerOptions { clusters_max: 0, ..MinerOptions::default() });
    assert_eq!(
        (full.show("open tty1 at 5"), full.show("open tty2 at 6")),
        ("open tty1 at <*>".into(), "open tty2 at <*>".into())
    );
    assert_eq!(full.refused(), 0);
}

/// Lines as services write them: a few statements, of which one has words for values, with numbers and names.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let line = prop_oneof![
        (0..12u8, 0..300u32).prop_map(|(w, n)| format!("Failed password for {} from 10.0.0.{n} port {n}", word(w))),
        (0..9u8, 0..3u32).prop_map(|(w, n)| format!("session opened for user {} by (uid={n})", word(w))),
        (0..4u8, 0..9u32).prop_map(|(w, n)| format!("disk sd{n} is {} now", word(w))),
        (0..3u32, any::<bool>())
            .prop_map(|(n, wide)| format!("load org.a.B{n}{}in tty{n}", if wide { "  " } else { " " })),
        (1..15usize).prop_map(|n| format!("delete{}", " blk_7".repeat(n))),
    ];
    prop::collection::vec(line, 0..80)
}

fn word(n: u8) -> String {
    char::from(b'g' + n).to_string().repeat(3)
}

proptest! {
    #[test]
    fn any_text_is_a_line(text in "\\PC{0,200}", cut in "[ -~]{0,300}") {
        for text in [text, cut] {
            let mut line = Line::default();
            line.read(&text);
            prop_assert!(std::str::from_utf8(&line.text).is_ok());
            prop_assert!(line.tokens.len() <= TOKENS_MAX);
            prop_assert!(line.tokens.is_sorted_by_key(|token| token.end));
            prop_assert_eq!(line.tokens.last().map_or(0, |token| token.end as usize), line.text.len());
            let mut miner = Miner::default();
            let (id, shown) = miner.template(&text);
            prop_assert_eq!((id, Some(shown)), (miner.find(&text), miner.text(id)));
        }
    }

    #[test]
    fn order_and_splits_make_no_difference(lines in lines(), at in 0..80usize, seed in any::<u64>()) {
        let mut whole = learnt(&lines);
        let expected = answers(&mut whole, &lines);
        let (left, right) = lines.split_at(at.min(lines.len()));
        let (a, b) = (learnt(left), learnt(right));
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.merge(&b);
        ba.merge(&a);
        prop_assert_eq!(&answers(&mut ab, &lines), &expected);
        prop_assert_eq!(&answers(&mut ba, &lines), &expected);
        prop_assert_eq!(ab.templates(), whole.templates());
        prop_assert_eq!(ba.templates(), whole.templates());
        let mut shuffled = lines.clone();
        shuffled.sort_by_key(|line| super::hash::bytes(format!("{seed}{line}").as_bytes()));
        let mut other = learnt(&shuffled);
        prop_assert_eq!(&answers(&mut other, &lines), &expected);
    }

    #[test]
    fn a_saved_state_goes_on_as_if_nothing_had_happened(lines in lines(), at in 0..80usize) {
        let whole = learnt(&lines);
        let (left, right) = lines.split_at(at.min(lines.len()));
        let saved = learnt(left).save();
        let mut miner = load(&saved).unwrap();
        prop_assert_eq!(miner.save(), saved);
        for line in right {
            miner.learn(line);
        }
        prop_assert_eq!(miner.templates(), whole.templates());
        prop_assert_eq!(miner.save(), whole.save());
    }
}
