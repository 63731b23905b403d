//! `wait`: told when a container ends, or is gone.

use super::engine::Containers;
use super::runtime::{BoxFuture, Exit};
use super::snapshot::WaitCondition;
use crate::error::Result;

impl Containers {
    /// Registered when this returns: an end after that is not missed, however late the future is polled.
    pub async fn wait(&self, id: &str, condition: WaitCondition) -> Result<BoxFuture<'static, Exit>> {
        let cell = self.shared.cell(id)?;
        let mut progress = cell.progress.subscribe();
        let seen = progress.borrow_and_update().exits;
        Ok(Box::pin(async move {
            let met = progress.wait_for(|now| {
                now.removed
                    || match condition {
                        WaitCondition::NotRunning => !now.live,
                        WaitCondition::NextExit => now.exits > seen,
                        WaitCondition::Removed => false,
                    }
            });
            // `cell` is kept by this future, and with it the sender.
            let exit = met.await.map(|now| now.exit.clone());
            exit.unwrap_or_else(|_| cell.progress.borrow().exit.clone())
        }))
    }
}
