//! A headless Chromium, driven by WebDriver.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ::http::Method;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::http::{asks, whole};

/// Far longer than anything on the page takes.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// As root, with a folder of its own, and with nothing that looks for the world outside.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// The browser. Dropped, everything of it is killed.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one with this page open.
    pub(crate) async fn open(url: &str) -> Browser {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={}", free.port())).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = command.process_group(0).spawn().expect("chromedriver starts: apt-get install chromium-driver");
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Browser { driver, address: free, session: String::new(), _profile: profile };
        let begun = Instant::now();
        while TcpStream::connect(browser.address).await.is_err() {
            assert!(begun.elapsed() < WITHIN, "chromedriver does not listen");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let folder = format!("--user-data-dir={}", browser._profile.path().display());
        let flags: Vec<&str> = FLAGS.into_iter().chain([folder.as_str()]).collect();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let begun = browser.ask(Method::POST, "/session", &wanted).await;
        browser.session = begun["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {begun}")).to_owned();
        browser.tell("/url", &json!({ "url": url })).await;
        browser
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let answer = whole(stream, asks(method, path, &body.to_string())).await.unwrap();
        let value: Value = answer.json();
        assert_eq!(answer.status, 200, "{path}: {value}");
        value["value"].clone()
    }

    async fn tell(&self, path: &str, body: &Value) -> Value {
        self.ask(Method::POST, &format!("/session/{}{path}", self.session), body).await
    }

    /// What a script returns.
    pub(crate) async fn eval(&self, script: &str) -> Value {
        self.tell("/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// Waits until a script returns something true, and gives that.
    pub(crate) async fn until(&self, what: &str, script: &str) -> Value {
        let begun = Instant::now();
        loop {
            let value = self.eval(script).await;
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return value;
            }
            if begun.elapsed() > WITHIN {
                let shown = self.eval("return document.body.innerText").await;
                panic!("not on the page: {what}\n{shown}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Types these keys, to whatever has the focus.
    pub(crate) async fn keys(&self, text: &str) {
        let one = |kind: &str, key: char| json!({"type": kind, "value": key.to_string()});
        let keys: Vec<Value> = text.chars().flat_map(|key| [one("keyDown", key), one("keyUp", key)]).collect();
        self.tell("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})).await;
    }

    /// A window of this size.
    pub(crate) async fn size(&self, width: u32, height: u32) {
        let params = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        let command = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": params});
        self.tell("/goog/cdp/execute", &command).await;
    }

    /// Whether the system asks for light or dark.
    pub(crate) async fn prefers(&self, scheme: &str) {
        let params = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.tell("/goog/cdp/execute", &json!({"cmd": "Emulation.setEmulatedMedia", "params": params})).await;
    }

    /// What the console has complained of.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.tell("/se/log", &json!({"type": "browser"})).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        entries.iter().filter(|entry| entry["level"] != "INFO").map(ToString::to_string).collect()
    }

    /// Keeps a picture where `PAGE_SHOTS` says.
    pub(crate) async fn picture(&self, name: &str) {
        if let Ok(folder) = std::env::var("PAGE_SHOTS") {
            let params = json!({"format": "png", "captureBeyondViewport": true});
            let shot =
                self.tell("/goog/cdp/execute", &json!({"cmd": "Page.captureScreenshot", "params": params})).await;
            let file = std::path::Path::new(&folder).join(format!("{name}.png.base64"));
            std::fs::write(file, shot["data"].as_str().unwrap()).unwrap();
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.driver.id()) {
            killpg(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        self.driver.wait().ok();
    }
}
