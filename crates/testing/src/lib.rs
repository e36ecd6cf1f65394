//! Tests that more than one crate runs.
//!
//! A crate that implements a store runs the part of the suite in which several servers share one, in a file under
//! `tests/`:
//!
//! ```ignore
//! // None skips the test.
//! async fn open() -> Option<runloom_testing::Shared> { ... }
//! runloom_testing::servers!(open);
//! ```
//!
//! An API shows with [`tenants`] that a tenant sees nothing of another one's.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod machine;
pub mod servers;
pub mod tenants;

pub use machine::{Machine, Open, Shared, TTL, World};

/// Makes a test of each function of the suite, on what an async function `open` returns.
#[macro_export]
macro_rules! servers {
    ($open:ident) => {
        $crate::servers! { $open =>
            a_server_that_starts_leaves_the_runs_of_another_alone
            the_runs_of_a_killed_server_go_on_from_their_last_checkpoint
            what_a_server_writes_past_its_lease_is_refused
            a_run_is_cancelled_from_any_server
            a_run_is_read_live_from_any_server
            a_run_is_read_whole_however_often_its_server_changes
            a_graph_registered_on_one_server_runs_on_another
            a_cron_fires_once_and_a_webhook_is_posted_once
            a_full_server_leaves_runs_to_others
            runs_of_a_thread_wait_for_one_another_on_all_servers
            of_two_updates_that_expect_one_checkpoint_one_is_applied
            one_server_sweeps_until_it_goes
        }
    };
    ($open:ident => $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(shared) = Into::<Option<$crate::Shared>>::into($open().await) else { return };
                $crate::servers::$name(&shared).await;
            }
        )*
    };
}
