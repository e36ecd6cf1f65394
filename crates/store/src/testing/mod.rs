//! The suite that every store passes.
//!
//! A crate that implements [`Store`] runs it in a file under `tests/`:
//!
//! ```ignore
//! fn open() -> runloom_store::testing::Fixture { ... }
//! runloom_store::testing::suite!(open);
//! ```
//!
//! A store that is not there on every machine returns an `Option<Fixture>`: without it the tests say that they are skipped.
//! `open` is called within a runtime of several threads.

#![allow(missing_docs, clippy::unwrap_used)]

pub mod assistants;
pub mod attempts;
pub mod checkpoints;
pub mod crons;
pub mod graphs;
pub mod items;
pub mod keys;
pub mod line;
pub mod logs;
pub mod model;
pub mod runs;
pub mod servers;
pub mod tenants;
pub mod threads;
pub mod upkeep;

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{Attempt, Begun, LogRecord, NewRun, NewThread, Run, RunThread, ServerId, Store, TenantId};
pub use line::Line;
use runloom_engine::{
    CheckpointId, Clock, Object, TaskId, ThreadId, Value,
    checkpoint::{Outcome, Saved, TaskRecord, Write, WriteKind},
};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// A store, and the clock it goes by.
pub struct Fixture {
    pub store: Arc<dyn Store>,
    pub clock: Arc<TestClock>,
    #[allow(dead_code)]
    guard: Option<Box<dyn Any + Send + Sync>>,
    server: OnceCell<ServerId>,
}

/// A clock that stands still until it is told to go on, and gives ids in order.
pub struct TestClock {
    nanos: AtomicU64,
    ids: AtomicU64,
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { nanos: AtomicU64::new(1_700_000_000_123_456_789), ids: AtomicU64::new(0) })
    }

    pub fn advance(&self, by: Duration) {
        self.nanos.fetch_add(by.as_nanos() as u64, SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.nanos.load(SeqCst))
    }

    fn uuid(&self) -> Uuid {
        Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 | u128::from(self.ids.fetch_add(1, SeqCst)))
    }
}

/// Makes a test of each function of the suite, on what a function `open` returns.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_suite {
    ($open:ident) => { $crate::__store_suite! { $open =>
        threads {
            a_thread_is_made_read_changed_and_deleted
            an_id_that_is_taken_is_refused_or_kept
            metadata_is_merged_and_null_takes_a_key_away
            lists_are_filtered
            every_order_is_walked_page_by_page_without_gaps_or_repeats
            a_token_of_another_order_or_of_none_is_refused
            deleting_a_thread_takes_all_that_is_its_own
            a_copy_has_every_checkpoint_and_no_run
            threads_that_go_at_a_time_are_found_the_soonest_first
        }
        runs {
            a_run_keeps_all_that_it_was_made_with
            a_run_makes_its_thread_or_asks_for_it
            the_same_request_is_the_same_run
            reject_is_decided_where_the_run_is_made
            cancelling_is_asked_once_and_only_grows
            begun_runs_are_read_from_a_place_on
            pending_runs_come_in_the_order_of_making_when_their_time_has_come
            runs_are_listed_by_filter_and_page
            a_sweep_takes_what_has_expired
            a_run_is_deleted_with_its_log
            the_events_of_a_thread_are_counted_whatever_becomes_of_its_runs
        }
        attempts {
            of_two_that_begin_the_same_attempt_one_does
            a_thread_has_one_running_run
            every_write_of_an_old_attempt_is_refused
            nothing_is_written_after_the_end
            a_run_that_is_given_back_is_held_by_nobody
            an_end_is_kept_whole_or_not_at_all
            states_change_only_as_they_may
        }
        logs {
            records_come_back_in_order_and_within_limits
            records_out_of_order_are_refused_whole
            appends_keep_the_order_of_the_calls
            a_later_attempt_never_gets_a_number_that_was_reserved
            a_log_is_trimmed_and_dropped
        }
        checkpoints {
            a_checkpoint_reads_back_as_it_was
            numbers_and_depth_come_back_as_they_went_in
            the_latest_is_the_greatest_id_of_its_namespace
            a_list_is_filtered_and_limited
            a_fork_reads_along_its_own_line
            a_task_is_recorded_in_place_of_its_last_record
            writes_of_another_thread_are_refused
            by_hand_only_while_nothing_runs
            a_put_that_comes_twice_is_one
            a_parent_that_is_not_there_is_no_trouble
            what_is_not_there_is_none
        }
        upkeep {
            a_rollback_takes_back_checkpoints_and_records
            a_rollback_leaves_what_others_built_on_it
            pruning_keeps_the_newest_and_what_they_hold
            pruning_keeps_forks_whole
            pruning_takes_namespaces_of_tasks_with_their_step
        }
        servers {
            a_run_is_recovered_once_the_lease_of_its_server_is_over
            a_lease_is_renewed_and_released
            a_paused_server_is_fenced
            a_job_is_claimed_by_one_server
            an_update_by_hand_compares_what_it_saw
            hints_reach_the_other_server
            waiting_threads_and_rollbacks_are_found
        }
        tenants {
            what_belongs_to_another_tenant_does_not_exist
            the_same_ids_live_side_by_side
        }
        model {
            checkpoints_are_what_the_model_says
            logs_are_what_the_model_says
        }
        assistants {
            an_assistant_has_versions
            assistants_are_listed
        }
        graphs {
            the_last_registered_revision_is_the_latest
            a_graph_in_use_is_not_deleted
        }
        keys {
            a_key_is_stored_found_and_deleted
        }
        crons {
            a_cron_is_made_read_changed_and_deleted
            crons_are_listed_and_counted
            a_cron_fires_once_for_each_time_that_it_is_due
            a_firing_that_makes_no_run_says_why
            a_delivery_comes_with_the_end_of_its_run
        }
        items {
            items_are_put_found_and_deleted
            a_namespace_is_not_its_neighbour
            namespaces_are_listed_by_their_beginning_and_end
            an_item_goes_when_its_time_is_over
            cached_results_live_until_their_time
            a_store_that_works_says_so
        }
    } };
    ($open:ident => $($module:ident { $($test:ident)* })+) => { $(
        mod $module { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                match Option::<$crate::testing::Fixture>::from(super::$open()) {
                    Some(fixture) => $crate::testing::$module::$test(fixture).await,
                    None => eprintln!("skipped: the store is not there"),
                }
            }
        )* }
    )+ };
}

#[doc(inline)]
pub use crate::__store_suite as suite;

impl Fixture {
    /// A store with the clock it was opened with, and what has to live as long: a temporary folder, for instance.
    pub fn new(store: Arc<dyn Store>, clock: Arc<TestClock>, guard: Option<Box<dyn Any + Send + Sync>>) -> Self {
        Self { store, clock, guard, server: OnceCell::new() }
    }

    /// An empty thread.
    pub async fn thread(&self) -> ThreadId {
        self.store.create_thread(&TenantId::default(), NewThread::default()).await.unwrap().id
    }

    /// A pending run on a thread.
    pub async fn run(&self, thread: ThreadId) -> Run {
        self.store.create_run(&TenantId::default(), new_run(thread)).await.unwrap().run
    }

    /// A running run on a thread.
    pub async fn running(&self, thread: ThreadId) -> Begun {
        let run = self.run(thread).await;
        self.begin(run.current()).await
    }

    pub async fn begin(&self, seen: Attempt) -> Begun {
        self.try_begin(seen, Object::default(), 0).await.unwrap()
    }

    /// Begins an attempt on the fixture's server.
    pub async fn try_begin(&self, seen: Attempt, config: Object, reserve: u64) -> crate::Result<Begun> {
        self.store.begin_attempt(seen, self.server().await, config, reserve).await
    }

    /// A server whose lease lasts as long as any test.
    pub async fn server(&self) -> ServerId {
        let register = async || self.store.register_server(Duration::from_secs(10 * 365 * 86_400)).await.unwrap();
        *self.server.get_or_init(register).await
    }

    pub async fn finish(&self, attempt: Attempt, status: crate::RunStatus) -> Run {
        let end = crate::RunEnd { status, ..Default::default() };
        self.store.finish_run(attempt, end).await.unwrap()
    }

    /// Puts a checkpoint by hand, and answers with its id.
    pub async fn put(&self, line: &Line, run: Option<Attempt>) -> CheckpointId {
        let checkpointer = match run {
            Some(attempt) => self.store.checkpointer(&TenantId::default(), attempt),
            None => self.store.checkpointer_by_hand(&TenantId::default(), None),
        };
        checkpointer.put(line.write(run)).await.unwrap();
        line.id
    }

    /// What a checkpoint reads as.
    pub async fn get(&self, thread: ThreadId, ns: &str, id: CheckpointId) -> Option<Saved> {
        self.store.checkpointer_by_hand(&TenantId::default(), None).get(thread, ns, Some(id)).await.unwrap()
    }
}

pub fn new_run(thread: ThreadId) -> NewRun {
    NewRun {
        id: None,
        thread: RunThread::Existing(thread),
        assistant: None,
        graph: "graph".into(),
        revision: "r1".into(),
        multitask: Default::default(),
        start_at: None,
        request: Value::Null,
        request_key: None,
        stateless: false,
    }
}

pub fn object(value: Value) -> Object {
    value.as_object().unwrap().clone()
}

pub fn record(seq: u64, text: &str) -> LogRecord {
    LogRecord { seq, bytes: text.to_owned().into() }
}

/// The record of a task that has ended.
pub fn done(task: u128, value: impl Into<Value>) -> TaskRecord {
    let write = Write(WriteKind::Channel("x".into(), value.into()));
    TaskRecord {
        task: TaskId(Uuid::from_u128(task)),
        node: "node".into(),
        outcome: Some(Outcome::Done(vec![write])),
        interrupts: vec![],
        answers: vec![],
        answered_by: None,
        tries: 0,
        graphs: 0,
    }
}

/// The record of a task that has asked.
pub fn asked(task: u128, question: &str) -> TaskRecord {
    let interrupt = runloom_engine::stream::Interrupt {
        id: "q".into(),
        value: Value::string(question),
        response_schema: None,
        asked_in: None,
    };
    TaskRecord { outcome: None, interrupts: vec![interrupt], ..done(task, Value::Null) }
}
