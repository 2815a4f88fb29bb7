// Which entries are selected, by name, and which one has the focus. It outlives a listing that is read anew.

export class Selection {
  names = new Set();
  focus = -1; // index
  #anchor = -1;
  #focused = null; // its name
  #entries = [];

  // Other entries, or another order of them.
  renew(entries, keep) {
    this.#entries = entries;
    const there = new Map(entries.map((entry, index) => [entry.name, index]));
    this.names = new Set(keep ? [...this.names].filter((name) => there.has(name)) : []);
    this.focus = keep ? (there.get(this.#focused) ?? Math.min(Math.max(this.focus, 0), entries.length - 1)) : entries.length ? 0 : -1;
    if (!keep) this.#focused = entries[0]?.name ?? null;
    this.#anchor = this.focus;
  }

  get entries() {
    return this.#entries.filter((entry) => this.names.has(entry.name));
  }

  only(index) {
    this.names = new Set(index < 0 ? [] : [this.#entries[index].name]);
    this.#at(index);
  }

  toggle(index) {
    const { name } = this.#entries[index];
    if (!this.names.delete(name)) this.names.add(name);
    this.#at(index);
  }

  // From where the selection began to here.
  extend(index) {
    const anchor = Math.max(0, this.#anchor);
    const [from, to] = [Math.min(anchor, index), Math.max(anchor, index)];
    this.names = new Set(this.#entries.slice(from, to + 1).map(({ name }) => name));
    this.#at(index);
    this.#anchor = anchor;
  }

  // The focus alone.
  move(index) {
    this.#at(index);
  }

  all() {
    this.names = new Set(this.#entries.map(({ name }) => name));
  }

  none() {
    this.names.clear();
  }

  // By name; the first that is there gets the focus.
  choose(names) {
    const wanted = new Set(names);
    this.names = new Set(this.#entries.filter(({ name }) => wanted.has(name)).map(({ name }) => name));
    this.#at(this.#entries.findIndex(({ name }) => wanted.has(name)));
  }

  #at(index) {
    this.focus = index;
    this.#anchor = index;
    this.#focused = this.#entries[index]?.name ?? null;
  }
}
