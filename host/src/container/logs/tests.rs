//! Feed, writer, journal and reader together: floods, rotation, tails, full disks.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::watch;

use super::feed::{Feed, Sink};
use super::file::Rotation;
use super::journal::Journal;
use super::writer::{LogWriter, Queue};
use super::*;
use crate::container::runtime::{Output, Stream};

const UNLIMITED: Rotation = Rotation { max_size: None, max_file: 1, compress: false };

fn feed(path: &Path, rotation: Rotation, queue: Queue) -> (Arc<Feed>, Sink) {
    let feed = Feed::new(Some(Arc::new(Journal::new(path.to_owned(), rotation, BTreeMap::new()))), queue);
    (feed.clone(), Sink(feed))
}

async fn write(sink: &Sink, line: impl Into<Bytes>) {
    let line = line.into();
    while !sink.try_write(Stream::Stdout, line.clone()) {
        sink.ready().await;
    }
}

async fn numbers(reader: &mut LogReader) -> Vec<usize> {
    let mut numbers = Vec::new();
    while let Some(entry) = reader.next().await {
        numbers.push(std::str::from_utf8(&entry.text).unwrap().trim_end().parse().unwrap());
    }
    numbers
}

async fn read(feed: &Feed, query: LogQuery) -> Vec<usize> {
    let (_alive, ended) = watch::channel(false);
    numbers(&mut LogReader::open(feed, ended, query).await.unwrap()).await
}

#[tokio::test]
async fn a_flood_is_written_whole_in_order_and_followed_over_rotations() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let writer = LogWriter::start().unwrap();
    let (feed, sink) = feed(&path, Rotation { max_size: Some(4096), max_file: 4, compress: false }, writer.queue());
    let (alive, state) = watch::channel(true);
    let follow = LogQuery { follow: true, ..LogQuery::default() };
    let mut reader = LogReader::open(&feed, state, follow).await.unwrap();
    let following = tokio::spawn(async move { numbers(&mut reader).await });
    const COUNT: usize = 3000;
    for number in 0..COUNT {
        write(&sink, number.to_string()).await;
        // The reader may be behind by 64 files, and this one runs on the same thread as the flood.
        if number % 100 == 0 {
            feed.flushed().await;
            tokio::task::yield_now().await;
        }
    }
    feed.flushed().await;
    alive.send_replace(false);
    assert_eq!(following.await.unwrap(), (0..COUNT).collect::<Vec<_>>());
    let kept = read(&feed, LogQuery::default()).await;
    assert_eq!(kept, (COUNT - kept.len()..COUNT).collect::<Vec<_>>(), "the newest files, without a gap");
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.metadata().unwrap().len() <= 4096, "{:?}", entry.file_name());
        let text = std::fs::read_to_string(entry.path()).unwrap();
        assert!(text.lines().all(|line| super::line::decode(line.as_bytes()).is_some()), "no line is split");
    }
}

#[tokio::test]
async fn tails_reach_over_files() {
    let folder = tempfile::tempdir().unwrap();
    let writer = LogWriter::start().unwrap();
    let (feed, sink) = feed(
        &folder.path().join("log"),
        Rotation { max_size: Some(300), max_file: 9, compress: false },
        writer.queue(),
    );
    for number in 0..20 {
        write(&sink, number.to_string()).await;
    }
    for tail in [0, 1, 2, 3, 4, 5, 7, 10, 19, 20, 21, 1000] {
        let lines = read(&feed, LogQuery { tail: Some(tail), ..LogQuery::default() }).await;
        assert_eq!(lines, (20_usize.saturating_sub(tail)..20).collect::<Vec<_>>(), "tail {tail}");
    }
}

#[tokio::test]
async fn spans_of_time_and_streams_are_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let at = |second: u64| start + Duration::from_secs(second);
    let mut text = Vec::new();
    for number in 0..10_u64 {
        let stream = if number % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
        let line = super::line::Line { time: at(number), stream, text: number.to_string().into() };
        super::line::encode(&line, &BTreeMap::new(), &mut text);
    }
    text.extend_from_slice(b"garbage\n{\"log\":\"cut");
    std::fs::write(&path, text).unwrap();
    let (feed, _sink) = feed(&path, UNLIMITED, Queue::default());
    let all = LogQuery::default();
    for (query, expected) in [
        (all, (0..10).collect::<Vec<_>>()),
        (LogQuery { since: Some(at(7)), ..all }, vec![7, 8, 9]),
        (LogQuery { until: Some(at(2)), ..all }, vec![0, 1, 2]),
        (LogQuery { since: Some(at(3)), until: Some(at(5)), ..all }, vec![3, 4, 5]),
        (LogQuery { stdout: false, ..all }, vec![1, 3, 5, 7, 9]),
        (LogQuery { stderr: false, since: Some(at(5)), ..all }, vec![6, 8]),
        (LogQuery { since: Some(at(99)), ..all }, vec![]),
    ] {
        assert_eq!(read(&feed, query).await, expected, "{query:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn following_ends_with_its_span() {
    let folder = tempfile::tempdir().unwrap();
    let (feed, _sink) = feed(&folder.path().join("log"), UNLIMITED, Queue::default());
    let (_alive, state) = watch::channel(true);
    let until = Some(SystemTime::now() + Duration::from_secs(5));
    let query = LogQuery { follow: true, until, ..LogQuery::default() };
    assert!(LogReader::open(&feed, state, query).await.unwrap().next().await.is_none());
}

#[tokio::test]
async fn a_full_feed_takes_no_more_and_one_that_floods_delays_the_others_by_a_turn() {
    let folder = tempfile::tempdir().unwrap();
    // No thread: this test is the writer.
    let queue = Queue::default();
    let (flooding, flood) = feed(&folder.path().join("one"), UNLIMITED, queue.clone());
    let (calm, whisper) = feed(&folder.path().join("two"), UNLIMITED, queue);
    let mut accepted = 0;
    while flood.try_write(Stream::Stdout, Bytes::from_static(b"flood")) {
        accepted += 1;
    }
    assert!(accepted < 1000, "memory is bounded: {accepted}");
    let mut long = 0;
    let (_other, wide) = feed(&folder.path().join("three"), UNLIMITED, Queue::default());
    while wide.try_write(Stream::Stdout, Bytes::from(vec![b'x'; 16 << 10])) {
        long += 1;
    }
    assert!(long <= 17, "long lines count by their bytes: {long}");
    assert!(whisper.try_write(Stream::Stdout, Bytes::from_static(b"calm")));
    // What the thread does, by hand: a turn each.
    let mut order = VecDeque::from([flooding.clone(), calm.clone()]);
    let mut turns = 0;
    while let Some(feed) = order.pop_front() {
        turns += 1;
        if feed.write_some(64) {
            order.push_back(feed);
        }
        if turns == 2 {
            assert_eq!(*calm.written().borrow(), 1, "the second turn was the other's");
        }
    }
    assert_eq!(*flooding.written().borrow(), accepted);
    assert!(flood.try_write(Stream::Stdout, Bytes::from_static(b"again")));
}

#[tokio::test]
async fn a_full_disk_costs_lines_says_so_once_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    // Every write to this device fails for lack of space.
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let journal = Journal::new(path.clone(), UNLIMITED, BTreeMap::new());
    let line = |text: &'static str| super::line::Line {
        time: SystemTime::now(),
        stream: Stream::Stdout,
        text: Bytes::from_static(text.as_bytes()),
    };
    journal.append(&[line("lost"), line("lost")]);
    journal.append(&[line("lost")]);
    journal.close();
    std::fs::remove_file(&path).unwrap();
    journal.append(&[line("kept")]);
    journal.append(&[line("kept too")]);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().map(|line| super::line::decode(line.as_bytes()).unwrap().text).collect();
    assert_eq!(lines[0], "wharf: 3 lines of this log were lost: they could not be written to the disk\n");
    assert_eq!(lines[1..], ["kept\n", "kept too\n"]);
}

#[tokio::test]
async fn whoever_is_let_go_does_not_take_lines_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let writer = LogWriter::start().unwrap();
    let (feed, sink) = feed(&folder.path().join("log"), UNLIMITED, writer.queue());
    let mut stays = feed.attach(true, true);
    let leaves = feed.attach(true, true);
    let mut errors = feed.attach(false, true);
    write(&sink, "1").await;
    drop(leaves);
    write(&sink, "2").await;
    feed.flushed().await;
    feed.detach_all();
    let mut lines = Vec::new();
    while let Some((_, line)) = stays.recv().await {
        lines.push(line);
    }
    assert_eq!(lines, ["1\n", "2\n"]);
    assert!(errors.recv().await.is_none(), "only what was asked for");
}
