// The bytes that belong to an answer: gathered as they come, and given to the page as one buffer or as a file.

const COMPACT = 1 << 20; // bytes beyond which those of a file wait in blobs, which are no part of this worker's memory
const FILES = { read: false, download: true, archive: true }; // verbs that answer bytes; whether as a file

export class Answer {
  #parts = []; // blobs
  #waiting = [];
  #held = 0; // bytes that wait
  #size = 0;

  constructor(file) {
    this.file = file;
  }

  // For a verb's answer; null where no bytes belong to it.
  static of(verb) {
    return verb in FILES ? new Answer(FILES[verb]) : null;
  }

  put(part) {
    this.#waiting.push(part);
    this.#size += part.length;
    if (this.file && (this.#held += part.length) >= COMPACT) {
      this.#parts.push(new Blob(this.#waiting));
      this.#waiting = [];
      this.#held = 0;
    }
  }

  // Post the message that answers, with the bytes.
  post(message) {
    if (message.error !== undefined) {
      self.postMessage(message);
    } else if (this.file) {
      self.postMessage({ ...message, file: new Blob([...this.#parts, ...this.#waiting]) });
    } else {
      const data = this.#joined();
      self.postMessage({ ...message, data }, [data]);
    }
  }

  #joined() {
    const [first] = this.#waiting;
    if (this.#waiting.length === 1 && first.length === first.buffer.byteLength) return first.buffer;
    const whole = new Uint8Array(this.#size);
    let at = 0;
    for (const part of this.#waiting) {
      whole.set(part, at);
      at += part.length;
    }
    return whole.buffer;
  }
}
