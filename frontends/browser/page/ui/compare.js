// Two versions of a file, side by side in a window.

import { openWindow } from "./dialog.js";
import { h, phone } from "./dom.js";
import { size } from "./format.js";
import { nameOf } from "./paths.js";
import { part } from "./part.js";
import { TEXT_MAX, textOf } from "./content.js";

const editor = () => part(() => import("./editor.js"));

// Texts: {label, text} each.
export async function compareTexts(name, before, after) {
  await editor(); // before there is a window
  const body = h("div.sides", {});
  let end = () => {};
  openWindow({ title: name, kind: "wide.compare", content: body, close: () => end() });
  end = await drawSides(body, name, before, after);
}

// Fill an element; what ends it.
export async function drawSides(body, name, before, after) {
  const { drawDifference } = await editor();
  const host = h("div.merge", {});
  body.replaceChildren(h("div.labels", {}, h("span", {}, before.label), h("span", {}, after.label)), host);
  if (before.text === null || after.text === null) {
    host.append(h("p.note", {}, "This is no text, or too much of it: only the sizes can be compared here."));
    return () => {};
  }
  return drawDifference(host, before.text, after.text, name, phone.matches);
}

// A side by where it is: {label, path, layer}; a path of null is nothing at all.
export async function sideOf(client, { label, path, layer }) {
  if (path === null) return { label: `${label}: not there`, text: "" };
  const { size: length } = await client.told("stat", { path, layer });
  if (length > TEXT_MAX) return { label: `${label}: ${size(length)}`, text: null };
  const { data } = await client.ask("read", { path, layer });
  return { label: `${label}: ${size(length)}`, text: textOf(data) };
}

export async function compareFiles(client, before, after) {
  const sides = await Promise.all([sideOf(client, before), sideOf(client, after)]);
  await compareTexts(nameOf(after.path ?? before.path), ...sides);
}
