// A glance at a file: its beginning as text, a raster image, or its first bytes. Nothing of a file is ever run or laid out as a document.

import { h } from "./dom.js";
import { count, iconOf, kindOf, RASTER, rights, size, time } from "./format.js";
import { icon } from "./icons.js";
import { hexParts } from "./hex.js";
import { IMAGE_MAX, rasterOf, textOf } from "./content.js";
import { endingOf } from "./paths.js";

const SHOWN = 32 << 10; // bytes of text
const BYTES = 512; // of what is none
const WIDTH = 8; // of them in a row

export async function showPreview(element, explorer, path, entry, signal) {
  const { layer } = explorer.place;
  element.append(h("div.glance", {}, await glance(explorer, path, layer, entry, signal)), facts(explorer, entry));
}

function facts(explorer, entry) {
  const words = entry.kind === "file" ? `${kindOf(entry)} · ${size(entry.size)}` : kindOf(entry);
  return h("p.facts", {}, words, h("br"), `Modified: ${time(entry.mtime)}`, h("br"), h("code", {}, rights(entry.mode)));
}

async function glance({ client, whole }, path, layer, entry, signal) {
  if (entry.kind === "link") {
    const { target, leadsTo } = await client.told("stat", { path, layer, follow: false });
    const end = leadsTo ? "" : whole ? ", where nothing is" : ", where nothing is that this token opens";
    return h("p.note", {}, icon("link"), h("span", {}, `leads to ${target}${end}`));
  }
  if (entry.kind === "directory") {
    const { entries, cursor } = await client.told("list", { path, layer });
    const words = cursor ? `More than ${count(entries.length, "entry", "entries")}` : count(entries.length, "entry", "entries");
    return h("p.note", {}, icon("folder"), h("span", {}, words));
  }
  if (entry.kind !== "file" || !entry.size)
    return h("p.note", {}, icon(iconOf(entry)), h("span", {}, entry.kind === "file" ? "Empty" : kindOf(entry)));
  const image = endingOf(entry.name) in RASTER && entry.size <= IMAGE_MAX;
  const length = image ? entry.size : Math.min(entry.size, SHOWN);
  const { data } = await client.ask("read", { path, layer, length }, { signal });
  const type = rasterOf(entry.name, data);
  if (type) {
    const url = URL.createObjectURL(new Blob([data], { type }));
    signal.addEventListener("abort", () => URL.revokeObjectURL(url));
    return h("img", { src: url, alt: entry.name });
  }
  const text = textOf(data, length < entry.size);
  if (text !== null) return h("pre.text", { tabindex: "0" }, text, length < entry.size && h("span.more", {}, "\n…"));
  const bytes = new Uint8Array(data).subarray(0, BYTES);
  const lines = Array.from({ length: Math.ceil(bytes.length / WIDTH) }, (_, at) =>
    hexParts(bytes.subarray(at * WIDTH, (at + 1) * WIDTH), at * WIDTH, WIDTH).join(""),
  );
  return h("pre.hex", { tabindex: "0" }, lines.join("\n"));
}
