// What people read: sizes, times, permissions, kinds.

import { endingOf } from "./paths.js";

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export function count(value, one, many = `${one}s`) {
  return `${number.format(value)} ${value === 1 ? one : many}`;
}

// Words of an error as they stand alone.
export function sentence(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}.`;
}

export function size(bytes) {
  if (bytes < 1024) return count(bytes, "byte");
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${UNITS[power]}`;
}

// A time of today by its hour, one of another day by that, too.
export function time(ms) {
  const then = new Date(ms);
  return then.toDateString() === new Date().toDateString() ? `Today, ${clock.format(then)}` : `${day.format(then)}, ${clock.format(then)}`;
}

export function fullTime(ms) {
  return exact.format(new Date(ms));
}

export function octal(mode) {
  return mode.toString(8).padStart(4, "0");
}

// As `ls -l` writes it, without the kind.
export function rights(mode) {
  const letters = [...Array(9).keys()].map((bit) => (mode & (0o400 >> bit) ? "rwx"[bit % 3] : "-"));
  for (const [bit, at, letter] of [
    [0o4000, 2, "s"],
    [0o2000, 5, "s"],
    [0o1000, 8, "t"],
  ]) {
    if (mode & bit) letters[at] = letters[at] === "x" ? letter : letter.toUpperCase();
  }
  return letters.join("");
}

// Types that browsers draw without running anything, by the ending of a name.
export const RASTER = {
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  avif: "image/avif",
  bmp: "image/bmp",
  ico: "image/x-icon",
};
const ARCHIVES = new Set("zip gz tgz bz2 xz zst tar 7z whl jar br".split(" "));
const TEXTS = new Set(
  (
    "txt md rst py js mjs ts tsx jsx json toml yaml yml ini cfg conf css html htm xml svg sql sh bash c h cc cpp hpp rs go java rb php lua csv tsv log " +
    "lock diff patch env"
  ).split(" "),
);

const KINDS = {
  txt: "Text",
  md: "Markdown",
  rst: "reStructuredText",
  py: "Python",
  js: "JavaScript",
  mjs: "JavaScript",
  ts: "TypeScript",
  css: "Style sheet",
  html: "HTML",
  c: "C",
  h: "C header",
  go: "Go",
  rs: "Rust",
  java: "Java",
  rb: "Ruby",
  sh: "Shell script",
  log: "Log",
  png: "PNG image",
  jpg: "JPEG image",
  jpeg: "JPEG image",
  gif: "GIF image",
  webp: "WebP image",
  svg: "SVG drawing",
  zip: "Zip archive",
  tar: "Tar archive",
  gz: "Gzip archive",
  pdf: "PDF",
};

export function iconOf(entry) {
  if (entry.kind === "directory") return "folder";
  if (entry.kind === "link") return "link";
  if (entry.kind !== "file") return "device";
  const ending = endingOf(entry.name);
  if (ending in RASTER) return "image";
  if (ARCHIVES.has(ending)) return "archive";
  return TEXTS.has(ending) ? "text" : "file";
}

export function kindOf(entry) {
  const ending = endingOf(entry.name);
  if (entry.kind === "file" && ending) return Object.hasOwn(KINDS, ending) ? KINDS[ending] : `${ending.toUpperCase()} file`;
  return { directory: "Folder", link: "Symbolic link", fifo: "Pipe", socket: "Socket", device: "Device", file: "File" }[entry.kind];
}

// What people call a layer: `one` as the worker tells it.
export function layerName(one) {
  return one.sealedAt === null ? "now" : one.label;
}

// As verbs take a layer: the open one is the tree as it is now.
export function layerOf(one) {
  return one.sealedAt === null ? null : one.id;
}

export const STATUS = { A: "Added", D: "Deleted", R: "Renamed", T: "Of another kind", M: "Modified", m: "Rights or owner changed" };
