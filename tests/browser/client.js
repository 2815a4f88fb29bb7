// The page of the worker's tests: `ask(verb, args, more)` for a promise of {result, data, file}, `events` with all that were told.
const waiting = new Map();
let count = 0;

window.events = [];
window.worker = new Worker(document.currentScript.dataset.worker, { type: "module" });
window.began = performance.now();
worker.onmessage = ({ data: message }) => {
  if (message.event !== undefined) {
    events.push(message);
    return;
  }
  const { resolve, reject } = waiting.get(message.id);
  waiting.delete(message.id);
  if (message.error === undefined) resolve(message);
  else reject(Object.assign(new Error(`${message.error.code}: ${message.error.message}`), message.error));
};
window.ask = (verb, args = {}, more = {}) =>
  new Promise((resolve, reject) => {
    const id = ++count;
    window.last = id;
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, verb, args, ...more }, more.data === undefined ? [] : [more.data]);
  });
window.told = async (verb, args, more) => (await ask(verb, args, more)).result;
window.sha = async (data) =>
  Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", data)), (byte) => byte.toString(16).padStart(2, "0")).join("");
