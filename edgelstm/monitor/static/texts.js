// All texts of the page, in one place for translation.
export const TEXT = {
  live: "Live", history: "History", stream: "Stream", latency: "Latency", dropped: "Dropped",
  viewers: "Viewers", keys: "Keys", theme: "Theme", alarms: "Alarms", signals: "Signals", span: "Time shown",
  pause: "Pause", resume: "Resume", state: "State", phase: "Phase", inIt: "in it", quality: "Signal quality",
  trial: "Trial", exercise: "Exercise", side: "Side", start: "Start", stop: "Stop", repeat: "Repeat",
  discard: "Discard", automatic: "Record whole exercises by their phases", notes: "Notes and events",
  note: "Note", addNote: "Add note", marker: "Marker", events: "Events", demo: "Simulated patients.",
  disclaimer: "A development tool, not a medical device.", whyDiscard: "Discard this trial", reason: "Reason",
  cancel: "Cancel", close: "Close", logIn: "Log in", token: "Token", acknowledge: "Acknowledge",
  scores: "Model output", noPhase: "no phase", markerText: "marker", over: "recording ended",
  connected: "live", connecting: "connecting", lost: "connection lost, trying again",
  noTrial: "No trial yet.", running: "Trial goes on", done: "Trial ended", discarded: "Trial discarded",
  saved: "Saved", viewOnly: "You may look, not write.", badToken: "No such token.", seconds: "s",
  shot: "Open the history", isOver: "over",
};
export const SIDES = [["", "none"], ["affected", "affected"], ["unaffected", "unaffected"], ["left", "left"], ["right", "right"]];
export const LEVELS = { good: ["\u25cf", "good"], doubtful: ["\u25b2", "doubtful"], bad: ["\u25a0", "bad"] };
export const REASONS = {
  good: () => "good", starting: () => "starting", silent: (x) => `no sample for ${x.toFixed(0)} s`,
  missing: (x) => (x === null ? "values missing" : `${x.toFixed(0)} % not measured`),
  stuck: (x) => `stuck at ${x.toPrecision(3)}`, clipped: (x) => `cut off at ${x.toPrecision(3)}`,
  outside: (x) => `${x.toFixed(0)} % outside the known range`,
};
const MEASURES = {
  total: "Total", sit_to_stand: "Sit to stand", walk: "Walking", turn: "Turning", sit_down: "Sitting down",
  turns: "Turns", repetitions: "Repetitions", repetition_time: "Repetition",
};
export const KEYS = [
  ["s", "start or stop a trial"], ["r", "repeat the trial"], ["d", "discard the trial"], ["m", "set a marker"],
  ["n", "write a note"], ["a", "acknowledge the first alarm"], ["p", "pause the charts"], ["t", "change the theme"],
  ["1 - 9", "choose a stream"], ["?", "show the keys"],
];
export function measureText(name) {
  if (MEASURES[name]) return MEASURES[name];
  const text = name.replace(/^time_/, "").replaceAll("_", " ").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}
export function clock(seconds) {
  return new Date(1000 * seconds).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}
const RAISED = { "-": "\u207b", 0: "\u2070", 1: "\u00b9", 2: "\u00b2", 3: "\u00b3", 4: "\u2074" };
export function unitText(unit) { return unit.replace(/\^(-?[0-4])/g, (_, power) => [...power].map((c) => RAISED[c]).join("")); }
export function fillTexts(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = TEXT[element.dataset.text];
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", TEXT[element.dataset.label]);
}
