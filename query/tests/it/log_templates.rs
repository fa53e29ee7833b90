//! What `log_template` has learnt is stored.
use crate::continuous_fixture::Lives;
use crate::store::text;

const LISTED: &str = "SELECT id, template, lines FROM sys.log_templates ORDER BY id";

fn listed(lives: &Lives) -> Vec<Vec<String>> {
    lives.query(LISTED).unwrap().iter().flat_map(text).collect()
}

#[test]
fn templates_outlive_a_clean_stop_and_are_learnt_again_after_a_kill() {
    let mut lives = Lives::new();
    let learn = |lives: &Lives, lines: &str| {
        lives.query(&format!("SELECT log_template_id(line) FROM (VALUES {lines}) AS l(line)")).unwrap();
    };
    learn(&lives, "('open tty1'), ('open tty2'), ('shut down')");
    let stopped = listed(&lives);
    assert_eq!(stopped.len(), 2, "{stopped:?}");
    lives.reopen_database(|_| {});
    assert_eq!(listed(&lives), stopped);
    learn(&lives, "('disk sda is full')");
    let all = listed(&lives);
    assert_eq!(all.len(), 3);
    lives.kill();
    assert_eq!(listed(&lives), stopped, "what was stored, and nothing that was not");
    learn(&lives, "('disk sda is full')");
    assert_eq!(listed(&lives), all);
}
