// Where the page is: a path, the layer it is seen as of, and the branch, as the address has them: /t/TENANT#/path?layer=ID&branch=NAME.

import { decode, encode, resolved } from "./paths.js";

// `top`: where an address without a path is.
export function readPlace(top) {
  const [address, words = ""] = location.hash.slice(1).split("?");
  const more = new URLSearchParams(words);
  const path = resolved(decode(address), "/");
  return { path: path === "/" ? top : path, layer: more.get("layer"), branch: more.get("branch") };
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
