//! The rules of the lanes, with numbers for sessions and closures for runs.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::Duration;

use super::*;

type Job = Box<dyn FnOnce(&mut u32) + Send>;

#[derive(Default)]
struct Fifo(VecDeque<Job>);

impl Backlog<u32> for Fifo {
    type Work = Job;

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn next(&mut self, _: Instant) -> Option<Job> {
        self.0.pop_front()
    }

    fn refuse(&mut self, _: &str) {
        self.0.clear();
    }
}

impl Work<u32> for Job {
    fn run(self, session: &mut u32) {
        self(session);
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

/// The wide session is 0, narrow ones are 1 and 2, opened when the test says so.
fn lanes(narrow: usize) -> (Lanes<u32, Fifo>, mpsc::Sender<u32>) {
    let (open, opened) = mpsc::channel();
    let opened = Mutex::new(opened);
    let open_narrow = Box::new(move || opened.lock().unwrap().recv_timeout(PATIENCE).ok());
    (Lanes::new(0, Fifo::default(), narrow, open_narrow), open)
}

fn push(lanes: &Lanes<u32, Fifo>, answer: &mpsc::Sender<u32>) {
    let answer = answer.clone();
    lanes.with_queue(|queue| queue.0.push_back(Box::new(move |session| answer.send(*session).unwrap())));
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long");
        thread::yield_now();
    }
}

#[test]
fn alone_takes_the_wide_lane_and_overlap_a_narrow_one() {
    let (lanes, open) = lanes(2);
    let mut first = lanes.claim().unwrap();
    assert_eq!(first.session(), Some(&mut 0));
    assert!(lanes.claim().is_none(), "no narrow lane is open yet");
    open.send(1).unwrap();
    open.send(2).unwrap();
    wait_until(|| lanes.shared.lock().growth == Growth::Over);
    let mut second = lanes.claim().unwrap();
    assert_eq!(second.session(), Some(&mut 1));
    drop(first);
    let mut third = lanes.claim().unwrap();
    assert_eq!(third.session(), Some(&mut 2), "the wide lane is for those who are alone");
    assert!(lanes.claim().is_none());
    drop((second, third));
    assert_eq!(lanes.claim().unwrap().session(), Some(&mut 0));
    assert_eq!(lanes.count(), 3);
}

#[test]
fn a_caller_hands_its_lane_to_the_queue() {
    let (lanes, _open) = lanes(0);
    let (answer, answers) = mpsc::channel();
    let claim = lanes.claim().unwrap();
    push(&lanes, &answer);
    push(&lanes, &answer);
    assert!(lanes.claim().is_none());
    assert!(answers.try_recv().is_err());
    drop(claim);
    assert_eq!([answers.recv_timeout(PATIENCE), answers.recv_timeout(PATIENCE)], [Ok(0), Ok(0)]);
    wait_until(|| lanes.claim().is_some());
}

#[test]
fn a_queued_request_wakes_an_idle_lane() {
    let (lanes, _open) = lanes(0);
    let (answer, answers) = mpsc::channel();
    push(&lanes, &answer);
    assert_eq!(answers.recv_timeout(PATIENCE), Ok(0));
}

#[test]
fn the_queue_waits_for_whichever_lane_is_opened_first() {
    let (lanes, open) = lanes(1);
    let (answer, answers) = mpsc::channel();
    let _claim = lanes.claim().unwrap();
    push(&lanes, &answer);
    open.send(1).unwrap();
    assert_eq!(answers.recv_timeout(PATIENCE), Ok(1));
}

#[test]
fn lanes_that_cannot_be_opened_leave_the_wide_one() {
    let (lanes, open) = lanes(2);
    drop(open);
    let (answer, answers) = mpsc::channel();
    let claim = lanes.claim().unwrap();
    push(&lanes, &answer);
    drop(claim);
    assert_eq!(answers.recv_timeout(PATIENCE), Ok(0));
    assert_eq!(lanes.count(), 1);
}

#[test]
fn a_panic_leaves_the_lane_usable() {
    let (lanes, _open) = lanes(0);
    let (answer, answers) = mpsc::channel();
    lanes.with_queue(|queue| queue.0.push_back(Box::new(|_| panic!("on purpose"))));
    push(&lanes, &answer);
    assert_eq!(answers.recv_timeout(PATIENCE), Ok(0));
}

#[test]
fn threads_end_with_the_lanes() {
    let (lanes, _open) = lanes(0);
    let (answer, answers) = mpsc::channel();
    push(&lanes, &answer);
    answers.recv_timeout(PATIENCE).unwrap();
    let shared = Arc::downgrade(&lanes.shared);
    drop(lanes);
    wait_until(|| shared.strong_count() == 0);
}

#[test]
fn what_comes_while_the_session_opens_waits_for_it() {
    let (open, opened) = mpsc::channel();
    let lanes = Lanes::opening(Fifo::default(), move || opened.recv_timeout(PATIENCE).map_err(|e| e.to_string()));
    let (answer, answers) = mpsc::channel();
    assert!(lanes.claim().is_none());
    push(&lanes, &answer);
    assert!(answers.try_recv().is_err());
    open.send(7).unwrap();
    assert_eq!(answers.recv_timeout(PATIENCE), Ok(7));
}

#[test]
fn a_session_that_does_not_open_refuses_all() {
    let (open, opened) = mpsc::channel::<u32>();
    let lanes = Lanes::opening(Fifo::default(), move || opened.recv_timeout(PATIENCE).map_err(|e| e.to_string()));
    let (answer, answers) = mpsc::channel();
    push(&lanes, &answer);
    drop(open);
    wait_until(|| lanes.is_refused());
    push(&lanes, &answer);
    drop(answer);
    assert_eq!(answers.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    assert!(lanes.claim().is_none());
}

#[test]
fn a_session_whose_opening_panics_refuses_all() {
    let (answer, answers) = mpsc::channel();
    let lanes = Lanes::<u32, Fifo>::opening(Fifo::default(), || panic!("as the test wants it"));
    push(&lanes, &answer);
    drop(answer);
    assert_eq!(answers.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    assert!(lanes.is_refused());
}
