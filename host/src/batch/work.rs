//! What the lanes' queue holds and what a lane runs: the link between the pure queue and `model/`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf_tensor::Tensor;
use wharf_tensor::infer::{InferError, InferErrorKind, Outputs, Signature};

use super::assemble;
use super::policy::{Estimate, Policy};
use super::queue::{Full, Queue, Waiting};
use super::ticket::{Run, Ticket};
use crate::model::Counters;
use crate::model::convert::InputRef;
use crate::model::lanes::{Backlog, Work};
use crate::model::session::{ModelSession, Stop};
use crate::model::watchdog::{Reason, Watch};

/// A request that waits. It holds nothing that leads back to the model, which owns the queue.
pub struct Entry {
    pub ticket: Arc<Ticket>,
    /// Checked, in the model's order.
    pub inputs: Vec<Tensor>,
    /// `None` where the inputs have no common dimension 0: such a request runs by itself.
    pub rows: Option<usize>,
    pub deadline: Option<Instant>,
    pub since: Instant,
    /// As its caller calls it; for messages.
    pub model: Arc<str>,
    pub signature: Arc<Signature>,
    pub counters: Arc<Counters>,
    pub _watch: Option<Watch>,
}

/// Whoever waits holds the ticket too, so an entry that is lost (a panic in its run) must say so itself.
impl Drop for Entry {
    fn drop(&mut self) {
        self.ticket.answer(Err(InferError::new(
            InferErrorKind::Internal,
            format!("model {:?}: the run ended without an answer", self.model),
        )));
    }
}

impl Entry {
    /// What a run of this request alone infers: the rows of its first input, whether or not they could be joined with
    /// another's.
    fn inferences(&self) -> usize {
        self.inputs.first().and_then(|input| input.shape().first()).map_or(1, |rows| (*rows).max(1))
    }
}

impl Waiting for Entry {
    fn elements(&self) -> usize {
        self.rows.unwrap_or(1).max(1)
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn is_over(&self) -> bool {
        self.ticket.is_over()
    }

    fn expire(&self) {
        self.ticket.end(Reason::Deadline);
    }

    fn joins(&self, other: &Self) -> bool {
        assemble::joins(&self.inputs, &other.inputs)
    }
}

pub struct Entries {
    queue: Queue<Entry>,
    estimate: Arc<Estimate>,
}

impl Entries {
    /// All queues of a model share one `estimate`.
    pub fn new(policy: Policy, estimate: Arc<Estimate>) -> Self {
        Entries { queue: Queue::new(policy), estimate }
    }

    pub fn estimate(&self) -> &Arc<Estimate> {
        &self.estimate
    }

    pub fn is_batching(&self) -> bool {
        self.queue.policy().max_batch > 1
    }

    pub fn push(&mut self, entry: Entry) -> Result<(), Box<Full<Entry>>> {
        let now = entry.since;
        self.queue.push(entry, now)
    }

    pub fn sweep(&mut self, now: Instant) {
        self.queue.sweep(now);
    }
}

impl Backlog<ModelSession> for Entries {
    type Work = Batch;

    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn next(&mut self, now: Instant) -> Option<Batch> {
        let entries = self.queue.take(now, self.estimate.per_element());
        (!entries.is_empty()).then(|| Batch { entries, estimate: self.estimate.clone(), taken: now })
    }

    fn refuse(&mut self, reason: &str) {
        for entry in self.queue.drain() {
            let message = format!("model {:?} cannot take inputs of these shapes: {reason}", entry.model);
            entry.ticket.answer(Err(InferError::new(InferErrorKind::Unavailable, message)));
        }
    }
}

/// Requests that one lane runs together.
pub struct Batch {
    entries: Vec<Entry>,
    estimate: Arc<Estimate>,
    taken: Instant,
}

impl Work<ModelSession> for Batch {
    fn run(mut self, session: &mut ModelSession) {
        for entry in &self.entries {
            entry.counters.queued(self.taken.saturating_duration_since(entry.since));
        }
        if self.entries.len() > 1 && !self.run_joined(session) {
            tracing::debug!("a batch did not work out, its requests run one by one");
        }
        for entry in std::mem::take(&mut self.entries) {
            self.run_alone(session, entry);
        }
    }
}

impl Batch {
    /// Run all at once and answer. False, with those entries left that still need an answer, where that
    /// failed: then each runs alone, so that a bad request harms only itself.
    fn run_joined(&mut self, session: &mut ModelSession) -> bool {
        let Ok(stop) = Stop::new() else { return false };
        let run = Run::new(stop);
        self.entries.retain(|entry| entry.ticket.begin(&run));
        run.leave();
        let Some(first) = self.entries.first() else { return true };
        let requests: Vec<&[Tensor]> = self.entries.iter().map(|entry| entry.inputs.as_slice()).collect();
        let rows: Vec<usize> = self.entries.iter().filter_map(|entry| entry.rows).collect();
        let Ok(joined) = assemble::join(&requests) else { return false };
        let started = Instant::now();
        let outputs = session.run(&first.model, &input_refs(&first.signature, &joined), run.stop());
        let took = started.elapsed();
        let elements = rows.iter().sum();
        first.counters.executed(elements, took);
        let Ok(answers) = outputs.map_err(drop).and_then(|outputs| assemble::part(&outputs, &rows).map_err(drop))
        else {
            self.entries.retain(|entry| !entry.ticket.is_over());
            return self.entries.is_empty();
        };
        self.estimate.observe(took, elements);
        for (entry, answer) in self.entries.drain(..).zip(answers) {
            entry.ticket.answer(Ok(answer));
        }
        true
    }

    fn run_alone(&self, session: &mut ModelSession, entry: Entry) {
        let stop = match Stop::new() {
            Ok(stop) => stop,
            Err(error) => return entry.ticket.answer(Err(error)),
        };
        let run = Run::new(stop);
        if !entry.ticket.begin(&run) {
            return;
        }
        run.leave();
        let inputs = input_refs(&entry.signature, &entry.inputs);
        let (answer, took) = run_timed(session, &entry.model, &inputs, run.stop());
        entry.counters.executed(entry.inferences(), took);
        if answer.is_ok() {
            self.estimate.observe(took, entry.inferences());
        }
        entry.ticket.answer(answer);
    }
}

/// The inputs of a run, named as the model names them.
pub fn input_refs<'a>(signature: &'a Signature, inputs: &'a [Tensor]) -> Vec<InputRef<'a>> {
    signature.inputs.iter().zip(inputs).map(|(spec, tensor)| InputRef::of_tensor(&spec.name, tensor)).collect()
}

pub fn run_timed(
    session: &mut ModelSession,
    model: &str,
    inputs: &[InputRef<'_>],
    stop: &Stop,
) -> (Result<Outputs, InferError>, Duration) {
    let started = Instant::now();
    let answer = session.run(model, inputs, stop);
    (answer, started.elapsed())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn an_entry_that_is_lost_says_so() {
        let (tell, told) = mpsc::channel();
        let model: Arc<str> = "digits".into();
        let entry = Entry {
            ticket: Ticket::queued(model.clone(), Box::new(move |answer| tell.send(answer).unwrap())),
            inputs: Vec::new(),
            rows: None,
            deadline: None,
            since: Instant::now(),
            model,
            signature: Arc::new(Signature { platform: "onnx_onnxv1", inputs: Vec::new(), outputs: Vec::new() }),
            counters: Arc::default(),
            _watch: None,
        };
        // Whoever waits keeps the ticket.
        let ticket = entry.ticket.clone();
        drop(entry);
        assert_eq!(told.recv().unwrap().unwrap_err().kind, InferErrorKind::Internal);
        assert!(ticket.is_over());
    }
}
