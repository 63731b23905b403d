//! A real registry on loopback, Debian's `docker-registry`: open, with a password, and over TLS with an authority of
//! its own; and a line to it that breaks once.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use super::daemon::has_docker;
use super::eventually;
use super::guests::skip;
use super::host::{Scratch, run};
use super::http::Client;

/// `wharf` with the password `secret`, by bcrypt.
const PASSWORDS: &str = "wharf:$2y$05$XOSzmXGdokRCisCP5loJ6OAf6jhm6iTJOQYddRl6jMg7m1CkHAvCq\n";

/// Who is let in, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Open,
    Password,
    /// A password, over TLS with a certificate of an authority that nobody knows yet.
    Secure,
}

/// A registry of its own. Killed when dropped.
pub struct Registry {
    child: Child,
    pub address: SocketAddr,
    folder: Scratch,
}

impl Registry {
    /// `None`, after a loud remark, where a program is missing.
    pub fn start(door: Door) -> Option<Registry> {
        if !has_docker() {
            return None;
        }
        if is_missing("docker-registry", "--version") {
            skip("no docker-registry on the PATH: nothing is pushed or pulled");
            return None;
        }
        if door == Door::Secure && is_missing("openssl", "version") {
            skip("no openssl on the PATH: no registry over TLS");
            return None;
        }
        let folder = Scratch::new();
        // Free a moment ago; the registry cannot be asked for the port it would choose.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let store = folder.0.join("store");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {address}\n",
            store.display()
        );
        if door == Door::Secure {
            certify(&folder);
            let [certificate, key] = ["server.crt", "server.key"].map(|name| folder.0.join(name));
            config += &format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        }
        if door != Door::Open {
            let passwords = folder.file("passwords", PASSWORDS.as_bytes());
            config += &format!("auth:\n  htpasswd:\n    realm: wharf\n    path: {}\n", passwords.display());
        }
        let config = folder.file("config.yml", config.as_bytes());
        let mut command = Command::new("docker-registry");
        let child = command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let registry = Registry { child, address, folder };
        eventually("the registry listens", || Client(address).is_listening());
        Some(registry)
    }

    /// What it is called in references and at a login.
    pub fn server(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.server())
    }

    /// The certificate of the authority that vouches for it.
    pub fn authority(&self) -> PathBuf {
        self.folder.0.join("authority.crt")
    }

    /// What skopeo says of an image there.
    #[track_caller]
    pub fn inspected(&self, name: &str) -> Option<Value> {
        let reference = format!("docker://{}", self.image(name));
        let arguments = ["inspect", "--override-os", "wasi", "--override-arch", "wasm", "--tls-verify=false"];
        if is_missing("skopeo", "--version") {
            skip("no skopeo on the PATH: it does not look at what was pushed");
            return None;
        }
        let ended = run(Command::new("skopeo").args(arguments).arg(reference));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        Some(serde_json::from_str(&ended.stdout).unwrap())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_missing(program: &str, version: &str) -> bool {
    Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
}

/// An authority, and a certificate of it for `localhost`.
fn certify(folder: &Scratch) {
    folder.file("names", b"subjectAltName=DNS:localhost,IP:127.0.0.1\n");
    for line in [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout authority.key -out authority.crt",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA authority.crt -CAkey authority.key -CAcreateserial -days 2 -extfile names \
         -out server.crt",
    ] {
        let ended = run(Command::new("openssl").args(line.split_whitespace()).current_dir(&folder.0));
        assert_eq!(ended.code, Some(0), "openssl {line}: {}", ended.stderr);
    }
    assert!(fs::metadata(folder.0.join("server.crt")).is_ok());
}

/// A port of loopback that passes everything on to a registry, and breaks once: the first connection that has brought
/// `limit` bytes back ends there.
pub struct BrittleLine {
    pub address: SocketAddr,
    /// What the clients sent, connection after connection mixed.
    sent: Arc<Mutex<Vec<u8>>>,
    limit: Arc<Mutex<Option<usize>>>,
}

impl BrittleLine {
    pub fn to(registry: &Registry, limit: usize) -> BrittleLine {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let line = BrittleLine { address, sent: Arc::default(), limit: Arc::new(Mutex::new(Some(limit))) };
        let (sent, limit, registry) = (line.sent.clone(), line.limit.clone(), registry.address);
        // Ends with the test's process; the connections end with their clients.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(registry) else { continue };
                let (from, to, sent) = (client.try_clone().unwrap(), server.try_clone().unwrap(), sent.clone());
                thread::spawn(move || {
                    pass(from, to, |bytes| {
                        sent.lock().unwrap().extend_from_slice(bytes);
                        true
                    })
                });
                let (limit, mut passed) = (limit.clone(), 0);
                thread::spawn(move || {
                    pass(server, client, move |bytes| {
                        passed += bytes.len();
                        let mut limit = limit.lock().unwrap();
                        if limit.is_some_and(|limit| passed >= limit) { limit.take().is_none() } else { true }
                    })
                });
            }
        });
        line
    }

    pub fn is_broken(&self) -> bool {
        self.limit.lock().unwrap().is_none()
    }

    /// Header lines of requests, in lower case.
    pub fn asked(&self) -> String {
        String::from_utf8_lossy(&self.sent.lock().unwrap()).to_lowercase()
    }
}

/// Passes bytes on while `goes_on` says so, then ends both ways.
fn pass(mut from: TcpStream, mut to: TcpStream, mut goes_on: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !goes_on(&buffer[..read]) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
