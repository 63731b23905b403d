//! Folders mounted with `-v`, touched by a guest that opens files with std: what is mounted can be read, and written
//! unless it is `:ro`; what lies beside it cannot be reached.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use support::guests::fixture;
use support::host::{Scratch, TestHost};
use support::http::Client;

const FILES: &str = "files-wasip1";

/// A host that mounts `data` read-only as `/data` and `work` as `/scratch`; beside the two lies `secret.txt`.
struct Mounted {
    scratch: Scratch,
    host: TestHost,
}

impl Mounted {
    fn new() -> Mounted {
        let scratch = Scratch::new();
        scratch.file("secret.txt", b"not for guests");
        scratch.file("data/note.txt", b"from the host");
        scratch.file("data/deep/er.txt", b"deeper");
        scratch.file("work/old.txt", b"old");
        symlink("../secret.txt", scratch.0.join("data/link")).unwrap();
        let folder = scratch.0.display();
        let (data, work) = (format!("{folder}/data:/data:ro"), format!("{folder}/work:/scratch"));
        let host = TestHost::serve(&[&fixture(FILES)], &["-v", &data, "-v", &work]);
        Mounted { scratch, host }
    }

    fn guest(&self) -> Client {
        self.host.service(FILES)
    }

    fn ask(&self, request: &str) -> Value {
        self.guest().get(request).expect(200).json()
    }

    /// The host refused what the guest tried.
    #[track_caller]
    fn refuses(&self, request: &str) {
        let answer = self.ask(request);
        assert_eq!(answer["kind"], "permission-denied", "{request}: {answer}");
    }

    /// No mounted folder holds such a path, so that the guest has nothing to ask the host for.
    #[track_caller]
    fn knows_nothing_of(&self, request: &str) {
        let answer = self.ask(request);
        assert_eq!(answer["kind"], "not-found", "{request}: {answer}");
    }

    fn on_the_host(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.scratch.0.join(path)).ok()
    }
}

#[test]
fn a_read_only_folder_is_read() {
    let mounted = Mounted::new();
    assert_eq!(mounted.ask("/read?path=/data/note.txt")["text"], "from the host");
    assert_eq!(mounted.ask("/read?path=/data/deep/er.txt")["text"], "deeper");
    assert_eq!(mounted.ask("/list?path=/data")["names"], json!(["deep", "link", "note.txt"]));
    // Not a copy: what the host writes later is there.
    mounted.scratch.file("data/note.txt", b"written later");
    assert_eq!(mounted.ask("/read?path=/data/note.txt")["text"], "written later");
}

#[test]
fn a_read_only_folder_is_not_written() {
    let mounted = Mounted::new();
    mounted.refuses("/write?path=/data/new.txt&text=x");
    mounted.refuses("/write?path=/data/note.txt&text=x");
    mounted.refuses("/remove?path=/data/note.txt");
    mounted.refuses("/make-folder?path=/data/new");
    assert_eq!(mounted.on_the_host("data/note.txt").as_deref(), Some("from the host"));
    assert_eq!(mounted.ask("/list?path=/data")["names"], json!(["deep", "link", "note.txt"]));
}

#[test]
fn any_other_folder_is_written() {
    let mounted = Mounted::new();
    for request in [
        "/write?path=/scratch/new.txt&text=new",
        "/write?path=/scratch/old.txt&text=changed",
        "/make-folder?path=/scratch/in",
    ] {
        assert_eq!(mounted.ask(request), json!({"outcome": "ok"}), "{request}");
    }
    assert_eq!(mounted.on_the_host("work/new.txt").as_deref(), Some("new"));
    assert_eq!(mounted.on_the_host("work/old.txt").as_deref(), Some("changed"));
    // The next request is another instance's: files outlive it.
    assert_eq!(mounted.ask("/read?path=/scratch/new.txt")["text"], "new");
    assert_eq!(mounted.ask("/remove?path=/scratch/old.txt"), json!({"outcome": "ok"}));
    assert_eq!(mounted.on_the_host("work/old.txt"), None);
}

#[test]
fn nothing_beside_a_folder_is_reached() {
    let mounted = Mounted::new();
    for path in ["/data/../secret.txt", "/data/deep/../../secret.txt", "/scratch/../secret.txt", "/data/link"] {
        mounted.refuses(&format!("/read?path={path}"));
        mounted.refuses(&format!("/write?path={path}&text=x"));
    }
    let secret = mounted.scratch.0.join("secret.txt").display().to_string();
    for path in [&secret, "/etc/passwd"] {
        mounted.knows_nothing_of(&format!("/read?path={path}"));
        mounted.knows_nothing_of(&format!("/write?path={path}&text=x"));
    }
    mounted.refuses("/list?path=/data/..");
    mounted.knows_nothing_of("/list?path=/");
    assert_eq!(mounted.on_the_host("secret.txt").as_deref(), Some("not for guests"));
}

#[test]
fn without_a_volume_there_is_no_file_at_all() {
    let host = TestHost::serve(&[&fixture(FILES)], &[]);
    for request in ["/list?path=/", "/list?path=.", "/read?path=/etc/passwd", "/write?path=/new.txt&text=x"] {
        let answer = host.service(FILES).get(request).expect(200).json();
        assert_eq!(answer["kind"], "not-found", "{request}: {answer}");
    }
}
