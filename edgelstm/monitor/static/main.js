// The live page: streams from the server into charts and panel, what people do to the server.
import { connect, post, role } from "./connection.js";
import { BACKLOG, Recent, unpack } from "./frames.js";
import { addEvent, isRunning, say, showAlarms, showState, showTime } from "./panel.js";
import { Plots } from "./plots.js";
import { KEYS, SIDES, TEXT, fillTexts } from "./texts.js";
import { setUpTheme } from "./theme.js";

const byId = (id) => document.getElementById(id);
const streams = new Map(), recent = new Map(), states = new Map();
let chosen = null, may = "view", alarms = [], hasNew = false, arrived = 0, drawn = 0, seenEvent = 0, ownLatency = 0;

fillTexts(document);
const plots = new Plots(byId("plots"), (number) => recent.get(number));
const nextTheme = setUpTheme(byId("theme"), () => plots.build());

function choose(number) {
  chosen = streams.get(number) ?? null;
  byId("stream").value = String(number);
  byId("patient").textContent = chosen ? chosen.patient || chosen.name : "";
  byId("events").replaceChildren();
  for (const event of allEvents) if (event.stream === chosen?.name || !event.stream) addEvent(event);
  plots.show(chosen);
  if (chosen) showState(chosen, states.get(chosen.name));
}

const allEvents = [];
function takeEvent(event) {
  if (event.id <= seenEvent) return;
  seenEvent = event.id;
  allEvents.push(event);
  if (allEvents.length > 1000) allEvents.shift();
  if (!event.stream || event.stream === chosen?.name) addEvent(event);
}

function nameOf(name) {
  for (const stream of streams.values()) if (stream.name === name) return stream.patient || name;
  return name;
}

function addStream(stream) {
  const isNew = !streams.has(stream.number);
  streams.set(stream.number, stream);
  recent.set(stream.number, new Recent(stream.channels.length + stream.scores.length));
  if (isNew) byId("stream").append(new Option(stream.patient || stream.name, String(stream.number)));
  if (chosen === null) choose(stream.number);
}

const on = {
  link(state) {
    const link = byId("link");
    link.dataset.state = state;
    link.textContent = { wait: TEXT.connecting, live: TEXT.connected, lost: TEXT.lost }[state];
    if (state === "lost") role().then((found) => { if (!found.role) logIn(); }, () => {});
  },
  message(message) {
    if (message.type === "hello") {
      may = message.role;
      if (message.model !== document.body.dataset.model) seenEvent = 0;
      document.body.dataset.model = message.model;
      byId("demo").hidden = !message.demo;
      document.body.classList.toggle("viewer", may !== "annotate");
      message.streams.forEach(addStream);
      message.events.forEach(takeEvent);
    } else if (message.type === "stream") addStream(message);
    else if (message.type === "event") takeEvent(message);
    else if (message.type === "state") {
      for (const [name, state] of Object.entries(message.streams)) states.set(name, state);
      alarms = message.alarms;
      byId("viewers").textContent = String(message.viewers);
      if (message.over) byId("link").textContent = TEXT.over;
      showAlarms(alarms, may === "annotate", nameOf, acknowledge);
      if (chosen) {
        const state = states.get(chosen.name);
        showState(chosen, state);
        if (state) byId("latency").textContent = `${Math.round(state.latency_ms + ownLatency)} ms`;
        ownLatency = 0;
      }
    }
  },
  samples(buffer) {
    const frame = unpack(buffer), kept = recent.get(frame.stream);
    if (!kept) return;
    if (frame.kind === BACKLOG) kept.clear();
    kept.add(frame.times, [...frame.channels, ...frame.scores]);
    if (chosen && frame.stream === chosen.number) {
      if (!hasNew) arrived = performance.now();
      hasNew = true;
    }
  },
};

function frame() {
  requestAnimationFrame(frame);
  const now = performance.now();
  if (!hasNew || now - drawn < 15) return;
  hasNew = false;
  drawn = now;
  plots.draw();
  showTime(states.get(chosen.name), recent.get(chosen.number).last);
  ownLatency = Math.max(ownLatency, performance.now() - arrived);
}

async function act(command, done = "") {
  if (!chosen && !command.stream) return false;
  try {
    await post("/api/act", { stream: chosen.name, ...command });
    if (done) say(done);
    return true;
  } catch (error) {
    say(error.message, true);
    return false;
  }
}

function acknowledge(alarm) { return act({ action: "acknowledge", stream: alarm.stream, name: alarm.name }); }
function start() { return act({ action: "start", name: byId("trialName").value, side: byId("trialSide").value }); }
function stop() { return act({ action: "stop" }); }
async function repeat() {
  const trial = states.get(chosen?.name)?.trial;
  if (!trial) return;
  await act({ action: "start", name: trial.name, side: trial.side });
}
async function addNote() {
  const note = byId("note"), text = note.value;
  if (!text.trim()) return;
  note.value = ""; // at once: what is typed while the server answers is the next note
  if (!await act({ action: "note", text }, TEXT.saved) && !note.value) note.value = text;
}
function marker() { return act({ action: "marker", text: byId("note").value.trim().slice(0, 100) || TEXT.markerText }, TEXT.saved); }
function askReason() {
  if (byId("discard").disabled) return;
  byId("reason").value = "";
  byId("reasonBox").showModal();
  byId("reason").focus();
}
async function discard() {
  if (!byId("reason").value.trim()) return;
  byId("reasonBox").close();
  await act({ action: "discard", reason: byId("reason").value });
}
function pause() {
  plots.isPaused = !plots.isPaused;
  byId("pause").setAttribute("aria-pressed", String(plots.isPaused));
  byId("pause").textContent = plots.isPaused ? TEXT.resume : TEXT.pause;
}
function logIn() { if (!byId("loginBox").open) byId("loginBox").showModal(); }
async function sendToken(token) {
  try {
    await post("/api/login", { token });
    byId("loginBox").close();
    begin();
  } catch {
    byId("loginSaid").textContent = TEXT.badToken;
    logIn();
  }
}

function press(id, action) { byId(id).addEventListener("click", action); }
press("start", start); press("stop", stop); press("repeat", repeat); press("discard", askReason);
press("reasonYes", discard); press("reasonNo", () => byId("reasonBox").close());
press("addNote", addNote); press("marker", marker); press("pause", pause);
press("help", () => byId("helpBox").showModal()); press("helpNo", () => byId("helpBox").close());
press("login", () => sendToken(byId("token").value));
byId("automatic").addEventListener("change", (event) => act({ action: "automatic", on: event.target.checked }, TEXT.saved));
byId("note").addEventListener("keydown", (event) => { if (event.key === "Enter") addNote(); });
byId("reason").addEventListener("keydown", (event) => { if (event.key === "Enter") discard(); });
byId("token").addEventListener("keydown", (event) => { if (event.key === "Enter") sendToken(byId("token").value); });
byId("stream").addEventListener("change", (event) => choose(Number(event.target.value)));
byId("trialSide").append(...SIDES.map(([value, name]) => new Option(name, value)));
byId("spans").append(...[5, 10, 30, 60, 120].map((seconds) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = `${seconds} s`;
  button.setAttribute("aria-pressed", String(seconds === plots.seconds));
  button.addEventListener("click", () => {
    plots.seconds = seconds;
    for (const each of byId("spans").children) each.setAttribute("aria-pressed", String(each === button));
    plots.draw(true);
  });
  return button;
}));
byId("helpList").append(...KEYS.flatMap(([key, what]) => {
  const term = document.createElement("dt"), said = document.createElement("dd");
  term.textContent = key;
  said.textContent = what;
  return [term, said];
}));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const actions = {
    s: () => (isRunning(states.get(chosen?.name)?.trial) ? stop() : start()), r: repeat, d: askReason, m: marker,
    n: () => byId("note").focus(), a: () => alarms[0] && acknowledge(alarms[0]), p: pause, t: nextTheme,
    "?": () => byId("helpBox").showModal(),
  };
  const action = actions[event.key] ?? (/^[1-9]$/.test(event.key) && streams.has(Number(event.key) - 1)
    ? () => choose(Number(event.key) - 1) : null);
  if (action) { event.preventDefault(); action(); }
});

async function begin() {
  const found = await role();
  if (!found.role) {
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    history.replaceState(null, "", location.pathname);
    if (token) sendToken(token); else logIn();
    return;
  }
  if (!begin.isDone) { begin.isDone = true; connect(on); requestAnimationFrame(frame); }
}
begin();
