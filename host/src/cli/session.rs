//! A person at a container: stdin, stdout and stderr on a hijacked connection, raw mode, window size, signals.

use std::io::{self, IsTerminal, Write};

use http::Method;
use rustix::termios::{self, OptionalActions, Termios};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::client::{Call, Client, Hijacked, Query};
use super::stream::{Channel, Frames};
use super::table;
use crate::error::{Error, ErrorKind, Result};

/// The terminal in raw mode until this is dropped.
pub struct Raw(Termios);

impl Raw {
    /// `None` if stdin is no terminal.
    pub fn enter() -> Result<Option<Raw>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let fail = |error| Error::new(ErrorKind::Io, "cannot set the terminal's mode").because(error);
        let before = termios::tcgetattr(io::stdin()).map_err(fail)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(fail)?;
        Ok(Some(Raw(before)))
    }
}

/// Where somebody sits at a container: whether it has a terminal, whether they type, and how they leave.
pub struct Seat {
    pub tty: bool,
    pub input: bool,
    pub keys: Keys,
}

impl Seat {
    /// Refuses, before anything is made, what would need a terminal that is not there.
    pub fn check(&self) -> Result<()> {
        if self.tty && self.input && !io::stdin().is_terminal() {
            return Err(Error::invalid("the input device is not a TTY"));
        }
        Ok(())
    }

    /// The terminal in raw mode, where keys are the container's.
    pub fn raw(&self) -> Result<Option<Raw>> {
        if self.tty && self.input { Raw::enter() } else { Ok(None) }
    }
}

/// How a session was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Ended,
    Detached,
}

/// What docker's `--detach-keys` is without it.
pub const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// The keys that leave a container running.
#[derive(Clone, Debug)]
pub struct Keys(Vec<u8>);

impl Keys {
    /// `ctrl-p,ctrl-q`, `ctrl-a,d`.
    pub fn parse(typed: &str) -> std::result::Result<Keys, String> {
        let key = |name: &str| match (name.strip_prefix("ctrl-").map(str::as_bytes), name.as_bytes()) {
            (Some([letter @ (b'a'..=b'z' | b'@' | b'['..=b'_')]), _) => Ok(letter & 0x1f),
            (None, [letter]) => Ok(*letter),
            _ => Err(format!("unknown key {name:?}: write a letter or ctrl-a … ctrl-z, divided by commas")),
        };
        typed.split(',').map(key).collect::<std::result::Result<_, _>>().map(Keys)
    }
}

/// Watches what is typed for the keys; those that might begin them are held back until it is clear.
struct Watch {
    keys: Vec<u8>,
    seen: usize,
}

impl Watch {
    /// What goes on to the container, and whether the keys are complete.
    fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut on = Vec::with_capacity(typed.len() + self.seen);
        for &byte in typed {
            if byte != self.keys[self.seen] {
                on.extend_from_slice(&self.keys[..self.seen]);
                self.seen = 0;
            }
            if byte == self.keys[self.seen] {
                self.seen += 1;
            } else {
                on.push(byte);
            }
            if self.seen == self.keys.len() {
                return (on, true);
            }
        }
        (on, false)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Carry stdin there and the output here until the daemon closes, or somebody types the keys that leave.
pub async fn carry(connection: Hijacked, seat: Seat) -> Result<Left> {
    let (reader, writer) = tokio::io::split(connection);
    if !seat.input {
        let ended = output(reader, seat.tty).await;
        drop(writer);
        return ended.map(|()| Left::Ended);
    }
    let (leave, left) = tokio::sync::oneshot::channel();
    let typed = typed(seat.tty.then_some(seat.keys), leave);
    tokio::spawn(input(typed, writer));
    tokio::select! {
        ended = output(reader, seat.tty) => ended.map(|()| Left::Ended),
        Ok(()) = left => {
            table::say("read escape sequence");
            Ok(Left::Detached)
        }
    }
}

/// What is typed, read by a thread of its own: a blocked read of stdin cannot be cancelled, and must not hold the
/// program's end.
fn typed(keys: Option<Keys>, leave: oneshot::Sender<()>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>(16);
    std::thread::spawn(move || {
        let mut watch = keys.map(|keys| Watch { keys: keys.0, seen: 0 });
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = io::Read::read(&mut io::stdin(), &mut buffer) {
            let (on, complete) = match &mut watch {
                Some(watch) => watch.pass(&buffer[..read]),
                None => (buffer[..read].to_vec(), false),
            };
            if sender.blocking_send(on).is_err() {
                return;
            }
            if complete {
                // Nobody waits any more once the container has ended.
                let _ = leave.send(());
                return;
            }
        }
    });
    receiver
}

async fn input(mut typed: mpsc::Receiver<Vec<u8>>, mut writer: WriteHalf<Hijacked>) {
    while let Some(bytes) = typed.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

async fn output(mut reader: ReadHalf<Hijacked>, tty: bool) -> Result<()> {
    let mut frames = Frames::new(tty);
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let read = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(read) => read,
        };
        frames.push(&buffer[..read]);
        while let Some((channel, text)) = frames.take()? {
            show(channel, &text)?;
        }
    }
}

/// A frame, to where it belongs.
pub fn show(channel: Channel, text: &[u8]) -> Result<()> {
    let written = match channel {
        Channel::Stdout => io::stdout().write_all(text).and_then(|()| io::stdout().flush()),
        Channel::Stderr => io::stderr().write_all(text),
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::Io, "cannot write the container's output").because(error))
        }
        _ => Ok(()),
    }
}

/// Tell the daemon the size of the window, now and whenever it changes. `path`: `/containers/ID` or `/exec/ID`.
pub async fn follow_size(client: Client, path: String) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Ok(size) = termios::tcgetwinsize(io::stdout()) {
            let query = Query::new().with("h", size.ws_row.to_string()).with("w", size.ws_col.to_string());
            // Something that has ended meanwhile needs no size.
            let _ = client.send(Method::POST, &format!("{path}/resize"), &query, Call::empty()).await;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

/// Signals for this program go to the container instead.
pub async fn forward_signals(client: Client, id: String) {
    let all = [
        (SignalKind::interrupt(), "INT"),
        (SignalKind::terminate(), "TERM"),
        (SignalKind::hangup(), "HUP"),
        (SignalKind::quit(), "QUIT"),
        (SignalKind::user_defined1(), "USR1"),
        (SignalKind::user_defined2(), "USR2"),
    ];
    let mut waiting = tokio::task::JoinSet::new();
    for (kind, name) in all {
        let (client, id) = (client.clone(), id.clone());
        let Ok(mut stream) = signal(kind) else { continue };
        waiting.spawn(async move {
            while stream.recv().await.is_some() {
                let query = Query::new().with("signal", name);
                let _ = client.send(Method::POST, &format!("/containers/{id}/kill"), &query, Call::empty()).await;
            }
        });
    }
    while waiting.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_held_back() {
        let keys = Keys::parse(DETACH_KEYS).unwrap();
        assert_eq!(keys.0, [16, 17]);
        assert_eq!(Keys::parse("ctrl-a,d").unwrap().0, [1, b'd']);
        assert!(Keys::parse("ctrl-").is_err() && Keys::parse("").is_err() && Keys::parse("ctrl-P").is_err());
        let mut watch = Watch { keys: keys.0, seen: 0 };
        assert_eq!(watch.pass(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(watch.pass(b"x\x10\x10"), (b"\x10x\x10".to_vec(), false));
        assert_eq!(watch.pass(b"\x11rest"), (Vec::new(), true));
    }
}
