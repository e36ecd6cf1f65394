//! Crons: when they fire, what they make, and that a time makes one run.

use runloom_core::{
    CronPatch, CronRequest, CronRun,
    store::{CronFilter, CronSort, CronUpdate, Direction, Multitask, Run, RunFilter},
};

use super::*;

on_every_store!(
    a_cron_fires_at_each_of_its_times_once,
    a_time_that_passed_while_no_server_ran_is_made_up_for_once,
    a_cron_is_checked_when_it_is_made,
    a_cron_is_changed_and_reckons_anew,
    a_cron_on_a_thread_runs_there,
    a_firing_that_cannot_make_its_run_says_why_and_goes_on,
);

fn every_second(graph: &str) -> CronRequest {
    CronRequest {
        schedule: "* * * * * *".to_owned(),
        metadata: object(value!({"team": "red"})),
        run: request(None, graph, Start::Input(value!({"n": 1}))),
        ..CronRequest::default()
    }
}

async fn runs(core: &Session) -> Vec<Run> {
    core.list_runs(RunFilter::default(), PageRequest::first(100)).await.unwrap().items
}

/// Waits until there are so many runs, and gives them, the newest first.
async fn wait_for_runs(core: &Session, count: usize) -> Vec<Run> {
    let wait = async {
        loop {
            let found = runs(core).await;
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("a cron does not fire")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

async fn a_cron_fires_at_each_of_its_times_once(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
    let made = core.create_cron(every_second("steps")).await.unwrap();
    let found = wait_for_runs(&core, 3).await;
    core.delete_cron(made.id).await.unwrap();
    let times: Vec<u64> = found.iter().rev().map(|run| seconds(run.created_at)).collect();
    assert!(times.windows(2).all(|w| w[1] > w[0]), "a second fired twice: {times:?}");
    assert_eq!(times[0], seconds(made.next_at.unwrap()));
    let first = found.last().unwrap();
    assert!(first.stateless, "unless it is to be kept");
    assert_eq!(RunSpec::of(first).options.metadata.get_str("team"), Some("red"));
    let id = made.id.to_string();
    assert_eq!(RunSpec::of(first).options.configurable.get_str("cron_id"), Some(&*id));
    let end = core.wait_run(first.id).await.unwrap().end;
    assert_eq!(end.values.unwrap().get("n"), Some(&Value::Int(20)));
    let count = runs(&core).await.len();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(runs(&core).await.len(), count, "a deleted cron fires");
}

async fn a_time_that_passed_while_no_server_ran_is_made_up_for_once(store: Arc<dyn Store>) {
    let core = start(store.clone(), all()).await;
    let cron = CronRequest { schedule: "@yearly".into(), keep: true, disabled: true, ..every_second("steps") };
    let made = core.create_cron(cron).await.unwrap();
    core.core().drain().await;
    let past = SystemTime::now() - Duration::from_secs(3 * 366 * 24 * 3600);
    let missed = CronUpdate { enabled: Some(true), next_at: Some(Some(past)), ..CronUpdate::default() };
    store.update_cron(&runloom_store::TenantId::default(), made.id, missed).await.unwrap();

    let core = start(store.clone(), all()).await;
    let found = wait_for_runs(&core, 1).await;
    assert!(!found[0].stateless, "its thread is kept");
    core.wait_run(found[0].id).await.unwrap();
    core.core().drain().await;
    let core = start(store, all()).await;
    let cron = core.get_cron(made.id).await.unwrap();
    assert!(cron.next_at.unwrap() > SystemTime::now());
    assert_eq!((cron.last_run, cron.error), (Some(found[0].id), None));
    assert_eq!(runs(&core).await.len(), 1, "three years were missed, and made up for by one run");
}

async fn a_cron_is_checked_when_it_is_made(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
    let refused = async |change: &dyn Fn(&mut CronRequest)| {
        let mut cron = every_second("steps");
        change(&mut cron);
        core.create_cron(cron).await.unwrap_err()
    };
    let bad = refused(&|c| c.schedule = "every day".into()).await;
    assert_eq!(named(&bad), (Reason::FieldInvalid, vec!["schedule"]));
    let bad = refused(&|c| c.timezone = Some("Mars".into())).await;
    assert_eq!(named(&bad), (Reason::FieldInvalid, vec!["timezone"]));
    let bad = refused(&|c| c.run.spec.options.start = Start::Input(value!({"n": "x"}))).await;
    assert_eq!(bad.reason, Reason::InputInvalid);
    let bad = refused(&|c| c.run.target = Target::Graph("nothing".into())).await;
    assert_eq!(bad.reason, Reason::GraphUnknown);
    let bad = refused(&|c| (c.run.thread_id, c.run.create_thread) = (Some(ThreadId(fresh())), false)).await;
    assert_eq!(bad.reason, Reason::ThreadNotFound);
    let bad = refused(&|c| c.run.request_id = Some("x".into())).await;
    assert_eq!(named(&bad), (Reason::FieldInvalid, vec!["run.request_id"]));
    let bad = refused(&|c| c.run.spec.delivery.webhook = Some("http://example.test".into())).await;
    assert_eq!(bad.reason, Reason::NotSupported);
    assert_eq!(core.count_crons(CronFilter::default()).await.unwrap(), 0);
    let over = CronRequest { end_time: Some(SystemTime::now() - Duration::from_secs(1)), ..every_second("steps") };
    assert_eq!(core.create_cron(over).await.unwrap().next_at, None, "it is over, and never fires");
}

async fn a_cron_is_changed_and_reckons_anew(store: Arc<dyn Store>) {
    let core = start(store.clone(), all()).await;
    let made = core.create_cron(CronRequest { disabled: true, ..every_second("steps") }).await.unwrap();
    let patch = |schedule: &str| CronPatch { schedule: Some(schedule.into()), ..CronPatch::default() };
    let yearly = core.update_cron(made.id, patch("@yearly")).await.unwrap();
    assert!(yearly.next_at > made.next_at);
    let zoned = CronPatch { timezone: Some(Some("Pacific/Kiritimati".into())), ..CronPatch::default() };
    let zoned = core.update_cron(made.id, zoned).await.unwrap();
    assert_eq!(zoned.next_at.unwrap(), yearly.next_at.unwrap() - Duration::from_secs(14 * 3600));
    let ended = CronPatch { end_time: Some(Some(SystemTime::now())), ..CronPatch::default() };
    assert_eq!(core.update_cron(made.id, ended).await.unwrap().next_at, None);
    let open = CronPatch { end_time: Some(None), ..CronPatch::default() };
    assert_eq!(core.update_cron(made.id, open).await.unwrap().next_at, zoned.next_at);

    let bad = core.update_cron(made.id, patch("never")).await.unwrap_err();
    assert_eq!(named(&bad), (Reason::FieldInvalid, vec!["schedule"]));
    let spec = RunSpec::new(Start::Input(value!({"n": "x"})));
    let bad = CronPatch { run: Some(CronRun::new(spec, Multitask::Enqueue)), ..CronPatch::default() };
    assert_eq!(core.update_cron(made.id, bad).await.unwrap_err().reason, Reason::InputInvalid);
    let metadata = CronPatch { metadata: Some(object(value!({"x": 1}))), ..CronPatch::default() };
    let merged = core.update_cron(made.id, metadata.clone()).await.unwrap();
    assert_eq!(Value::from(merged.metadata), value!({"team": "red", "x": 1}));
    let replaced = core.update_cron(made.id, CronPatch { replace_metadata: true, ..metadata }).await.unwrap();
    assert_eq!(Value::from(replaced.metadata), value!({"x": 1}));

    // While it was off its time passed; that is not made up for.
    let past = Some(Some(SystemTime::now() - Duration::from_secs(60)));
    store
        .update_cron(
            &runloom_store::TenantId::default(),
            made.id,
            CronUpdate { next_at: past, ..CronUpdate::default() },
        )
        .await
        .unwrap();
    let on = CronPatch { enabled: Some(true), ..CronPatch::default() };
    assert_eq!(core.update_cron(made.id, on).await.unwrap().next_at, zoned.next_at);
    assert!(runs(&core).await.is_empty());
    // A sooner time wakes the one who waits for a later one.
    let spec = RunSpec::new(Start::Input(value!({"n": 7})));
    let run = Some(CronRun::new(spec, Multitask::Enqueue));
    core.update_cron(made.id, CronPatch { run, ..patch("* * * * * *") }).await.unwrap();
    let run = wait_for_runs(&core, 1).await.pop().unwrap();
    assert_eq!(core.wait_run(run.id).await.unwrap().end.values.unwrap().get("n"), Some(&Value::Int(80)));
    let sort = (CronSort::Created, Direction::Descending);
    let listed =
        core.list_crons(CronFilter { enabled: Some(true), ..Default::default() }, sort, PageRequest::default());
    assert_eq!(listed.await.unwrap().items.len(), 1);
}

async fn a_cron_on_a_thread_runs_there(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
    let id = thread(&core).await;
    let mut cron = every_second("steps");
    cron.run.thread_id = Some(id);
    let made = core.create_cron(cron).await.unwrap();
    let found = wait_for_runs(&core, 2).await;
    assert!(found.iter().all(|run| run.thread == id && !run.stateless));
    assert_eq!(core.get_thread(id).await.unwrap().metadata.get_str("graph_id"), Some("steps"));
    core.delete_thread(id).await.unwrap();
    assert_eq!(core.get_cron(made.id).await.unwrap_err().reason, Reason::CronNotFound);
}

async fn a_firing_that_cannot_make_its_run_says_why_and_goes_on(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
    let new = NewAssistant { graph: "steps".into(), ..NewAssistant::default() };
    let assistant = core.create_assistant(new).await.unwrap();
    let mut cron = every_second("steps");
    cron.run.target = Target::Assistant(assistant.id);
    let made = core.create_cron(cron).await.unwrap();
    core.delete_assistant(assistant.id).await.unwrap();
    let noted = async {
        loop {
            let cron = core.get_cron(made.id).await.unwrap();
            match cron.error {
                Some(why) => return (why, cron.next_at),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let (why, next) = tokio::time::timeout(Duration::from_secs(10), noted).await.expect("it never said why");
    assert!(why.contains("assistant"), "{why}");
    assert!(next > made.next_at);
}
