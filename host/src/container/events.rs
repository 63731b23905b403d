//! What happened: every change of a container, image, network or volume, told to whoever listens, with a short memory
//! for those who come late.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast;
use tokio::time::Instant;

/// Events remembered, and the most a slow listener may be behind before it misses some.
const BACKLOG: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    Container,
    Image,
    Network,
    Volume,
    Daemon,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// Docker's word: `start`, `die`, `health_status: healthy`, …
    pub action: String,
    pub id: String,
    pub attributes: BTreeMap<String, String>,
    pub time: SystemTime,
}

impl Event {
    pub fn new(kind: EventKind, action: impl Into<String>, id: impl Into<String>) -> Event {
        let attributes = BTreeMap::new();
        Event { kind, action: action.into(), id: id.into(), attributes, time: SystemTime::now() }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Event {
        self.attributes.insert(name.to_owned(), value.into());
        self
    }
}

#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    backlog: Mutex<VecDeque<Event>>,
    live: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        let live = broadcast::Sender::new(BACKLOG);
        Events { shared: Arc::new(Shared { backlog: Mutex::default(), live }) }
    }
}

impl Events {
    pub fn publish(&self, event: Event) {
        let mut backlog = self.shared.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        if backlog.len() == BACKLOG {
            backlog.pop_front();
        }
        backlog.push_back(event.clone());
        // Under the lock, so that a new listener gets each event once: from the backlog or live. Without listeners the
        // event is only remembered.
        let _ = self.shared.live.send(event);
    }

    /// Remembered events from `since` on (none of them without it), then live ones, up to `until`.
    pub fn subscribe(&self, since: Option<SystemTime>, until: Option<SystemTime>) -> EventReader {
        let backlog = self.shared.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        let in_time = |event: &&Event| {
            since.is_some_and(|since| event.time >= since) && until.is_none_or(|until| event.time <= until)
        };
        let waiting = backlog.iter().filter(in_time).cloned().collect();
        let left = until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
        EventReader { waiting, live: self.shared.live.subscribe(), end: left.map(|left| Instant::now() + left) }
    }

    pub fn listeners(&self) -> usize {
        self.shared.live.receiver_count()
    }
}

pub struct EventReader {
    waiting: VecDeque<Event>,
    live: broadcast::Receiver<Event>,
    end: Option<Instant>,
}

impl EventReader {
    /// `None` once `until` has passed.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(event);
        }
        loop {
            let received = match self.end {
                Some(end) => tokio::time::timeout_at(end, self.live.recv()).await.ok()?,
                None => self.live.recv().await,
            };
            match received {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!("a listener to events is too slow: it missed {missed}");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(action: &str) -> Event {
        Event::new(EventKind::Container, action, "1").with("name", "web")
    }

    async fn actions(reader: &mut EventReader, count: usize) -> Vec<String> {
        let mut actions = Vec::new();
        for _ in 0..count {
            actions.push(reader.next().await.unwrap().action);
        }
        actions
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_listener_gets_the_backlog_then_live_ones_each_once() {
        let events = Events::default();
        let before = SystemTime::now();
        events.publish(event("create"));
        let mut late = events.subscribe(Some(before), None);
        let mut new = events.subscribe(None, None);
        events.publish(event("start"));
        assert_eq!(actions(&mut late, 2).await, ["create", "start"]);
        assert_eq!(actions(&mut new, 1).await, ["start"]);
    }

    #[tokio::test(start_paused = true)]
    async fn until_ends_it() {
        let events = Events::default();
        events.publish(event("create"));
        let mut past = events.subscribe(Some(SystemTime::UNIX_EPOCH), Some(SystemTime::now()));
        assert_eq!(actions(&mut past, 1).await, ["create"]);
        assert!(past.next().await.is_none());
        let mut soon = events.subscribe(None, Some(SystemTime::now() + Duration::from_secs(5)));
        assert!(soon.next().await.is_none());
    }

    #[tokio::test]
    async fn memory_is_bounded_and_a_slow_listener_goes_on() {
        let events = Events::default();
        let mut slow = events.subscribe(None, None);
        for number in 0..BACKLOG * 2 {
            events.publish(event(&number.to_string()));
        }
        assert_eq!(events.shared.backlog.lock().unwrap().len(), BACKLOG);
        assert_eq!(slow.next().await.unwrap().action, BACKLOG.to_string());
    }
}
