// The Web Worker of a page whose token is for a path alone: the server runs the verbs (docs/security.md), so there is no Python here. The
// page asks it as it asks worker.js, and is answered in the same way. Beside that:
//
// The event `again` says of a request that it is asked once more, because the connection was lost: what was told of it until then holds no
// longer. The error `stale` answers `more` where the listing began with a connection that is lost.

import { Requests } from "./requests.js";
import { Socket } from "./socket.js";

let socket;
let pings = 2 ** 32; // their ids, from those down that the page comes to last
const requests = new Requests((message) => socket.send(message));

function open(url) {
  requests.opening();
  socket = new Socket(url, {
    opened: () => requests.opened(),
    received: (data) => requests.received(data),
    lost: () => requests.lost(),
    refused: (words) => requests.refused(words),
    owed: () => requests.waiting,
    ping: () => JSON.stringify({ id: --pings, verb: "tenant" }),
  });
}

self.onmessage = ({ data: message }) => {
  if (message.wake) {
    socket?.probe();
  } else if (message.cancel !== undefined) {
    requests.cancel(message.cancel);
  } else if (message.verb === "open") {
    open(message.args.url);
    requests.ask({ id: message.id, verb: "tenant" });
  } else {
    requests.ask(message);
  }
};

self.postMessage({ event: "started", ms: performance.now() });
