//! What a service manager is told: ready, stopping, and at intervals that the runtime still turns. The protocol of
//! `sd_notify(3)`: datagrams of `NAME=value` lines. Must not read the environment, nor know what it is that is ready.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as BlockingDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// A manager that takes no message for so long gets none: the host does not wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who started the host and wants to hear of it.
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// A path, or `@` and a name in the abstract namespace.
    pub socket: OsString,
    /// The manager ends a host that is silent for longer.
    pub watchdog: Option<Duration>,
}

/// Tells the manager; without one, tells nobody.
#[derive(Clone, Default)]
pub struct Notifier {
    socket: Option<Arc<UnixDatagram>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Must run inside the runtime. A manager that cannot be reached is a warning: the host serves all the same.
    pub fn open(supervisor: Option<&Supervisor>) -> Notifier {
        let Some(supervisor) = supervisor else { return Notifier::default() };
        match connect(supervisor) {
            Ok(socket) => Notifier { socket: Some(Arc::new(socket)), watchdog: supervisor.watchdog },
            Err(error) => {
                tracing::warn!(socket = ?supervisor.socket, %error, "the service manager cannot be reached");
                Notifier::default()
            }
        }
    }

    /// One line for `systemctl status`.
    pub async fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}")).await;
    }

    /// Everything answers. From here on the manager listens for [`Notifier::beat`].
    pub async fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}")).await;
    }

    /// No new requests are taken.
    pub async fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing open requests").await;
    }

    /// Say `WATCHDOG=1` twice in each interval the manager allows, until the runtime ends. Each time the timer had to
    /// fire and a task of its own had to be picked up and run: the two things every request needs.
    pub fn beat(&self) {
        let Some(allowed) = self.watchdog.filter(|_| self.socket.is_some()) else { return };
        let notifier = self.clone();
        tokio::spawn(async move {
            let mut ticks = interval(allowed / 2);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let beat = notifier.clone();
                if tokio::spawn(async move { beat.tell("WATCHDOG=1").await }).await.is_err() {
                    return;
                }
            }
        });
    }

    async fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        match timeout(PATIENCE, socket.send(message.as_bytes())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the service manager was not told: {message}"),
            Err(_) => tracing::warn!("the service manager takes no messages: {message}"),
        }
    }
}

fn connect(supervisor: &Supervisor) -> io::Result<UnixDatagram> {
    let socket = BlockingDatagram::unbound()?;
    match supervisor.socket.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(Path::new(&supervisor.socket))?,
    }
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager with a real socket, and what it hears.
    struct Manager {
        socket: UnixDatagram,
        _folder: tempfile::TempDir,
        supervisor: Supervisor,
    }

    impl Manager {
        fn new(watchdog: Option<Duration>) -> Manager {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            Manager { socket, _folder: folder, supervisor: Supervisor { socket: path.into_os_string(), watchdog } }
        }

        async fn hears(&self) -> String {
            let mut buffer = [0; 256];
            let read = self.socket.recv(&mut buffer).await.unwrap();
            String::from_utf8_lossy(&buffer[..read]).into_owned()
        }
    }

    #[tokio::test]
    async fn the_manager_hears_the_hosts_life_in_order() {
        let manager = Manager::new(None);
        let notifier = Notifier::open(Some(&manager.supervisor));
        notifier.beat();
        notifier.status("starting containers").await;
        notifier.ready("answering on 127.0.0.1:8000").await;
        notifier.stopping().await;
        assert_eq!(manager.hears().await, "STATUS=starting containers");
        assert_eq!(manager.hears().await, "READY=1\nSTATUS=answering on 127.0.0.1:8000");
        // Nobody asked for a watchdog: nothing comes between.
        assert_eq!(manager.hears().await, "STOPPING=1\nSTATUS=finishing open requests");
    }

    #[tokio::test]
    async fn beats_go_on() {
        let manager = Manager::new(Some(Duration::from_millis(2)));
        Notifier::open(Some(&manager.supervisor)).beat();
        for _ in 0..5 {
            assert_eq!(manager.hears().await, "WATCHDOG=1");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_comes_twice_in_each_interval() {
        let manager = Manager::new(Some(Duration::from_secs(30)));
        let started = tokio::time::Instant::now();
        Notifier::open(Some(&manager.supervisor)).beat();
        for expected in [0, 15, 30] {
            assert_eq!(manager.hears().await, "WATCHDOG=1");
            assert_eq!(started.elapsed().as_secs(), expected);
        }
    }

    #[tokio::test]
    async fn an_abstract_name_is_reached() {
        let name = format!("wharf-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let manager = BlockingDatagram::bind_addr(&address).unwrap();
        let supervisor = Supervisor { socket: format!("@{name}").into(), watchdog: None };
        Notifier::open(Some(&supervisor)).status("here").await;
        let mut buffer = [0; 64];
        let read = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..read], b"STATUS=here");
    }

    #[tokio::test]
    async fn a_manager_that_is_gone_or_never_was_stops_nothing() {
        Notifier::open(None).ready("alone").await;
        let absent = Supervisor { socket: "/nonexistent/notify".into(), watchdog: Some(Duration::from_secs(1)) };
        Notifier::open(Some(&absent)).ready("alone").await;
        let manager = Manager::new(None);
        let notifier = Notifier::open(Some(&manager.supervisor));
        drop(manager);
        notifier.ready("left").await;
    }
}
