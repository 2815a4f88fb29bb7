// What a file's bytes are: text that can be edited and written back byte for byte, an image to be drawn, or neither.

import { endingOf } from "./paths.js";
import { RASTER } from "./format.js";

export const TEXT_MAX = 8 << 20; // bytes of a file that is opened as text
export const IMAGE_MAX = 64 << 20;
const PROBED = 8000; // bytes in which a NUL makes it binary, as in the core

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// The text, or null where the bytes are none. `cut`: more bytes follow, which may end a character.
export function textOf(buffer, cut = false) {
  const bytes = new Uint8Array(buffer);
  if (bytes.subarray(0, PROBED).includes(0)) return null;
  for (let back = 0; back <= (cut ? 3 : 0); back++) {
    try {
      return strict.decode(bytes.subarray(0, bytes.length - back));
    } catch {
      // a character may have been cut
    }
  }
  return null;
}

const MAGIC = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/gif", [0x47, 0x49, 0x46, 0x38]],
  ["image/bmp", [0x42, 0x4d]],
  ["image/x-icon", [0, 0, 1, 0]],
];

// The type of a raster image: by its first bytes, and for two kinds by its name, too. null: it is none.
export function rasterOf(name, buffer) {
  const bytes = new Uint8Array(buffer, 0, Math.min(16, buffer.byteLength));
  const found = MAGIC.find(([, magic]) => magic.every((byte, at) => bytes[at] === byte));
  const word = (from) => String.fromCharCode(...bytes.subarray(from, from + 4));
  if (word(0) === "RIFF" && word(8) === "WEBP") return "image/webp";
  if (word(4) === "ftyp" && endingOf(name) === "avif") return "image/avif";
  return found && endingOf(name) in RASTER ? found[0] : null;
}
