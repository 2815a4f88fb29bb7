// A WebSocket that opens again when it is lost, until the server says that there is no use. One from which nothing comes is lost, too,
// though the browser was not told: a cable was pulled, a laptop slept. The page is told how it stands by the event `connection`.

const FIRST = 250; // ms before the first further try; doubled each time
const LONGEST = 8000;
const LOOK = 2000; // ms between two looks whether the connection lives
const QUIET = 6000; // ms without a word, while answers are owed, after which it is asked for one
const PATIENCE = 10_000; // ms for that word, and for a handshake
const MOST = 240_000; // what patience grows to where it ended a connection that was only slow
const FINAL = new Map([
  [4401, "this session has ended"],
  [4403, "this session does not open this tenant"],
]);

const EVERYTHING = { inos: [], names: true, moved: false, lost: true };

let opened = 0; // sockets, ever

// `connection`: `state` is "open", "lost" with the ms until it is tried again, or "refused" with a message.
function tell(event, more) {
  self.postMessage({ event, ...more });
}

export class Socket {
  #stands = "opening"; // then "open", "down", and after a refusal "over": another socket may follow, but not by itself
  #tries = 0;
  #patience = PATIENCE;
  #heard = 0; // when the last word came
  #asked = null; // when a word was asked for that has not come
  #sent = 0; // bytes in all, and of them
  #taken = 0; // those that the browser had no more when it was looked last

  // `listener`: opened(), received(text or ArrayBuffer), lost(), refused(words); owed(), whether answers are waited for; and ping(), a
  // message that the server answers whatever it does.
  constructor(url, listener) {
    this.url = url;
    this.listener = listener;
    self.addEventListener("offline", () => this.#closed(this.socket, 1006));
    self.addEventListener("online", () => this.probe());
    this.looking = setInterval(() => this.#look(), LOOK);
    this.#connect();
  }

  // What is sent when it is lost already is lost with it: `lost` comes.
  send(data) {
    if (this.#stands !== "open") return;
    const before = this.socket.bufferedAmount;
    this.socket.send(data);
    this.#sent += this.socket.bufferedAmount - before;
  }

  // There is reason to look again: ask for a word where it seems open, and do not wait where it is lost.
  probe() {
    if (this.#stands === "down") this.#soon(0);
    if (this.#stands !== "open" || this.#asked !== null) return;
    this.#asked = performance.now();
    this.send(this.listener.ping());
  }

  #connect() {
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.#stands = "opening";
    this.#heard = performance.now();
    socket.onopen = () => {
      this.#stands = "open";
      this.#tries = this.#sent = this.#taken = 0;
      this.#heard = performance.now();
      this.#asked = null;
      this.listener.opened();
      tell("connection", { state: "open" });
      if (opened++) tell("changed", EVERYTHING); // nobody told what changed meanwhile
    };
    socket.onmessage = ({ data }) => {
      this.#heard = performance.now();
      if (this.#asked !== null && this.#heard - this.#asked < PATIENCE) this.#patience = PATIENCE;
      this.#asked = null;
      this.listener.received(data);
    };
    socket.onclose = ({ code }) => this.#closed(socket, code);
  }

  #look() {
    const now = performance.now();
    if (this.#stands === "opening" && now - this.#heard > PATIENCE) this.#closed(this.socket, 1006);
    if (this.#stands !== "open") return;
    const taken = this.#sent - this.socket.bufferedAmount;
    if (this.socket.bufferedAmount && taken > this.#taken) this.#heard = now; // what is long goes out, piece by piece
    this.#taken = taken;
    if (this.#asked === null) {
      if (now - this.#heard > QUIET && this.listener.owed()) this.probe();
    } else if (now - Math.max(this.#asked, this.#heard) > this.#patience) {
      this.#patience = Math.min(MOST, 2 * this.#patience); // a long answer may be on its way, of which nothing shows until it is whole
      this.#closed(this.socket, 1006);
    }
  }

  // The browser may take minutes to close what nobody answers: it is left to that.
  async #closed(socket, code) {
    if (socket !== this.socket || !["opening", "open"].includes(this.#stands)) return;
    const open = this.#stands === "open";
    this.#stands = "closing";
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    if (open) this.listener.lost();
    const refusal = FINAL.get(code) ?? (open ? undefined : await this.#refusal());
    if (refusal !== undefined) {
      this.#stands = "over";
      clearInterval(this.looking);
      this.listener.refused(refusal);
      tell("connection", { state: "refused", message: refusal });
      return;
    }
    this.#stands = "down";
    const pause = Math.min(LONGEST, FIRST * 2 ** this.#tries++) * (0.5 + Math.random() / 2);
    tell("connection", { state: "lost", retryIn: Math.round(pause) });
    this.#soon(pause);
  }

  // Why there is no socket, where that will not change: a browser does not tell how it was refused. The session may have become another
  // one's, by another tab: each door is for tokens with a path, or for those without.
  async #refusal() {
    const [, door, name] = new URL(this.url).pathname.split("/");
    try {
      const answer = await fetch("/session", { signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) return answer.status === 401 ? FINAL.get(4401) : undefined;
      const { tenants } = await answer.json();
      if (!tenants.length) return FINAL.get(4401);
      const tenant = tenants.find((each) => each.name === decodeURIComponent(name));
      return tenant && (tenant.path !== null) === (door === "verbs") ? undefined : FINAL.get(4403);
    } catch {
      return undefined;
    }
  }

  #soon(pause) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (this.#stands === "down") this.#connect();
    }, pause);
  }
}
