// The Web Worker: Pyodide with the core, the socket to the gateway, and the page's requests between the two.
//
// The page posts {id, verb, args, data?, file?} and gets one {id, result, data?, file?} or {id, error: {code, message, errno}}
// for each; `data` is an ArrayBuffer that is transferred, `file` a Blob. {cancel: id} ends a request. Events come without having
// been asked for: {event, ...}, with `id` where they belong to a request. The first request is {verb: "open", args: {url}}, with
// the gateway's address; it is answered as `tenant`. After a connection was refused, another `open` begins a new one. tarbox_worker/verbs.py says what the verbs are.
//
// Events about no request: `started` with the ms it took, or `broken` with a message; `connection` with a `state` (socket.js);
// `changed` with `inos`, `names`, `moved` and `lost` (tarbox_worker/main.py).

import { createBLAKE3 } from "hash-wasm";
import { startPython } from "./python.js";
import { Socket } from "./socket.js";

const COMPACT = 1 << 20; // bytes of an answer beyond which they wait in blobs, which are no part of this worker's memory

const answers = new Map(); // by request, what belongs to its answer: {parts, waiting, size, blob}
let python; // a promise of tarbox_worker.main's Worker
let socket;

function post(message, transfer = []) {
  self.postMessage(message, transfer);
}

class Host {
  constructor(hasher) {
    this.hasher = hasher;
  }

  send(frame) {
    const view = frame.getBuffer("u8");
    try {
      socket.send(view.data);
    } finally {
      view.release();
    }
  }

  // An answer or an event, as JSON.
  post(text) {
    const message = JSON.parse(text);
    const answer = message.event === undefined ? answers.get(message.id) : undefined;
    if (answer === undefined) {
      post(message);
      return;
    }
    answers.delete(message.id);
    if (message.error !== undefined) {
      post(message);
    } else if (answer.blob) {
      post({ ...message, file: new Blob([...answer.parts, ...answer.waiting]) });
    } else {
      const data = joined(answer.waiting, answer.size);
      post({ ...message, data }, [data]);
    }
  }

  // Bytes of an answer that is not there yet.
  put(id, bytes) {
    const view = bytes.getBuffer("u8");
    const part = view.data.slice();
    view.release();
    const answer = answers.get(id);
    answer.waiting.push(part);
    answer.size += part.length;
    if (answer.blob && (answer.held += part.length) >= COMPACT) {
      answer.parts.push(new Blob(answer.waiting));
      answer.waiting = [];
      answer.held = 0;
    }
  }

  digest(bytes) {
    const view = bytes.getBuffer("u8");
    try {
      return this.hasher.init().update(view.data).digest("binary");
    } finally {
      view.release();
    }
  }
}

function joined(parts, size) {
  if (parts.length === 1) return parts[0].buffer;
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole.buffer;
}

// What a verb answers beside its result.
const BYTES = { read: false, download: true, archive: true }; // whether as a blob

async function start() {
  const [main, hasher] = await Promise.all([startPython(), createBLAKE3()]);
  return main.begin(new Host(hasher));
}

function open(url) {
  socket = new Socket(url, {
    opened: async () => (await python).opened(),
    received: async (data) => (await python).received(new Uint8Array(data)),
    lost: async () => (await python).lost(),
    refused: async (words) => (await python).refused(words),
    state: (state) => post({ event: "connection", ...state }),
  });
}

self.onmessage = async ({ data: message }) => {
  if (message.cancel !== undefined) {
    (await python)?.cancel(message.cancel);
    return;
  }
  const { id, verb, args = {}, data, file } = message;
  try {
    if (verb === "open") open(args.url);
    if (verb in BYTES) answers.set(id, { blob: BYTES[verb], parts: [], waiting: [], size: 0, held: 0 });
    const [asked, words] = verb === "open" ? ["tenant", {}] : [verb, args];
    (await python).ask(id, asked, JSON.stringify(words), data === undefined ? undefined : new Uint8Array(data), file);
  } catch (error) {
    answers.delete(id);
    post({ id, error: { code: "internal", message: String(error.message ?? error), errno: null } });
  }
};

python = start();
python.then(
  () => post({ event: "started", ms: performance.now() }),
  (error) => post({ event: "broken", message: String(error.message ?? error) }),
);
