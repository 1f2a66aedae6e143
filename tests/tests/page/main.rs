//! The router's status page in a browser, before hosts that are drained and killed.
//!
//! It needs Chromium, which is not among what every check needs: `tests/page` runs it where that is installed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod browser;
#[allow(dead_code, reason = "shared with the tests of routers, which use all of it")]
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "shared with the tests of routers, which use all of it")]
#[path = "../router/fleet.rs"]
mod fleet;
#[allow(dead_code, reason = "shared with the daemon's tests, which use all of it")]
#[path = "../daemon/http.rs"]
mod http;
#[allow(dead_code, reason = "shared with the daemon's tests, which use all of it")]
#[path = "../daemon/mirror.rs"]
mod mirror;
#[allow(dead_code, reason = "shared with the daemon's tests, which use all of it")]
#[path = "../daemon/node.rs"]
mod node;
#[allow(dead_code, reason = "shared with the daemon's tests, which use all of it")]
#[path = "../daemon/releases.rs"]
mod releases;

use ::http::Method;
use nix::sys::signal::Signal;

use crate::browser::Browser;
use crate::fleet::{Fleet, SLOT};
use crate::http::EventStream;

/// Enter, as WebDriver writes it.
const ENTER: char = '\u{e007}';
/// The row of a host, by what it is called.
const ROW: &str = "const row = (id) => [...document.querySelectorAll('tr[data-host]')]\
                   .find((row) => row.querySelector('th').firstChild.textContent === id);";
/// The least contrast of any text with what it stands on.
const CONTRAST: &str = "const light = (color) => { const [r, g, b] = color.match(/[\\d.]+/g).map(Number)\
    .map((one) => one / 255).map((one) => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);\
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };\
    const ground = (one) => { const color = getComputedStyle(one).backgroundColor;\
    return color === 'rgba(0, 0, 0, 0)' ? ground(one.parentElement) : color; };\
    return Math.min(...[...document.querySelectorAll('h1, h2, p, th, td, li, label, span, button, code')]\
    .filter((one) => one.offsetParent !== null && one.textContent.trim() !== '').map((one) => {\
    const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort();\
    return (b + 0.05) / (a + 0.05); }));";

#[tokio::test]
async fn the_status_page_shows_what_the_router_knows_and_works_by_keyboard_in_light_and_dark() {
    let fleet = Fleet::of(3).await;
    let router = &fleet.routers[0];
    let browser = Browser::open(&format!("http://{}/", router.admin)).await;
    browser.size(1280, 900).await;

    // Hosts and shares as the API has them.
    browser.until("three hosts", "return document.querySelectorAll('tr[data-host]').length === 3").await;
    for host in router.hosts().await {
        let id = host.id.unwrap();
        let shown = browser.eval(&format!("{ROW} return row('{id}').innerText")).await;
        let shown = shown.as_str().unwrap();
        assert!(shown.contains(&format!("{:.1} %", host.share_percent)), "{id}: {shown}");
        assert!(shown.contains("ready") && shown.contains("✓ yes"), "{id}: {shown}");
    }
    assert_eq!(browser.eval("return document.getElementById('state').textContent").await, "ready");

    // A drain with its forecast, without a reload.
    let mut session = 0;
    while router.lookup(&format!("/devshard/{SLOT}/sessions/{session}/stream")).await[0] != "gpu-1" {
        session += 1;
    }
    let stream = EventStream::session(router.address, &format!("/{SLOT}"), &session.to_string(), 20_000).await;
    fleet.cordon("gpu-1", Method::POST).await;
    let drains = format!(
        "{ROW} const text = row('gpu-1').innerText; return text.includes('1 in flight, empty in about') && text.includes('cordoned') && row('gpu-1').querySelector('progress') !== null"
    );
    browser.until("the drain of gpu-1", &drains).await;
    browser.until("its event", "return document.getElementById('events').innerText.includes('gpu-1')").await;
    browser.picture("light").await;

    // A lookup by keyboard alone.
    let path = format!("/devshard/{SLOT}/sessions/{session}/stream");
    browser.keys(&format!("/{path}{ENTER}")).await;
    let first = browser.until("the lookup", "return document.querySelector('#found li strong')?.textContent").await;
    assert_eq!(first, router.lookup(&path).await[0].as_str());
    browser.eval("document.activeElement.blur()").await;
    browser.keys("jj").await;
    let focused = browser.eval("return document.activeElement.dataset.host").await;
    assert!(focused.as_str().is_some_and(|host| host.starts_with("devshard ")), "{focused}");
    browser.keys("?").await;
    assert_eq!(browser.eval("return document.getElementById('help').open").await, true);
    browser.keys("\u{e00c}").await;
    browser.until("the help closed", "return !document.getElementById('help').open").await;

    // Light and dark, by the system and by the key, each readable.
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefers(scheme).await;
        grounds.push(browser.eval(ground).await);
        let contrast = browser.eval(CONTRAST).await.as_f64().unwrap();
        assert!(contrast >= 4.5, "{scheme}: a text has a contrast of {contrast}");
    }
    browser.picture("dark").await;
    assert_ne!(grounds[0], grounds[1]);
    browser.keys("t").await;
    assert_eq!(browser.eval(ground).await, grounds[0], "the key chooses the other one");

    // A phone: nothing but the table itself is scrolled sideways.
    browser.size(360, 780).await;
    let over = browser.eval("return document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
    assert_eq!(over, 0, "wider than the window");
    browser.picture("narrow").await;
    browser.size(1280, 900).await;

    fleet.host("gpu-3").signal(Signal::SIGKILL);
    let dead = format!("{ROW} return row('gpu-3').innerText.includes('does not answer')");
    browser.until("gpu-3 is gone", &dead).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // Without the router, what is shown says how old it is.
    stream.finish().await.unwrap();
    router.stop().await;
    browser.until("that it is stale", "return !document.getElementById('stale').hidden").await;
    assert_eq!(browser.eval("return document.querySelectorAll('tr[data-host]').length").await, 3);
    router.run();
    browser.until("that it is back", "return document.getElementById('stale').hidden").await;
    drop(browser);
    fleet.end().await;
}
