// A WebSocket that opens again when it is lost, until the server says that there is no use.

const FIRST = 250; // ms before the first further try; doubled each time
const LONGEST = 8000;
const FINAL = new Map([
  [4401, "the session has ended"],
  [4403, "this session does not open this tenant"],
]);

export class Socket {
  #over = false; // refused: another socket may follow, but not by itself

  // `listener`: opened(), received(ArrayBuffer), lost(), refused(words), and state({state, ...}), in which state is "open",
  // "lost" with the ms until it is tried again, or "refused" with a message.
  constructor(url, listener) {
    this.url = url;
    this.listener = listener;
    this.tries = 0;
    self.addEventListener("offline", () => this.socket?.close());
    self.addEventListener("online", () => this.#soon(0));
    this.#connect();
  }

  // What is sent when it is lost already is lost with it: `lost` comes.
  send(data) {
    this.socket?.send(data);
  }

  #connect() {
    const socket = new WebSocket(this.url);
    let open = false;
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      open = true;
      this.tries = 0;
      this.listener.opened();
      this.listener.state({ state: "open" });
    };
    socket.onmessage = ({ data }) => this.listener.received(data);
    socket.onclose = async ({ code }) => {
      if (open) this.listener.lost();
      const refusal = FINAL.get(code) ?? (open ? undefined : await this.#refusal());
      this.socket = undefined;
      if (refusal !== undefined) {
        this.#over = true;
        this.listener.refused(refusal);
        this.listener.state({ state: "refused", message: refusal });
        return;
      }
      const pause = Math.min(LONGEST, FIRST * 2 ** this.tries++) * (0.5 + Math.random() / 2);
      this.listener.state({ state: "lost", retryIn: Math.round(pause) });
      this.#soon(pause);
    };
  }

  // Why there is no socket, where that will not change: a browser does not tell how it was refused.
  async #refusal() {
    try {
      const { status } = await fetch(new URL("/session", this.url.replace(/^ws/, "http")));
      return status === 401 ? FINAL.get(4401) : undefined;
    } catch {
      return undefined;
    }
  }

  #soon(pause) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (this.socket === undefined && !this.#over) this.#connect();
    }, pause);
  }
}
