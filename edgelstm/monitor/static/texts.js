// All texts of the page, in one place for translation.
export const TEXT = {
  live: "Live", why: "Why", history: "History", stream: "Stream", latency: "Latency", dropped: "Dropped",
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
  isOver: "over", qualityOf: (name) => `quality of the last ${name}`, newest: "Newest moment", moment: "Moment", output: "Output", course: "What the model said",
  added: "What each channel added", inside: "Inside the model", asking: "asking", more: "more", less: "less", all: "all of it",
  logInFirst: "Log in on the live page first.", before: (x) => `${x.toFixed(1)} s before the newest sample`,
  answer: (name, score) => `At this moment: ${name} ${score.toFixed(3)}.`,
  again: (warm, off) => `The last seconds were fed to the compiled model once more, after ${warm.toFixed(1)} s before them to find its states; `
    + `the answer then and now differ by ${off < 1e-6 ? "less than 0.000001" : off.toPrecision(2)}.`
    + (off > 0.02 ? " That is much: what stands here may not be what happened then." : ""),
  occlusion: "For each field the channel was replaced by its mean over that stretch of time, and the model ran again: the number is what the "
    + "output loses by it. Blue: the channel spoke for this output there; orange: against it. It says what this model used, not what is wrong with a "
    + "patient; channels that say the same hide each other, and a signal at its mean is one the model may never have seen.",
  heat: "Every row is a unit, time runs to the right and ends at the moment. Gates go from 0 (closed) to 1 (open); states and candidates are signed. "
    + "Units have no meaning of their own.",
  noGates: "Gates are not shown: start the monitor with --reference FILE, the same model compiled with --target reference.",
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
  turns: "Turns", repetitions: "Repetitions", repetition_time: "Repetition", quality: "Quality",
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
