// Light, dark, or as the system has it; remembered in this browser.

import { el } from "./dom.js";

const KEY = "relay.theme";
const CHOICES = [
  ["system", "System"],
  ["light", "Light"],
  ["dark", "Dark"],
];

/** Apply what was chosen before. */
export function applyTheme(choice = localStorage.getItem(KEY) ?? "system") {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
}

/** The switch. */
export function themeSwitch() {
  const chosen = localStorage.getItem(KEY) ?? "system";
  const choose = (event) => {
    localStorage.setItem(KEY, event.target.value);
    applyTheme(event.target.value);
  };
  const options = CHOICES.map(([value, label]) => el("option", { value, selected: value === chosen }, label));
  return el("select", { class: "quiet", "aria-label": "Colours", onchange: choose }, options);
}
