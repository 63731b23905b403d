//! Headless Chromium, driven over its debugging pipe: JSON messages that end in a zero byte, on the descriptors 3 and
//! 4 of its process. No driver program and no WebSocket are needed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::guests;
use super::host::Scratch;
use super::http::Client;

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A browser with one open page. Killed when dropped.
pub struct Browser {
    child: Child,
    send: ChildStdin,
    receive: BufReader<ChildStdout>,
    /// Of the page; the first messages are the browser's own.
    session: Option<String>,
    last_id: u64,
    /// What the page wrote to its console, and errors of its scripts.
    complaints: Vec<String>,
    _profile: Scratch,
}

impl Browser {
    /// `None`, after a loud remark, where there is no Chromium.
    pub fn start() -> Option<Browser> {
        let found = NAMES.iter().find(|name| is_program(name));
        let Some(program) = found else {
            guests::skip("no Chromium on the PATH: pages are not opened");
            return None;
        };
        let profile = Scratch::new();
        // The shell hands our pipes over as 3 and 4; the program's own output goes nowhere.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", program])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--remote-debugging-pipe", "--window-size=1000,1200"])
            .arg(format!("--user-data-dir={}", profile.0.display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, receive) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser =
            Browser { child, send, receive, session: None, last_id: 0, complaints: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page.enable", "Runtime.enable", "DOM.enable"] {
            browser.call(domain, json!({}));
        }
        Some(browser)
    }

    /// Open the page at `path` and wait until it is loaded.
    pub fn open(&mut self, client: Client, path: &str) {
        let navigated = self.call("Page.navigate", json!({"url": format!("http://{}{path}", client.0)}));
        assert!(navigated["errorText"].is_null(), "{navigated}");
        self.until("document.readyState === 'complete' && location.protocol === 'http:'");
    }

    /// The value of a JavaScript expression, awaited.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let arguments = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", arguments);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        let value = self.evaluate(&format!("document.querySelector({}).textContent", json!(selector)));
        value.as_str().unwrap_or_else(|| panic!("no text at {selector}: {value}")).to_owned()
    }

    /// Wait until the expression is true.
    #[track_caller]
    pub fn until(&mut self, condition: &str) {
        let started = std::time::Instant::now();
        while self.evaluate(condition) != true {
            assert!(started.elapsed() < super::PATIENCE, "never true: {condition}; complaints: {:?}", self.complaints);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Choose a file in an `<input type=file>`, as a person does in the dialog.
    pub fn choose(&mut self, selector: &str, file: &Path) {
        let document = self.call("DOM.getDocument", json!({}));
        let query = json!({"nodeId": document["root"]["nodeId"], "selector": selector});
        let node = self.call("DOM.querySelector", query);
        self.call("DOM.setFileInputFiles", json!({"nodeId": node["nodeId"], "files": [file]}));
    }

    /// Drag a file over the middle of an element and drop it there.
    pub fn drop_file(&mut self, selector: &str, file: &Path) {
        let middle = "{ const r = document.querySelector(SELECTOR).getBoundingClientRect(); \
                      [r.x + r.width / 2, r.y + r.height / 2] }";
        let middle = self.evaluate(&middle.replace("SELECTOR", &json!(selector).to_string()));
        let data = json!({"items": [], "files": [file], "dragOperationsMask": 1});
        for kind in ["dragEnter", "dragOver", "drop"] {
            let event = json!({"type": kind, "x": middle[0], "y": middle[1], "data": data});
            self.call("Input.dispatchDragEvent", event);
        }
    }

    /// Press, move and release the mouse: points in the page's pixels.
    pub fn draw(&mut self, points: &[(f64, f64)]) {
        let mut mouse = |kind: &str, (x, y): (f64, f64)| {
            let held = u8::from(kind != "mouseReleased");
            let event = json!({"type": kind, "x": x, "y": y, "button": "left", "buttons": held, "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        };
        mouse("mousePressed", points[0]);
        points.iter().for_each(|point| mouse("mouseMoved", *point));
        mouse("mouseReleased", points[points.len() - 1]);
    }

    #[track_caller]
    pub fn has_no_complaints(&self) {
        assert!(self.complaints.is_empty(), "the page complains: {:?}", self.complaints);
    }

    /// A picture of the page as PNG.
    pub fn screenshot(&mut self) -> Vec<u8> {
        let shot = self.call("Page.captureScreenshot", json!({"format": "png"}));
        base64(shot["data"].as_str().unwrap())
    }

    #[track_caller]
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let sent = self.send.write_all(format!("{message}\0").as_bytes()).and_then(|()| self.send.flush());
        sent.unwrap_or_else(|error| panic!("{method}: the browser is gone: {error}"));
        loop {
            let answer = self.receive();
            if answer["id"] == self.last_id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            if let Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled") = answer["method"].as_str() {
                self.complaints.push(answer["params"].to_string());
            }
        }
    }

    fn receive(&mut self) -> Value {
        let mut message = Vec::new();
        let read = self.receive.read_until(0, &mut message).unwrap();
        assert!(read > 0, "the browser ended: can it run here (fonts, shared memory, user namespaces)?");
        message.pop();
        serde_json::from_slice(&message).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to close, it ends its helpers too; killed, it would leave them.
        let close = json!({"id": self.last_id + 1, "method": "Browser.close"});
        let _ = self.send.write_all(format!("{close}\0").as_bytes());
        let ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
        for _ in 0..200 {
            if ended(&mut self.child) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_program(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut width) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = LETTERS.iter().position(|known| *known == letter).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        width += 6;
        if width >= 8 {
            width -= 8;
            bytes.push((bits >> width & 0xff) as u8);
        }
    }
    bytes
}
