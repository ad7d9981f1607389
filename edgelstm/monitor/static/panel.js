// What stands beside the charts: phase, counts, lights, trial, alarms, events. Texts are never markup.
import { LEVELS, REASONS, TEXT, clock, measureText } from "./texts.js";

const byId = (id) => document.getElementById(id);
const MOST_EVENTS = 100;

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function facts(list, rows) {
  const text = JSON.stringify(rows);
  if (list.dataset.shown === text) return;
  list.dataset.shown = text;
  list.replaceChildren(...rows.map(([name, value]) => {
    const row = document.createElement("div"), term = document.createElement("dt"), said = document.createElement("dd");
    term.textContent = name;
    said.textContent = value;
    row.append(term, said);
    return row;
  }));
}

export function showState(stream, state) {
  if (!state) return;
  setText(byId("phase"), (state.phase || state.label || TEXT.noPhase).replaceAll("_", " "));
  facts(byId("counts"), [
    ...Object.entries(state.repetitions).map(([name, count]) => [name, String(count)]),
    ...Object.entries(state.scores).map(([name, value]) => [TEXT.qualityOf(name), value.toFixed(2)]),
    ...Object.entries(state.spans).map(([name, value]) => [name, value === null ? "-" : `${value.toFixed(2)} s`]),
  ]);
  const quality = state.quality ?? 0;
  byId("quality").value = quality;
  setText(byId("qualityText"), `${Math.round(100 * quality)} %`);
  showLights(stream, state.lights);
  showTrial(state.trial);
  const dropped = Object.entries(state.dropped);
  const total = dropped.reduce((sum, [, count]) => sum + count, 0);
  setText(byId("dropped"), String(total));
  byId("dropped").title = dropped.map(([reason, count]) => `${count} ${reason}`).join(", ");
}

export function showTime(state, now) {
  const seconds = state && state.since ? Math.max(0, now - state.since) : NaN;
  setText(byId("inphase"), Number.isFinite(seconds) ? `${seconds.toFixed(1)} s` : "-");
}

function showLights(stream, lights) {
  const list = byId("lights"), text = JSON.stringify([stream.name, lights]);
  if (list.dataset.shown === text) return;
  list.dataset.shown = text;
  list.replaceChildren(...lights.map(([level, reason, value], i) => {
    const item = document.createElement("li"), sign = document.createElement("span"), name = document.createElement("span");
    item.className = level;
    sign.className = "sign";
    sign.textContent = LEVELS[level][0];
    sign.setAttribute("role", "img");
    sign.setAttribute("aria-label", LEVELS[level][1]);
    name.textContent = stream.channels[i]?.name ?? String(i);
    const why = document.createElement("small");
    why.textContent = REASONS[reason](value);
    item.append(sign, name, why);
    return item;
  }));
}

export function isRunning(trial) {
  return Boolean(trial) && trial.ended === null && trial.discarded === null;
}

function showTrial(trial) {
  const running = isRunning(trial);
  byId("stop").disabled = !running;
  byId("discard").disabled = !trial || trial.discarded !== null;
  byId("repeat").disabled = !trial;
  let text = TEXT.noTrial;
  if (trial) {
    const what = trial.discarded !== null ? `${TEXT.discarded}: ${trial.discarded}` : running ? TEXT.running : TEXT.done;
    text = `${what} (${[trial.name, trial.side].filter(Boolean).join(", ") || TEXT.trial})`;
  }
  setText(byId("trialState"), text);
  facts(byId("measures"), (trial?.measures ?? []).map(([name, value, unit]) =>
    [measureText(name), unit === "1" ? String(Number(value.toFixed(2))) : `${value.toFixed(2)} ${unit}`]));
}

export function showAlarms(alarms, mayWrite, nameOf, acknowledge) {
  const list = byId("alarms"), text = JSON.stringify([alarms, mayWrite]);
  if (list.dataset.shown === text) return;
  list.dataset.shown = text;
  list.replaceChildren(...alarms.map((alarm) => {
    const row = document.createElement("div"), said = document.createElement("span");
    const name = document.createElement("b"), more = document.createElement("small");
    row.className = alarm.raised ? "alarm raised" : "alarm";
    name.textContent = nameOf(alarm.stream);
    more.textContent = alarm.text + (alarm.raised ? "" : ` (${TEXT.isOver})`);
    said.append(name, ` ${clock(alarm.time)}`, more);
    row.append(said);
    if (mayWrite) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = TEXT.acknowledge;
      button.addEventListener("click", () => acknowledge(alarm));
      row.append(button);
    }
    return row;
  }));
}

export function addEvent(event) {
  const list = byId("events"), item = document.createElement("li"), when = document.createElement("time");
  item.className = event.kind.replaceAll(" ", "-");
  when.textContent = clock(event.time);
  const what = document.createElement("span");
  const stands = ["note", "marker"].includes(event.kind) ? `${event.kind}: ${event.text}` : event.text || event.kind;
  what.textContent = stands + (event.by ? ` (${event.by})` : "");
  item.append(when, what);
  list.prepend(item);
  const others = list.querySelectorAll("li:not(.note, .marker, .alarm, .alarm-acknowledged)");
  if (others.length > MOST_EVENTS) others[others.length - 1].remove();
  if (list.children.length > 4 * MOST_EVENTS) list.lastChild.remove();
}

let hide = 0;
export function say(text, isBad = false) {
  const said = byId("said");
  said.textContent = text;
  said.className = isBad ? "said bad" : "said";
  clearTimeout(hide);
  hide = setTimeout(() => { said.textContent = ""; }, 4000);
}
