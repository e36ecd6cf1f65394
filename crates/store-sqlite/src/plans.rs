//! Checks in tests how SQLite answers each statement: by an index, or by going through a whole table.
//!
//! The suite runs here once more, with every statement explained when it is first prepared. Without statistics (see `open.rs`) a plan depends on
//! the schema alone, so what holds for the small tables of a test holds for large ones.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use runloom_store::testing::{Fixture, TestClock};
use rusqlite::Connection;

use crate::{OpenOptions, SqliteStore};

/// Scans that are right: lists, which read a table or an index in its order and a page at a time; and tables of which a server has a few rows,
/// not a row for each run.
const ALLOWED: &[(&str, &str)] = &[
    ("SCAN threads", "keep_latest, events FROM threads"),
    ("SCAN threads", "SELECT count(*) FROM threads"),
    ("SCAN r", "FROM runs r"),
    ("SCAN runs USING INDEX runs_open", "FROM runs INDEXED BY runs_open"),
    ("SCAN v", "FROM assistants a JOIN assistant_versions v"),
    ("SCAN crons", "FROM crons"),
    ("SCAN deliveries USING INDEX deliveries_next", "FROM deliveries"),
    ("SCAN graphs USING COVERING INDEX", "FROM graphs"),
    // The items of a namespace, gathered by the statement itself.
    ("SCAN spaces", "WITH spaces AS"),
    // A row for each key, listed by an administrator.
    ("SCAN api_keys", "FROM api_keys ORDER BY created"),
    // A row for each server.
    ("SCAN servers", "DELETE FROM servers"),
    // Of the tests of the writer.
    ("SCAN t", "FROM t ORDER BY x"),
    ("SCAN u", "INSERT INTO t"),
];

/// Fails the test whose statement goes through a whole table.
pub(crate) fn check(conn: &Connection, sql: &str) {
    if !["SELECT", "UPDATE", "DELETE", "INSERT", "WITH"].iter().any(|verb| sql.trim_start().starts_with(verb)) {
        return;
    }
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let nulls = vec![rusqlite::types::Null; explain.parameter_count()];
    let steps = explain.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>(3)).unwrap();
    for step in steps.map(Result::unwrap) {
        let is_list = || ALLOWED.iter().any(|(scan, of)| step.starts_with(scan) && sql.contains(of));
        let is_small = step.contains("CONSTANT ROW") || step.contains("SUBQUERY") || step.contains("VIRTUAL TABLE");
        assert!(
            !step.starts_with("SCAN") || is_small || is_list(),
            "a statement goes through a whole table: {step}\n{sql}"
        );
    }
}

fn open() -> Fixture {
    let clock = TestClock::new();
    let keep = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(OpenOptions { clock: clock.clone(), ..OpenOptions::new(keep.path()) }).unwrap();
    Fixture::new(Arc::new(store), clock, Some(Box::new(keep)))
}

runloom_store::testing::suite!(open);
