// The page's requests to a server that runs the verbs itself (tarbox_browser): what is in work, what is sent with it, and what becomes of
// it when the connection is lost. Knows no socket: whoever has one hands in what arrives, and says when it opens and when it is lost.

import { Answer } from "./answer.js";

const TOGETHER = 7; // in work at once: the server takes 8, of which one is the ping's
const LONGEST = 1 << 20; // characters of a request's words, as the server takes them
const PATIENCE = 120_000; // ms for which a request waits for the socket to open
const ATTEMPTS = 8; // at one request, each of which the connection may end
const AGAIN = new Set(["archive", "chmod", "download", "list", "read", "search", "stat", "tenant", "upload", "write"]); // may be done twice

const WORDS = {
  cancelled: "cancelled",
  connection: "the server cannot be reached",
  stale: "the connection was lost: the listing must begin anew",
  usage: "too many names at once",
  unknown: "the connection was lost: nobody knows whether it was done",
};

// One request. `args` and `content` (a Blob, or null) as the page gave them.
class Request {
  sent = false;
  tries = 0;
  cancelled = false;
  failure = null; // what ended it here, while the server clears away
  taken = null; // the refusal of a name that the request itself may have taken, the time before; it is looked at

  constructor({ id, verb, args = {}, data, file }) {
    Object.assign(this, { id, verb, args });
    this.content = file ?? (data === undefined ? null : new Blob([data]));
    this.answer = Answer.of(verb);
  }

  get again() {
    return AGAIN.has(this.verb) || (this.verb === "mkdir" && this.args.parents === true);
  }

  // Whether a refusal may be the request's own doing, and shows by its marks.
  mayHold(error) {
    const marked = this.verb === "upload" || (this.verb === "write" && this.content?.size === 0);
    return marked && this.tries > 1 && error?.code === "EEXIST";
  }

  // Whether this is what it was to put there.
  holds({ kind, size, mtime }) {
    return kind === "file" && size === this.content.size && mtime === (this.args.mtime ?? mtime);
  }
}

// What the server is asked for a request.
function asked({ id, verb, args, content, taken }) {
  if (taken !== null) return { id, verb: "stat", args: { path: args.path } };
  if (verb === "more") return { id, verb, args: { ...args, cursor: args.cursor.split(":")[1] } };
  return { id, verb, args, bytes: content?.size }; // left out where there is none
}

export class Requests {
  #all = new Map(); // by id, in the order they were asked
  #open = false;
  #refusal = null;
  #sockets = 0; // that have been open: a listing is read on by the one that it began with

  // `say(text or bytes)` sends to the server.
  constructor(say) {
    this.say = say;
  }

  get waiting() {
    return this.#all.size > 0;
  }

  ask(message) {
    const request = new Request(message);
    this.#all.set(request.id, request);
    if (this.#refusal !== null) this.#fail(request, "connection", this.#refusal);
    else if (this.#open) this.#next();
    else this.#wait(request);
  }

  // End a request: what it began is cleared away, and then its answer is the error `cancelled`.
  cancel(id) {
    const request = this.#all.get(id);
    if (request === undefined) return;
    request.cancelled = true;
    if (request.sent) this.say(JSON.stringify({ cancel: id }));
    else this.#fail(request, "cancelled");
  }

  // --- the socket

  // There is one that may open, whatever became of others.
  opening() {
    this.#refusal = null;
  }

  opened() {
    this.#open = true;
    this.#sockets++;
    this.#next();
  }

  received(data) {
    if (typeof data === "string") this.#told(JSON.parse(data));
    else this.#all.get(new DataView(data).getUint32(0))?.answer?.put(new Uint8Array(data, 4));
  }

  // What was in work is over, on the server as well.
  lost() {
    this.#open = false;
    for (const request of [...this.#all.values()]) {
      if (request.sent) this.#broken(request);
      if (this.#all.has(request.id)) this.#wait(request);
    }
  }

  // The server lets this client in no more.
  refused(words) {
    this.#open = false;
    this.#refusal = words;
    for (const request of [...this.#all.values()]) this.#fail(request, "connection", words);
  }

  #broken(request) {
    request.sent = false;
    if (request.cancelled) this.#fail(request, "cancelled");
    else if (request.failure !== null) this.#end(request, { error: request.failure });
    else if (request.verb === "more") this.#fail(request, "stale");
    else if (!request.again) this.#fail(request, "unknown");
    else if (request.tries >= ATTEMPTS) this.#fail(request, "connection", "the connection was lost again and again");
    else {
      request.answer = Answer.of(request.verb);
      self.postMessage({ event: "again", id: request.id }); // what was told of it holds no longer
    }
  }

  #wait(request) {
    clearTimeout(request.timer);
    request.timer = setTimeout(() => this.#fail(request, "connection"), PATIENCE);
  }

  // --- to the server

  #next() {
    let room = TOGETHER;
    for (const request of [...this.#all.values()]) {
      if (request.sent) room--;
    }
    for (const request of [...this.#all.values()]) {
      if (room <= 0) return;
      if (!request.sent && this.#send(request)) room--;
    }
  }

  // Whether it is in work now.
  #send(request) {
    if (request.verb === "more" && !request.args.cursor.startsWith(`${this.#sockets}:`)) {
      this.#fail(request, "stale");
      return false;
    }
    const words = JSON.stringify(asked(request));
    if (words.length > LONGEST) {
      this.#fail(request, "usage");
      return false;
    }
    clearTimeout(request.timer);
    request.sent = true;
    request.tries++;
    this.say(words);
    return true;
  }

  // A piece of the content, which the server asks for.
  async #give(request, { offset, length }) {
    const socket = this.#sockets;
    const message = new Uint8Array(4 + length);
    new DataView(message.buffer).setUint32(0, request.id);
    try {
      message.set(new Uint8Array(await request.content.slice(offset, offset + length).arrayBuffer()), 4);
    } catch (error) {
      if (socket !== this.#sockets || !this.#open) return;
      request.failure = { code: "failed", message: String(error.message ?? error), errno: null }; // it cannot be read on this computer
      this.say(JSON.stringify({ cancel: request.id }));
      return;
    }
    if (socket === this.#sockets && this.#open && this.#all.has(request.id)) this.say(message);
  }

  // --- from the server

  #told(message) {
    const request = this.#all.get(message.id);
    if (message.event === "want") {
      if (request !== undefined) this.#give(request, message);
    } else if (message.event !== undefined) {
      if (message.id === undefined || request !== undefined) self.postMessage(message);
    } else if (request !== undefined) {
      this.#answered(request, message); // else it is the ping's
    }
  }

  #answered(request, { result, error }) {
    const { taken } = request;
    if (request.failure !== null) this.#end(request, { error: request.failure });
    else if (taken !== null) this.#end(request, result !== undefined && request.holds(result) ? { result } : { error: taken });
    else if (request.mayHold(error)) {
      request.taken = error;
      this.#send(request);
      return;
    } else if (error !== undefined) this.#end(request, { error });
    else if (result.cursor) this.#end(request, { result: { ...result, cursor: `${this.#sockets}:${result.cursor}` } });
    else this.#end(request, { result });
    this.#next();
  }

  #fail(request, code, message = WORDS[code]) {
    this.#end(request, { error: { code, message, errno: null } });
  }

  #end(request, answer) {
    clearTimeout(request.timer);
    this.#all.delete(request.id);
    const message = { id: request.id, ...answer };
    if (request.answer === null) self.postMessage(message);
    else request.answer.post(message);
  }
}
