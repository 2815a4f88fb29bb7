// The worker as the rest of the page sees it: verbs that are asked, and events that are told.

export class Failure extends Error {
  constructor({ code, message, errno }) {
    super(message);
    this.code = code;
    this.errno = errno;
  }
}

export class Client {
  #worker;
  #waiting = new Map();
  #listeners = new Map();
  #last = 0;
  #over = new AbortController();

  constructor(address) {
    this.#worker = new Worker(address, { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#received(data);
    this.#worker.onerror = () => this.#tell("broken", { message: "the worker could not be started" });
    const wake = () => document.visibilityState === "visible" && this.#worker.postMessage({ wake: true });
    document.addEventListener("visibilitychange", wake, { signal: this.#over.signal });
  }

  // What is asked is not answered any more.
  end() {
    this.#over.abort();
    this.#worker.terminate();
  }

  // A verb's answer: {result, data, file}. `more`: `data` (an ArrayBuffer, which is given away) or `file` that go along, `signal` that
  // ends it, `tell` that takes the events about it.
  ask(verb, args = {}, { data, file, signal, tell } = {}) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      const cancel = () => this.#worker.postMessage({ cancel: id });
      this.#waiting.set(id, { resolve, reject, tell, over: () => signal?.removeEventListener("abort", cancel) });
      this.#worker.postMessage({ id, verb, args, data, file }, data === undefined ? [] : [data]);
      if (signal?.aborted) cancel();
      else signal?.addEventListener("abort", cancel);
    });
  }

  async told(verb, args, more) {
    return (await this.ask(verb, args, more)).result;
  }

  // Events about no request: connection, changed, started, broken.
  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, []);
    this.#listeners.get(event).push(listener);
  }

  #tell(event, message) {
    for (const listener of this.#listeners.get(event) ?? []) listener(message);
  }

  #received(message) {
    const waiting = this.#waiting.get(message.id);
    if (message.event !== undefined) {
      if (message.id === undefined) this.#tell(message.event, message);
      else waiting?.tell?.(message);
      return;
    }
    this.#waiting.delete(message.id);
    waiting.over();
    if (message.error === undefined) waiting.resolve(message);
    else waiting.reject(new Failure(message.error));
  }
}
