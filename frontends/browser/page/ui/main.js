// Where the page begins: the worker starts while the session is looked for. A token with a path wants another one, for which the server
// runs the verbs.

import { admitted, askForLink, bindLinks } from "./session.js";
import { bindCutText } from "./cut.js";
import { applyTheme } from "./theme.js";
import { Client } from "./client.js";
import { Explorer } from "./explorer.js";
import { sentence } from "./format.js";

applyTheme();
bindCutText();
bindLinks();
const welcome = document.querySelector("#welcome");
const trouble = (words) => (welcome.querySelector("p").textContent = words);

// The client of a worker, by what the document calls it.
function start(worker) {
  const client = new Client(document.querySelector(`meta[name=tarbox-${worker}]`).content);
  client.on("broken", ({ message }) => trouble(`The explorer could not start: ${message}`));
  return client;
}

const addressOf = (name) => `/t/${encodeURIComponent(name)}`;

// The tenant of the address, or the first that is opened.
function chosen(tenants, tell) {
  const wanted = decodeURIComponent(/^\/t\/([^/]+)/.exec(location.pathname)?.[1] ?? "");
  const tenant = tenants.find((each) => each.name === wanted) ?? tenants[0];
  if (tenant.name !== wanted) history.replaceState(null, "", `${addressOf(tenant.name)}${wanted ? "" : location.hash}`);
  if (wanted && tenant.name !== wanted) tell(`What lets you in does not open ${wanted}: this is ${tenant.name}`);
  return tenant;
}

async function begin() {
  let client = start("worker");
  const told = []; // to be said when there is a place for it
  const tell = (words) => told.push(words);
  const tenants = await admitted(tell);
  const { name, path } = chosen(tenants, tell);
  if (path !== null) {
    client.end();
    client = start("verbs");
  }
  const url = `${location.origin.replace(/^http/, "ws")}/${path === null ? "gateway" : "verbs"}/${encodeURIComponent(name)}`;
  let explorer;
  client.on("connection", async ({ state, message }) => {
    explorer?.banners.connected(state, message);
    if (state !== "refused") return;
    const others = await askForLink(`${sentence(message)} What you edit is still here.`);
    if (others.some((each) => each.name === name && each.path === path)) {
      client.told("open", { url }).catch((error) => explorer?.toasts.failed("Connecting", error));
    } else {
      location.assign(addressOf(others[0].name)); // it opens something else
    }
  });
  const tenant = await client.told("open", { url });
  explorer = new Explorer(client, tenant, tenants);
  welcome.remove();
  document.body.prepend(explorer.element);
  told.forEach((words) => explorer.toasts.tell(words));
  await explorer.begin();
}

begin().catch((error) => trouble(error.message));
