// Light or dark: as the system is, until it is chosen here.

import { keep, recall } from "./dom.js";

const KEY = "tarbox-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

export function applyTheme() {
  const chosen = recall(localStorage, KEY);
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
}

export function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : dark.matches;
}

// The other one; what the system has is followed again.
export function switchTheme() {
  const wanted = isDark() ? "light" : "dark";
  keep(localStorage, KEY, (wanted === "dark") === dark.matches ? null : wanted);
  applyTheme();
}
