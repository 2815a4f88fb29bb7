// A file as hexadecimal numbers: of any size, read where it is looked at.

import { h, phone } from "./dom.js";
import { Rows } from "./rows.js";

const WIDTH = 16; // bytes in a row, where there is room
const NARROW = 8;
const PIECE = 64 << 10; // bytes read at once
const KEPT = 64; // pieces

// The parts of a row: where it is, the numbers in groups of eight, and what they are as letters.
export function hexParts(bytes, offset, width = WIDTH) {
  const digits = Array.from({ length: width }, (_, at) => (at < bytes.length ? bytes[at].toString(16).padStart(2, "0") : "  "));
  const groups = Array.from({ length: width / 8 }, (_, at) => digits.slice(at * 8, at * 8 + 8).join(" "));
  const letters = Array.from(bytes, (byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
  return [hexOffset(offset), `  ${groups.join("  ")}  `, letters];
}

function hexOffset(offset) {
  return offset.toString(16).padStart(8, "0");
}

// `read(offset, length)` gives a promise of an ArrayBuffer.
export function hexView(total, read) {
  const width = phone.matches ? NARROW : WIDTH;
  const pieces = new Map(); // by number; undefined while it is read
  const rows = new Rows({
    height: () => 20,
    make: () =>
      h(
        "pre.row.hex",
        { role: "row" },
        ["offset", "digits", "letters"].map((kind) => h(`span.${kind}`, { role: "gridcell" })),
      ),
    label: "Content as hexadecimal numbers",
    role: "grid",
    fill: (row, index) => {
      const offset = index * width;
      const piece = pieceAt(Math.floor(offset / PIECE));
      const inside = offset % PIECE;
      const parts = piece ? hexParts(piece.subarray(inside, inside + width), offset, width) : [hexOffset(offset), "", ""];
      for (const [at, words] of parts.entries()) row.children[at].textContent = words;
    },
  });
  rows.count = Math.ceil(total / width);
  rows.element.classList.add("hexes");

  function pieceAt(number) {
    if (!pieces.has(number)) {
      pieces.set(number, undefined);
      if (pieces.size > KEPT) pieces.delete(pieces.keys().next().value);
      read(number * PIECE, PIECE).then(
        (buffer) => {
          pieces.set(number, new Uint8Array(buffer));
          rows.draw();
        },
        () => pieces.delete(number), // read again when it is looked at again
      );
    }
    return pieces.get(number);
  }
  rows.draw();
  return rows.element;
}
