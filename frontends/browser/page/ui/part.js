// Parts of the page that are loaded when they are needed first.

import { Failure } from "./client.js";

const GONE = "a part of the page cannot be loaded: the server may be a newer one by now. Reload the page; what you edit is kept";

// What `load` imports. Failure `part`: it is not there, or cannot be reached, and the browser does not ask for it twice.
export async function part(load) {
  try {
    return await load();
  } catch {
    throw new Failure({ code: "part", message: GONE, errno: null });
  }
}
