// Where the page begins: the worker starts while the session is looked for.

import { admitted, askForLink } from "./session.js";
import { applyTheme } from "./theme.js";
import { Client } from "./client.js";
import { Explorer } from "./explorer.js";

applyTheme();
const client = new Client(document.querySelector("meta[name=tarbox-worker]").content);
const welcome = document.querySelector("#welcome");
const trouble = (words) => (welcome.querySelector("p").textContent = words);
client.on("broken", ({ message }) => trouble(`The explorer could not start: ${message}`));

function gateway(name) {
  return `${location.origin.replace(/^http/, "ws")}/gateway/${encodeURIComponent(name)}`;
}

function chosen(tenants) {
  const wanted = decodeURIComponent(/^\/t\/([^/]+)/.exec(location.pathname)?.[1] ?? "");
  const { name } = tenants.find((each) => each.name === wanted) ?? tenants[0];
  if (name !== wanted) history.replaceState(null, "", `/t/${encodeURIComponent(name)}${wanted ? "" : location.hash}`);
  return name;
}

async function begin() {
  const tenants = await admitted();
  const name = chosen(tenants);
  let explorer;
  client.on("connection", async ({ state }) => {
    explorer?.banners.connected(state);
    if (state !== "refused") return;
    await askForLink("This session has ended. What you edit is still here.");
    client.told("open", { url: gateway(name) }).catch((error) => explorer?.toasts.failed("Connecting", error));
  });
  const tenant = await client.told("open", { url: gateway(name) });
  explorer = new Explorer(client, tenant, tenants);
  welcome.remove();
  document.body.prepend(explorer.element);
  await explorer.begin();
}

begin().catch((error) => trouble(error.message));
