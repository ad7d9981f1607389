// Pages of the history: the theme, and printing.
import { setUpTheme } from "./theme.js";

setUpTheme(document.getElementById("theme"));
document.getElementById("print")?.addEventListener("click", () => window.print());
