// A file as hexadecimal numbers: of any size, read where it is looked at.

import { h } from "./dom.js";
import { Rows } from "./rows.js";

const WIDTH = 16; // bytes in a row
const PIECE = 64 << 10; // bytes read at once
const KEPT = 64; // pieces

export function hexLine(bytes, offset) {
  const digits = Array.from({ length: WIDTH }, (_, at) => (at < bytes.length ? bytes[at].toString(16).padStart(2, "0") : "  "));
  const letters = Array.from(bytes, (byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
  return `${offset.toString(16).padStart(8, "0")}  ${digits.slice(0, 8).join(" ")}  ${digits.slice(8).join(" ")}  ${letters}`;
}

// `read(offset, length)` gives a promise of an ArrayBuffer.
export function hexView(total, read) {
  const pieces = new Map(); // by number; undefined while it is read
  const rows = new Rows({
    height: () => 20,
    make: () => h("pre.row.hex", { role: "row" }),
    label: "Content as hexadecimal numbers",
    role: "grid",
    fill: (row, index) => {
      const offset = index * WIDTH;
      const piece = pieceAt(Math.floor(offset / PIECE));
      const inside = offset % PIECE;
      row.textContent = piece ? hexLine(piece.subarray(inside, inside + WIDTH), offset) : offset.toString(16).padStart(8, "0");
    },
  });
  rows.count = Math.ceil(total / WIDTH);
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
