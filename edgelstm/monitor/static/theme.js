// Light, dark, dark for a ward at night; kept in this browser.
const THEMES = ["auto", "light", "dark", "night"];
const KEY = "edgelstm-theme";

export function setUpTheme(button, changed = () => {}) {
  const apply = (name) => {
    document.documentElement.dataset.theme = name;
    button.setAttribute("aria-label", `Theme: ${name}`);
    button.title = `Theme: ${name}`;
    changed();
  };
  let now = "auto";
  try { now = localStorage.getItem(KEY) || "auto"; } catch { /* private windows keep nothing */ }
  apply(THEMES.includes(now) ? now : "auto");
  const next = () => {
    const name = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    try { localStorage.setItem(KEY, name); } catch { /* the same */ }
    apply(name);
  };
  button.addEventListener("click", next);
  return next;
}
