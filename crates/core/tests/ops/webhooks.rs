//! Webhooks: what is posted when, and that nothing is lost or sent twice.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use runloom_core::{
    Posted, Webhooks,
    store::{CancelAction, Delivery, Run, RunStatus},
};
use tokio::sync::mpsc;

use super::*;

on_every_store!(
    a_webhook_is_called_when_its_run_has_ended,
    a_webhook_that_fails_is_called_again_and_given_up,
    a_webhook_is_called_after_a_restart,
    runs_with_a_webhook_are_refused_where_nobody_calls_it,
);

/// Who posts nothing, and tells what it was to post.
struct Told {
    posts: mpsc::UnboundedSender<Delivery>,
    failures: AtomicUsize,
}

#[async_trait::async_trait]
impl Webhooks for Told {
    fn check(&self, url: &str) -> Result<(), String> {
        if url.starts_with("http") { Ok(()) } else { Err("it is no address".into()) }
    }

    fn body(&self, run: &Run, values: Option<&Value>, error: Option<&Error>) -> String {
        format!("{:?} {} {}", run.status, values.cloned().unwrap_or_default(), error.is_some())
    }

    async fn post(&self, delivery: &Delivery) -> Posted {
        self.posts.send(delivery.clone()).unwrap();
        match self.failures.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)) {
            Ok(_) => Posted::Failed("500".into()),
            Err(_) if delivery.url.contains("refused") => Posted::Refused("private".into()),
            Err(_) => Posted::Taken,
        }
    }
}

async fn server(store: Arc<dyn Store>, failures: usize) -> (Session, mpsc::UnboundedReceiver<Delivery>) {
    let (posts, told) = mpsc::unbounded_channel();
    let webhooks: Arc<dyn Webhooks> = Arc::new(Told { posts, failures: failures.into() });
    let options = CoreOptions {
        documents: all(),
        webhooks: Some(webhooks),
        webhook_retry_window: Duration::from_secs(2),
        ..CoreOptions::new(store)
    };
    (Core::start(options).await.unwrap().session(Caller::default()), told)
}

fn with_webhook(graph: &str, url: &str) -> RunRequest {
    let mut request = request(None, graph, Start::Input(value!({"n": 1})));
    request.spec.delivery.webhook = Some(url.to_owned());
    request
}

async fn next(told: &mut mpsc::UnboundedReceiver<Delivery>) -> Delivery {
    tokio::time::timeout(Duration::from_secs(10), told.recv()).await.expect("nothing was posted").unwrap()
}

/// Waits until nothing waits to be posted.
async fn empty(store: &Arc<dyn Store>) {
    while !store.waiting_deliveries(9).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_webhook_is_called_when_its_run_has_ended(store: Arc<dyn Store>) {
    let (core, mut told) = server(store.clone(), 0).await;
    let error = core.create_run(with_webhook("steps", "ftp://x")).await.unwrap_err();
    assert_eq!(named(&error), (Reason::FieldInvalid, vec!["webhook.url"]));

    let made = core.create_run(with_webhook("steps", "http://a")).await.unwrap().0;
    let posted = next(&mut told).await;
    assert_eq!((posted.run, &*posted.url, posted.attempts), (made.id, "http://a", 0));
    assert_eq!(posted.body, r#"Succeeded {"n":20,"log":["one","two"]} false"#);
    assert_eq!(core.get_run(made.id).await.unwrap().status, RunStatus::Succeeded);

    // One that waits for its time and is cancelled, and one that cannot be called.
    let later = Some(SystemTime::now() + Duration::from_secs(3600));
    let waits = RunRequest { start_time: later, ..with_webhook("steps", "http://b") };
    let waits = core.create_run(waits).await.unwrap().0;
    core.cancel_run(waits.id, CancelAction::Interrupt, "a test".into(), true).await.unwrap();
    assert_eq!(next(&mut told).await.body, "Cancelled null true");
    core.create_run(with_webhook("steps", "http://refused")).await.unwrap();
    next(&mut told).await;
    run(&core, request(None, "steps", Start::Input(value!({"n": 1})))).await;
    empty(&store).await;
    assert!(told.try_recv().is_err(), "something was posted twice");
}

async fn a_webhook_that_fails_is_called_again_and_given_up(store: Arc<dyn Store>) {
    let (core, mut told) = server(store.clone(), 1).await;
    let since = std::time::Instant::now();
    core.create_run(with_webhook("steps", "http://a")).await.unwrap();
    let first = next(&mut told).await;
    let second = next(&mut told).await;
    assert!(since.elapsed() >= Duration::from_secs(1), "it was called again at once");
    assert_eq!((second.attempts, second.error.as_deref()), (1, Some("500")));
    assert_eq!(second.body, first.body);
    empty(&store).await;
    core.core().drain().await;

    let (core, mut told) = server(store.clone(), usize::MAX).await;
    core.create_run(with_webhook("steps", "http://a")).await.unwrap();
    next(&mut told).await;
    empty(&store).await;
    // At once and after a second; the third time would be past the two seconds.
    let mut count = 1;
    while told.try_recv().is_ok() {
        count += 1;
    }
    assert_eq!(count, 2);
}

async fn a_webhook_is_called_after_a_restart(store: Arc<dyn Store>) {
    let (core, mut told) = server(store.clone(), usize::MAX).await;
    let made = core.create_run(with_webhook("steps", "http://a")).await.unwrap().0;
    next(&mut told).await;
    core.core().drain().await;
    drop(core);
    let (_core, mut told) = server(store.clone(), 0).await;
    assert_eq!(next(&mut told).await.run, made.id);
    empty(&store).await;
}

async fn runs_with_a_webhook_are_refused_where_nobody_calls_it(store: Arc<dyn Store>) {
    let core = start(store, all()).await;
    let error = core.create_run(with_webhook("steps", "http://a")).await.unwrap_err();
    assert_eq!((error.reason, &*error.metadata["feature"]), (Reason::NotSupported, "webhook"));
}
