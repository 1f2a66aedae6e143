//! A router's admin port that answers what a test tells it to, and remembers what it was asked.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::fake::{Answer, Ended, exchange, versionctl};

/// A router's admin port.
pub struct Router {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Router {
    pub fn answering(answer: impl Fn(&str, &str) -> (u16, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log): (Answer, _) = (Box::new(answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            listener.incoming().map_while(Result::ok).for_each(|stream| exchange(stream, &answer, &log));
        });
        Self { url, asked }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = versionctl(args);
        command.env("VERSIOND_ROUTER", &self.url);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        Ended::of(&self.command(args).output().unwrap())
    }
}
