//! What is between rmcp and a server: progress is taken off the wire in its order, and its end is noticed at once.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use rmcp::{
    RoleClient,
    model::{JsonRpcMessage, NumberOrString, ProgressNotificationParam, ServerNotification},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many notifications are kept that nobody listens to yet: a call learns its token once it has been sent.
const EARLY: usize = 256;

/// Who listens to the progress of which call.
#[derive(Default)]
pub(super) struct Progress {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    listeners: HashMap<NumberOrString, mpsc::UnboundedSender<ProgressNotificationParam>>,
    early: VecDeque<ProgressNotificationParam>,
}

impl Progress {
    /// Begins to listen to a call, and gets what has come already.
    pub fn listen(&self, token: &NumberOrString) -> mpsc::UnboundedReceiver<ProgressNotificationParam> {
        let (tell, heard) = mpsc::unbounded_channel();
        let mut inner = self.inner.lock();
        let (own, others) = inner.early.drain(..).partition(|early| early.progress_token.0 == *token);
        inner.early = others;
        let own: VecDeque<_> = own;
        for early in own {
            let _ = tell.send(early);
        }
        inner.listeners.insert(token.clone(), tell);
        heard
    }

    /// Nobody listens to a call any more.
    pub fn forget(&self, token: &NumberOrString) {
        self.inner.lock().listeners.remove(token);
    }

    fn tell(&self, progress: ProgressNotificationParam) {
        let mut inner = self.inner.lock();
        match inner.listeners.get(&progress.progress_token.0) {
            Some(listener) => drop(listener.send(progress)),
            None => {
                if inner.early.len() == EARLY {
                    inner.early.pop_front();
                }
                inner.early.push_back(progress);
            }
        }
    }
}

/// A transport, and what is taken off it.
pub(super) struct Tapped<T> {
    pub inner: T,
    pub progress: Arc<Progress>,
    /// Cancelled when the server has gone.
    pub gone: CancellationToken,
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Tapped<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = self.inner.receive().await;
        match &message {
            None => self.gone.cancel(),
            Some(JsonRpcMessage::Notification(notification)) => {
                if let ServerNotification::ProgressNotification(progress) = &notification.notification {
                    self.progress.tell(progress.params.clone());
                }
            }
            Some(_) => {}
        }
        message
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.gone.cancel();
        self.inner.close().await
    }
}
