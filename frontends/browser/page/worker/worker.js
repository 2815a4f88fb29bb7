// The Web Worker: Pyodide with the core, the socket to the gateway, and the page's requests between the two.
//
// The page posts {id, verb, args, data?, file?} and gets one {id, result, data?, file?} or {id, error: {code, message, errno}}
// for each; `data` is an ArrayBuffer that is transferred, `file` a Blob. {cancel: id} ends a request. {wake: true} says that the page was
// asleep perhaps: the connection is looked at. Events come without having been asked for: {event, ...}, with `id` where they belong to a
// request. The first request is {verb: "open", args: {url}}, with the gateway's address; it is answered as `tenant`. After a connection
// was refused, another `open` begins a new one. tarbox_worker/verbs.py says what the verbs are.
//
// Events about no request: `started` with the ms it took, or `broken` with a message; `connection` with a `state` (socket.js);
// `changed` with `inos`, `names`, `moved` and `lost` (tarbox_worker/main.py).

import { createBLAKE3 } from "hash-wasm";
import { Answer } from "./answer.js";
import { startPython } from "./python.js";
import { Socket } from "./socket.js";

// UNDO of a transaction that nobody began (docs/gateway.md), under a number that the core comes to last: it costs nothing and is answered.
const PING = Uint8Array.of(0, 0, 0, 9, 3, 255, 255, 255, 255, 255, 255, 255, 255);

const waiting = new Map(); // by request that is not answered, its Answer or null
let python; // a promise of tarbox_worker.main's Worker
let socket;

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
    if (message.event === undefined) answer(message);
    else self.postMessage(message);
  }

  // Bytes of an answer that is not there yet.
  put(id, bytes) {
    const view = bytes.getBuffer("u8");
    const part = view.data.slice();
    view.release();
    waiting.get(id).put(part);
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

function answer(message) {
  const found = waiting.get(message.id);
  waiting.delete(message.id);
  if (found) found.post(message);
  else self.postMessage(message);
}

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
    owed: () => waiting.size > 0,
    ping: () => PING,
  });
}

self.onmessage = async ({ data: message }) => {
  if (message.wake) {
    socket?.probe();
    return;
  }
  if (message.cancel !== undefined) {
    (await python)?.cancel(message.cancel);
    return;
  }
  const { id, verb, args = {}, data, file } = message;
  try {
    if (verb === "open") open(args.url);
    waiting.set(id, Answer.of(verb));
    const [asked, words] = verb === "open" ? ["tenant", {}] : [verb, args];
    (await python).ask(id, asked, JSON.stringify(words), data === undefined ? undefined : new Uint8Array(data), file);
  } catch (error) {
    answer({ id, error: { code: "internal", message: String(error.message ?? error), errno: null } });
  }
};

python = start();
python.then(
  () => self.postMessage({ event: "started", ms: performance.now() }),
  (error) => self.postMessage({ event: "broken", message: String(error.message ?? error) }),
);
