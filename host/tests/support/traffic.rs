//! Those who keep a host busy while it is killed: each does one kind of work, one request at a time, and remembers what
//! was acknowledged. A request that got no answer may have been carried out or not; both are right, once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::archives::{file, tar};
use super::engine::{Engine, built};
use super::http::{Answer, Client};

/// Operations in whose middle the host is killed.
pub const KINDS: [&str; 8] = ["create", "start", "remove", "build", "tag", "untag", "prune", "log"];

/// Containers each keeper has at most.
const KEPT: usize = 6;

/// Tags that are given, moved and taken back.
const TAGS: u64 = 8;

/// Lines between two looks at the log.
const LOOK: usize = 8;

/// SplitMix64: the same seed, the same choices.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Where operations are seen to begin and to end, so that the host can be killed between the two.
#[derive(Default)]
pub struct Stage {
    seen: Mutex<Seen>,
    begins: Condvar,
}

#[derive(Default)]
struct Seen {
    open: bool,
    begun: BTreeMap<&'static str, u64>,
    under_way: Vec<&'static str>,
    /// How long operations of a kind take, smoothed.
    usual: BTreeMap<&'static str, Duration>,
}

impl Stage {
    pub fn open(&self) {
        let mut seen = self.seen.lock().unwrap();
        seen.open = true;
        seen.under_way.clear();
    }

    /// What is under way now; nothing begins after this.
    pub fn close(&self) -> Vec<&'static str> {
        let mut seen = self.seen.lock().unwrap();
        seen.open = false;
        seen.under_way.clone()
    }

    /// Carry an operation out; `None` if the host is about to be killed and nothing was sent.
    fn during<T>(&self, kind: &'static str, work: impl FnOnce() -> io::Result<T>) -> Option<io::Result<T>> {
        let began = Instant::now();
        {
            let mut seen = self.seen.lock().unwrap();
            if !seen.open {
                return None;
            }
            *seen.begun.entry(kind).or_default() += 1;
            seen.under_way.push(kind);
            self.begins.notify_all();
        }
        let result = work();
        let mut seen = self.seen.lock().unwrap();
        if result.is_ok() {
            let at = seen.under_way.iter().position(|other| *other == kind).unwrap();
            seen.under_way.swap_remove(at);
            let usual = seen.usual.entry(kind).or_insert_with(|| began.elapsed());
            *usual = (*usual * 7 + began.elapsed()) / 8;
        }
        Some(result)
    }

    /// Until so many more operations of a kind have begun.
    pub fn wait_for(&self, kind: &'static str, more: u64) {
        let seen = self.seen.lock().unwrap();
        let until = seen.begun.get(kind).copied().unwrap_or_default() + more;
        let begins = |seen: &mut Seen| seen.begun.get(kind).copied().unwrap_or_default() < until;
        let (_seen, waited) = self.begins.wait_timeout_while(seen, super::PATIENCE, begins).unwrap();
        assert!(!waited.timed_out(), "no {kind} begins: the traffic stands still");
    }

    pub fn usual(&self, kind: &'static str) -> Duration {
        self.seen.lock().unwrap().usual.get(kind).copied().unwrap_or(Duration::from_millis(5))
    }
}

/// Makes, starts and removes containers.
pub struct Keeper {
    prefix: &'static str,
    next: u64,
    /// Names and ids that were acknowledged, oldest first.
    kept: VecDeque<(String, String)>,
    /// A name whose creation got no answer.
    coming: Option<String>,
    /// The oldest one's removal got no answer.
    going: bool,
}

impl Keeper {
    pub fn new(prefix: &'static str) -> Keeper {
        Keeper { prefix, next: 0, kept: VecDeque::new(), coming: None, going: false }
    }

    pub fn work(&mut self, engine: &Engine, stage: &Stage, mut random: Random) {
        while self.one(engine, stage, &mut random).is_some() {}
    }

    fn one(&mut self, engine: &Engine, stage: &Stage, random: &mut Random) -> Option<()> {
        if self.kept.len() >= KEPT || (!self.kept.is_empty() && random.below(3) == 0) {
            let path = format!("/containers/{}?force=1&v=1", self.kept[0].1);
            let removed = stage.during("remove", || {
                self.going = true;
                engine.ask("DELETE", &path, "", b"")
            })?;
            expect(removed.ok()?, &[204]);
            self.going = false;
            self.kept.pop_front();
            return Some(());
        }
        let name = format!("{}-{}", self.prefix, self.next);
        let path = format!("/containers/create?name={name}");
        let spec = json!({"Image": "base", "Volumes": {"/scratch": {}}}).to_string();
        let created = stage.during("create", || {
            self.next += 1;
            self.coming = Some(name.clone());
            engine.ask("POST", &path, "application/json", spec.as_bytes())
        })?;
        let id = expect(created.ok()?, &[201]).json()["Id"].as_str().unwrap().to_owned();
        self.coming = None;
        self.kept.push_back((name, id.clone()));
        if random.below(3) > 0 {
            let path = format!("/containers/{id}/start");
            expect(stage.during("start", || engine.ask("POST", &path, "", b""))?.ok()?, &[204]);
        }
        Some(())
    }

    /// `found` are names and ids; what is this keeper's is taken out of it.
    pub fn check(&mut self, found: &mut BTreeMap<String, String>) {
        if std::mem::take(&mut self.going) && !found.contains_key(&self.kept[0].0) {
            self.kept.pop_front();
        }
        for (name, id) in &self.kept {
            assert_eq!(found.remove(name).as_ref(), Some(id), "container {name} was acknowledged");
        }
        // Carried out, though nobody was told.
        if let Some((name, id)) = self.coming.take().and_then(|name| found.remove_entry(&name)) {
            self.kept.push_back((name, id));
        }
    }
}

/// Tags, and the images they may lead to: one that was acknowledged, and one more where a change got no answer.
#[derive(Default)]
struct Tags {
    may_be: BTreeMap<String, BTreeSet<Option<String>>>,
}

impl Tags {
    fn set(&mut self, tag: &str, image: Option<String>) {
        self.may_be.insert(tag.to_owned(), BTreeSet::from([image]));
    }

    fn changes(&mut self, tag: &str, image: Option<String>) {
        self.may_be.entry(tag.to_owned()).or_insert_with(|| BTreeSet::from([None])).insert(image);
    }

    fn known(&self, tag: &str) -> Option<&str> {
        self.may_be.get(tag)?.first()?.as_deref()
    }

    fn check(&mut self, found: &mut BTreeMap<String, String>) {
        for (tag, images) in &mut self.may_be {
            let image = found.remove(tag);
            assert!(images.contains(&image), "tag {tag} leads to {image:?}, which is none of {images:?}");
            *images = BTreeSet::from([image]);
        }
    }
}

/// Builds images that nobody has built before, and moves a few tags along.
#[derive(Default)]
pub struct Builder {
    next: u64,
    tags: Tags,
    /// A build that got no answer: its tag may lead to an image that nobody knows.
    under_way: Option<String>,
}

impl Builder {
    pub fn work(&mut self, engine: &Engine, stage: &Stage) {
        while self.one(engine, stage).is_some() {}
    }

    fn one(&mut self, engine: &Engine, stage: &Stage) -> Option<()> {
        let tag = format!("built-{}:latest", self.next % TAGS);
        let note = format!("note {}", self.next);
        let dockerfile = b"FROM base\nCOPY note /\nLABEL note=written\n";
        let context = tar(&[file("Dockerfile", dockerfile), file("note", note.as_bytes())]);
        let answer = stage.during("build", || {
            self.next += 1;
            self.under_way = Some(tag.clone());
            engine.try_build(&format!("t={tag}"), &context)
        })?;
        let answer = expect(answer.ok()?, &[200]);
        let image = built(&answer).unwrap_or_else(|| panic!("{tag} is not built: {}", answer.text()));
        self.under_way = None;
        self.tags.set(&tag, Some(image));
        Some(())
    }

    pub fn check(&mut self, found: &mut BTreeMap<String, String>) {
        if let Some(tag) = self.under_way.take() {
            self.tags.changes(&tag, found.get(&tag).cloned());
        }
        self.tags.check(found);
    }
}

/// Gives and takes back tags of an image, and prunes.
pub struct Tagger {
    image: String,
    tags: Tags,
}

impl Tagger {
    pub fn new(image: &str) -> Tagger {
        Tagger { image: image.to_owned(), tags: Tags::default() }
    }

    pub fn work(&mut self, engine: &Engine, stage: &Stage, mut random: Random) {
        while self.one(engine, stage, &mut random).is_some() {}
    }

    fn one(&mut self, engine: &Engine, stage: &Stage, random: &mut Random) -> Option<()> {
        if random.below(5) == 0 {
            // Images that a build has taken the tag from go, while other builds go on.
            expect(stage.during("prune", || engine.ask("POST", "/images/prune", "", b""))?.ok()?, &[200]);
            return Some(());
        }
        let repository = format!("tag-{}", random.below(TAGS));
        let tag = format!("{repository}:latest");
        if self.tags.known(&tag).is_some() {
            let answer = stage.during("untag", || {
                self.tags.changes(&tag, None);
                engine.ask("DELETE", &format!("/images/{tag}"), "", b"")
            })?;
            expect(answer.ok()?, &[200]);
            self.tags.set(&tag, None);
        } else {
            let path = format!("/images/{}/tag?repo={repository}&tag=latest", self.image);
            let answer = stage.during("tag", || {
                self.tags.changes(&tag, Some(self.image.clone()));
                engine.ask("POST", &path, "", b"")
            })?;
            expect(answer.ok()?, &[201]);
            self.tags.set(&tag, Some(self.image.clone()));
        }
        Some(())
    }

    pub fn check(&mut self, found: &mut BTreeMap<String, String>) {
        self.tags.check(found);
    }
}

/// Has a service write numbered lines.
///
/// A line is acknowledged once `logs` has shown it. One that the service has written and nobody has looked at yet may
/// be in the host's queue (512 lines and 256 KiB at most), which dies with it. So the log is what was acknowledged, then
/// the lines after it in order up to some point, and nothing else: no hole, no line twice, none cut.
pub struct Writer {
    pub container: &'static str,
    rotates: bool,
    service: Option<Client>,
    next: u64,
    /// In the log, oldest first.
    settled: Vec<u64>,
    /// Asked for since the host started.
    pending: Vec<u64>,
    /// How many of these `logs` has shown.
    shown: usize,
    /// The most lines that were answered and never came to be in the log.
    pub most_lost: usize,
}

impl Writer {
    pub fn new(container: &'static str, rotates: bool) -> Writer {
        let (settled, pending) = (Vec::new(), Vec::new());
        Writer { container, rotates, service: None, next: 0, settled, pending, shown: 0, most_lost: 0 }
    }

    /// Where the service is now.
    pub fn find(&mut self, engine: &Engine) {
        self.service = Some(engine.published(self.container));
    }

    pub fn work(&mut self, engine: &Engine, stage: &Stage) {
        while self.one(engine, stage).is_some() {}
    }

    fn one(&mut self, engine: &Engine, stage: &Stage) -> Option<()> {
        let path = format!("/log?line={}&stream=stdout", self.line(self.next));
        let service = self.service?;
        let answer = stage.during("log", || {
            self.pending.push(self.next);
            self.next += 1;
            service.try_get(&path)
        })?;
        expect(answer.ok()?, &[200]);
        if self.pending.len().is_multiple_of(LOOK) {
            let lines = engine.try_logs(self.container, "1").ok()?;
            assert_eq!(lines, [self.line(self.next - 1)], "a line that was answered is in the log of a host that runs");
            self.shown = self.pending.len();
        }
        Some(())
    }

    /// Lines of very different lengths, so that rotation and the kill fall anywhere in them.
    fn line(&self, number: u64) -> String {
        format!("{}-{number}-{}", self.container, "x".repeat(usize::try_from(number * 37 % 300).unwrap()))
    }

    /// After a restart: what is in the log now is settled.
    pub fn check(&mut self, engine: &Engine, all: bool) {
        let asked = if all { usize::MAX } else { self.pending.len() + 200 };
        let tail = if all { "all".to_owned() } else { asked.to_string() };
        let found = engine.logs(self.container, &tail);
        let last = found.last().and_then(|line| self.pending.iter().position(|number| self.line(*number) == *line));
        let written = last.map_or(0, |at| at + 1);
        assert!(
            written >= self.shown,
            "{}: {written} lines of this run are in the log, {} were",
            self.container,
            self.shown
        );
        self.most_lost = self.most_lost.max((self.pending.len() - written).saturating_sub(1));
        self.settled.extend(self.pending.drain(..).take(written));
        self.shown = 0;
        let least = if self.rotates { 30 } else { usize::MAX }.min(asked).min(self.settled.len());
        assert!(found.len() >= least, "{}: {} lines are left of at least {least}", self.container, found.len());
        let from = self.settled.len().checked_sub(found.len()).expect("no more lines than were written");
        for (number, line) in self.settled[from..].iter().zip(&found) {
            assert_eq!(*line, self.line(*number), "{}: after {from} lines", self.container);
        }
        self.check_files(engine);
    }

    /// On disk too, every line is a whole record, but for what the host has not cut back yet.
    fn check_files(&self, engine: &Engine) {
        let path = engine.inspect(self.container)["LogPath"].as_str().unwrap().to_owned();
        // No file: nothing was written yet, or the kill fell into a rotation.
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        for line in whole.lines() {
            let record: Result<Value, _> = serde_json::from_str(line);
            assert!(record.is_ok_and(|record| record["log"].is_string()), "{path}: no record: {line:?}");
        }
    }
}

#[track_caller]
fn expect(answer: Answer, statuses: &[u16]) -> Answer {
    assert!(statuses.contains(&answer.status), "{}: {}", answer.status, answer.text());
    answer
}
