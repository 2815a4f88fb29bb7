// Paths: from the root, as text in which a byte that is not UTF-8 is a lone surrogate. And how they stand in addresses.

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function join(folder, name) {
  return folder === "/" ? `/${name}` : `${folder}/${name}`;
}

export function parentOf(path) {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

export function nameOf(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

// Whether a path is `top` or below it.
export function within(path, top) {
  return path === top || path.startsWith(top === "/" ? "/" : `${top}/`);
}

// What people typed: from `here` where it does not begin at the root, without dots and doubled slashes.
export function resolved(typed, here) {
  const parts = [];
  for (const part of (typed.startsWith("/") ? typed : `${here}/${typed}`).split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

// The words before the ending, and the ending with its dot.
export function split(name) {
  const dot = name.lastIndexOf(".");
  return dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
}

export function endingOf(name) {
  return split(name)[1].slice(1).toLowerCase();
}

// "a.txt" is followed by "a 2.txt".
export function nextName(name) {
  const [stem, ending] = split(name);
  const numbered = /^(.*) (\d+)$/s.exec(stem);
  return numbered ? `${numbered[1]} ${Number(numbered[2]) + 1}${ending}` : `${stem} 2${ending}`;
}

export function encode(path) {
  return path.split("/").map(encodePart).join("/");
}

function encodePart(part) {
  const pieces = part.split(/([\udc80-\udcff])/u);
  return pieces.map((piece, at) => (at % 2 ? `%${(piece.charCodeAt(0) & 0xff).toString(16)}` : encodeURIComponent(piece))).join("");
}

export function decode(address) {
  return address.replace(/(?:%[0-9a-f]{2})+/gi, (run) => {
    const bytes = Uint8Array.from(run.slice(1).split("%"), (digits) => parseInt(digits, 16));
    let told = "";
    for (let at = 0; at < bytes.length;) {
      const length = [1, 2, 3, 4].find((count) => readable(bytes.subarray(at, at + count)));
      told += length ? strict.decode(bytes.subarray(at, at + length)) : String.fromCharCode(0xdc00 + bytes[at]);
      at += length ?? 1;
    }
    return told;
  });
}

function readable(bytes) {
  try {
    strict.decode(bytes);
    return true;
  } catch {
    return false;
  }
}
