// Where the page is: a path, the layer it is seen as of, and the branch, as the address has them: /t/TENANT#/path?layer=ID&branch=NAME.

import { decode, encode, resolved } from "./paths.js";

export function readPlace() {
  const [path, words = ""] = location.hash.slice(1).split("?");
  const more = new URLSearchParams(words);
  return { path: resolved(decode(path), "/"), layer: more.get("layer"), branch: more.get("branch") };
}

function addressOf({ path, layer, branch }) {
  const more = new URLSearchParams(Object.entries({ layer, branch }).filter(([, value]) => value));
  return `#${encode(path)}${more.size ? `?${more}` : ""}`;
}

// `again`: no step of its own for the Back button.
export function writePlace(place, again) {
  const address = addressOf(place);
  if (again) history.replaceState(null, "", address);
  else if (address !== location.hash) history.pushState(null, "", address);
}
