//! One request's fate, seen by those who share it: who waits, the queue, whoever runs it, the watchdog.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wharf_tensor::infer::{InferError, InferErrorKind, Outputs};

use crate::model::session::Stop;
use crate::model::watchdog::{Reason, Stoppable};

/// Takes the answer to whoever waits. Called at most once.
pub type Reply = Box<dyn FnOnce(Result<Outputs, InferError>) + Send>;

pub struct Ticket {
    /// For messages.
    model: Arc<str>,
    phase: Mutex<Phase>,
}

enum Phase {
    Queued(Reply),
    /// The reply is `None` where the one who waits is the one who runs.
    Running(Arc<Run>, Option<Reply>),
    /// The reason is `None` for a request that was answered.
    Over(Option<Reason>),
}

/// One run of a model, for one or more requests. It is stopped when all of them have left.
pub struct Run {
    stop: Stop,
    members: AtomicUsize,
}

impl Run {
    /// With one member: whoever starts it, who [leaves](Run::leave) when all requests are in.
    pub fn new(stop: Stop) -> Arc<Run> {
        Arc::new(Run { stop, members: AtomicUsize::new(1) })
    }

    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    pub fn leave(&self) {
        if self.members.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.stop.stop();
        }
    }
}

impl Ticket {
    pub fn queued(model: Arc<str>, reply: Reply) -> Arc<Ticket> {
        Arc::new(Ticket { model, phase: Mutex::new(Phase::Queued(reply)) })
    }

    /// For a request that its own caller runs, as the run's only member.
    pub fn running(model: Arc<str>, run: Arc<Run>) -> Arc<Ticket> {
        Arc::new(Ticket { model, phase: Mutex::new(Phase::Running(run, None)) })
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Join a run. False if the request is over.
    pub fn begin(&self, run: &Arc<Run>) -> bool {
        let mut phase = self.phase();
        match mem::replace(&mut *phase, Phase::Over(None)) {
            Phase::Over(reason) => {
                *phase = Phase::Over(reason);
                false
            }
            Phase::Queued(reply) => {
                run.members.fetch_add(1, Ordering::AcqRel);
                *phase = Phase::Running(run.clone(), Some(reply));
                true
            }
            Phase::Running(_, reply) => {
                run.members.fetch_add(1, Ordering::AcqRel);
                *phase = Phase::Running(run.clone(), reply);
                true
            }
        }
    }

    /// Give the answer, if somebody still waits for it.
    pub fn answer(&self, answer: Result<Outputs, InferError>) {
        let before = {
            let mut phase = self.phase();
            match *phase {
                Phase::Over(_) => return,
                _ => mem::replace(&mut *phase, Phase::Over(None)),
            }
        };
        if let Phase::Queued(reply) | Phase::Running(_, Some(reply)) = before {
            reply(answer);
        }
    }

    /// End the request without an answer: out of the queue, or out of its run. False if it was over.
    pub fn end(&self, reason: Reason) -> bool {
        let before = {
            let mut phase = self.phase();
            match *phase {
                Phase::Over(_) => return false,
                _ => mem::replace(&mut *phase, Phase::Over(Some(reason))),
            }
        };
        if let Phase::Running(run, _) = &before {
            run.leave();
        }
        if let Phase::Queued(reply) | Phase::Running(_, Some(reply)) = before {
            reply(Err(ended(&self.model, reason)));
        }
        true
    }

    pub fn is_over(&self) -> bool {
        matches!(*self.phase(), Phase::Over(_))
    }

    /// Why it ended without an answer.
    pub fn reason(&self) -> Option<Reason> {
        match *self.phase() {
            Phase::Over(reason) => reason,
            _ => None,
        }
    }
}

impl Stoppable for Ticket {
    fn stop(&self, reason: Reason) {
        self.end(reason);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("model", &self.model).finish_non_exhaustive()
    }
}

pub fn ended(model: &str, reason: Reason) -> InferError {
    match reason {
        Reason::Deadline => InferError::new(
            InferErrorKind::DeadlineExceeded,
            format!("model {model:?}: no answer before the request's deadline"),
        ),
        Reason::Cancelled => {
            InferError::new(InferErrorKind::Cancelled, format!("model {model:?}: the request was cancelled"))
        }
    }
}
