// What the router says of its pools, asked every second and at every event. Everything is put in as text.

const EVERY_MS = 1000;
const STALE_MS = 3500;
const EVENTS_KEPT = 100;
const RING_MS = 500; // What comes that soon happened before the page was opened.
const TOKEN = "versiond-router-token";
const THEME = "versiond-router-theme";

const $ = (id) => document.getElementById(id);
const most = new Map(); // What was in flight when each drain was seen first.
let heard = Date.now();
let asking = false;

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

function span(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  return `${Math.round(ms / 3_600_000)} h`;
}

async function ask(path, more = {}) {
  const headers = { ...more.headers };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...more, headers, cache: "no-store" });
  if (answer.status === 401) {
    wantToken(token !== null);
    throw new Error("the router asks for a token");
  }
  return answer;
}

function wantToken(isWrong) {
  sessionStorage.removeItem(TOKEN);
  $("wrong").hidden = !isWrong;
  if (!$("ask").open) $("ask").showModal();
}

async function look() {
  if (asking) return;
  asking = true;
  try {
    const answer = await ask("v1/pools");
    if (!answer.ok) throw new Error(`the router answers ${answer.status}`);
    const { pools } = await answer.json();
    const ready = await (await fetch("readyz", { cache: "no-store" })).json();
    heard = Date.now();
    show(pools, ready.ready);
  } catch {
    // What is shown stays, and says since when.
  } finally {
    asking = false;
    stale();
  }
}

function stale() {
  const ago = Date.now() - heard;
  $("stale").hidden = ago < STALE_MS;
  if (ago >= STALE_MS) {
    $("stale").textContent = `The router does not answer. What is shown is ${span(ago)} old.`;
    state("no answer", "bad");
  }
}

function state(text, kind) {
  const badge = $("state");
  if (badge.textContent !== text) badge.textContent = text;
  badge.className = `badge ${kind}`;
}

function show(pools, isReady) {
  state(isReady ? "ready" : "not ready", isReady ? "good" : "warn");
  const alarms = pools.flatMap((pool) => pool.alarms.map((alarm) => `${pool.name}: ${alarm.text}`));
  const shown = [...$("alarms").children].map((alarm) => alarm.textContent);
  if (alarms.join("\n") !== shown.join("\n")) {
    $("alarms").replaceChildren(...alarms.map((alarm) => el("p", { class: "warn" }, alarm)));
  }
  const focused = document.activeElement?.dataset?.host;
  const scrolled = [...document.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  $("pools").replaceChildren(...pools.map(pool));
  [...document.querySelectorAll(".scroll")].forEach((one, at) => { one.scrollLeft = scrolled[at] ?? 0; });
  if (focused) [...document.querySelectorAll("tr[data-host]")].find((row) => row.dataset.host === focused)?.focus();
}

function pool(one) {
  const versions = one.versions.map(({ version }) => version);
  const head = ["Host", "Role", "Share", "In flight", "Oldest", ...versions, "Drain"];
  const numbers = new Set(["In flight", "Oldest"]);
  const ready = one.hosts.filter((host) => host.role === "ready").length;
  const table = el("table", {},
    el("caption", {}, `The hosts of the pool ${one.name}`),
    el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col", class: numbers.has(text) ? "number" : undefined }, text)))),
    el("tbody", {}, ...one.hosts.toSorted(byName).map((host) => row(one, host))));
  return el("section", { class: "pool", "aria-label": `Pool ${one.name}` },
    el("div", { class: "about" }, el("h2", {}, one.name),
      el("p", { class: "quiet" }, `${one.policy}, ${ready} of ${one.hosts.length} hosts ready, ${one.requests.toLocaleString("en")} ${one.requests === 1 ? "request" : "requests"} since the start${one.known ? "" : ", hosts not known yet"}`)),
    el("div", { class: "scroll" }, table));
}

function byName(a, b) {
  return (a.id ?? a.address).localeCompare(b.id ?? b.address, "en", { numeric: true });
}

function row(one, host) {
  const kind = host.role === "ready" ? "good" : host.role ? "warn" : host.health === "silent" ? "bad" : "warn";
  const role = host.role ?? host.out?.text ?? host.health;
  const classes = Object.entries(host.by_class).filter(([, count]) => count > 0).map(([name, count]) => `${count} ${name}`);
  const versions = one.versions.map(({ version, hosts }) => {
    const has = hosts.includes(host.id);
    return el("td", { class: has ? "good" : "quiet", title: `${version}: ${has ? "may be chosen" : "is not chosen"}` }, has ? "✓ yes" : "– no");
  });
  return el("tr", { tabindex: "0", "data-host": `${one.name} ${host.address}` },
    el("th", { scope: "row" }, host.id ?? "unknown", el("span", { class: "address mono" }, host.address)),
    el("td", { class: `why ${kind}` }, role),
    el("td", {}, share(host.share_percent), `${host.share_percent.toFixed(1)} %`),
    el("td", { class: "number", title: classes.join(", ") }, `${host.inflight}`),
    el("td", { class: "number" }, host.inflight > 0 ? span(host.oldest_ms) : "–"),
    ...versions,
    el("td", { class: "why" }, ...drain(one, host)));
}

function share(percent) {
  const bar = el("i");
  bar.style.width = `${Math.min(100, percent)}%`;
  return el("span", { class: "share", "aria-hidden": "true" }, bar);
}

function drain(one, host) {
  const key = `${one.name} ${host.address}`;
  if (!host.drain) {
    most.delete(key);
    return ["–"];
  }
  const first = Math.max(most.get(key) ?? 0, host.inflight);
  most.set(key, first);
  const mode = host.drain.mode === "sessions" ? "by sessions" : "all requests";
  const since = `${mode}, since ${span(host.drain.since_ms)}${host.drain.of_router ? ", by this router" : ""}`;
  if (host.inflight === 0) return [`${since}: empty`];
  const label = `${first - host.inflight} of ${first} done`;
  return [el("progress", { max: `${first}`, value: `${first - host.inflight}`, "aria-label": label }, label),
    ` ${host.inflight} in flight, empty in about ${span(host.forecast_ms)}; ${since}`];
}

async function lookup(event) {
  event.preventDefault();
  const found = $("found");
  try {
    const report = await (await ask(`v1/lookup?path=${encodeURIComponent($("path").value)}`)).json();
    const about = [report.pool && `pool ${report.pool}`, report.key && `key ${report.key}`, report.version && `version ${report.version}`];
    const candidates = (report.candidates ?? []).map((one, at) =>
      el("li", {}, el("strong", {}, one.id), ` ${one.address}, ${one.role}${at === 0 ? ": the choice" : ""}`));
    const out = (report.out ?? []).map((one) => el("li", {}, `${one.id ?? one.address}: ${one.reason.text}`));
    found.replaceChildren(
      el("p", { class: "quiet" }, report.message ?? about.filter(Boolean).join(", ")),
      report.refused ? el("p", { class: "bad" }, report.refused.text) : "",
      candidates.length > 0 ? el("ol", {}, ...candidates) : "",
      out.length > 0 ? el("p", { class: "quiet" }, "Not chosen:") : "",
      out.length > 0 ? el("ul", {}, ...out) : "");
  } catch (error) {
    found.replaceChildren(el("p", { class: "bad" }, `No answer: ${error.message}`));
  }
}

function told(change) {
  const where = [change.pool, change.host ?? change.address, change.version].filter(Boolean).join(" ");
  const what = {
    member_added: "is a member", member_removed: "is no member any more", views_known: "all hosts are known",
    missed: `${change.events} events were missed`,
    role: change.to ? `may be chosen: ${change.to}` : `is not chosen any more${change.reason ? `: ${change.reason.text}` : ""}`,
    alarm_raised: change.alarm?.text, alarm_over: `over: ${change.alarm?.text}`,
  }[change.event] ?? change.event;
  return `${where} ${what}`.trim();
}

async function follow() {
  for (;;) {
    try {
      const answer = await ask("v1/events", { headers: { accept: "text/event-stream" } });
      const begun = Date.now();
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const blocks = text.split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
          if (data) note(JSON.parse(data), Date.now() - begun > RING_MS);
        }
      }
    } catch {
      // It is asked again.
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

function note(event, isNews) {
  const time = isNews ? new Date().toLocaleTimeString("en-GB") : "earlier";
  $("events").prepend(el("li", {}, el("time", {}, time), el("span", {}, told(event))));
  while ($("events").children.length > EVENTS_KEPT) $("events").lastChild.remove();
  $("no-events").hidden = true;
  look();
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function theme(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen;
  $("theme").textContent = isDark() ? "Light" : "Dark";
}

function toggle() {
  const chosen = isDark() ? "light" : "dark";
  localStorage.setItem(THEME, chosen);
  theme(chosen);
}

function step(by) {
  const rows = [...document.querySelectorAll("tr[data-host]")];
  const at = rows.indexOf(document.activeElement);
  rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))]?.focus();
}

const KEYS = {
  "/": () => $("path").focus(), j: () => step(1), k: () => step(-1), t: toggle, "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof HTMLInputElement || document.querySelector("dialog[open]");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme());
$("theme").addEventListener("click", toggle);
$("keys").addEventListener("click", () => $("help").showModal());
$("lookup").addEventListener("submit", lookup);
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value);
  $("token").value = "";
  $("ask").close();
  look();
});

theme(localStorage.getItem(THEME) ?? undefined);
setInterval(look, EVERY_MS);
setInterval(stale, EVERY_MS);
look();
follow();
