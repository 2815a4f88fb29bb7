// Who is let in: a link's secret for a session, and a form for a link where there is none.

import { h } from "./dom.js";
import { mark } from "./icons.js";
import { openWindow } from "./dialog.js";

const REASONS = {
  spent: "This link was used already. Another token is made by: tarbox token create",
  expired: "This link is too old.",
  revoked: "This token was revoked.",
  unknown: "The server does not know this token.",
};

// The tenants that a session opens: [{name, read_only, expires_at, path}], of which a path is null or what alone is opened of it. Who comes
// by a spent link again is let in by the session that the browser has. `tell` says so, and where a link leads to other tenants than that
// session did: it may be somebody else's, who waits for what is put there.
export async function admitted(tell) {
  const secret = secretOf(location.hash);
  if (secret) history.replaceState(null, "", location.pathname);
  const before = await session();
  if (!secret) return before.length ? before : askForLink("");
  const { tenants, reason, words } = await login(secret);
  if (tenants) {
    if (before.length && names(before) !== names(tenants)) tell(`This link opens ${names(tenants)}, and ended your session for ${names(before)}`);
    return tenants;
  }
  if (reason !== "spent" || !before.length) return askForLink(words);
  tell("This link was used already. You are here by the session that this browser had");
  return before;
}

// A link that is opened where the page is already changes the address alone.
export function bindLinks() {
  addEventListener("hashchange", () => {
    if (secretOf(location.hash)) location.reload();
  });
}

async function session() {
  const answer = await fetch("/session");
  return answer.ok ? (await answer.json()).tenants : [];
}

function names(tenants) {
  return tenants.map(({ name }) => `“${name}”`).join(", ");
}

export async function leave() {
  await fetch("/logout", { method: "POST" });
  location.replace("/");
}

function secretOf(words) {
  const token = /#token=([^&\s]+)/.exec(words);
  return token?.[1] ?? (/^tbx_\S+$/.test(words) ? words : null);
}

async function login(token) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("/login", { method: "POST", headers, body: JSON.stringify({ token }) });
  const told = await answer.json();
  return answer.ok ? { tenants: told.tenants } : { reason: told.error, words: REASONS[told.error] ?? `The server refuses it: ${told.error}.` };
}

// A window that stays until a link or a token lets the page in.
export function askForLink(words) {
  return new Promise((resolve) => {
    const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true });
    const problem = h("p.problem", { role: "alert" }, words);
    let tenants = null;
    const form = h(
      "form",
      {
        onsubmit: async (event) => {
          event.preventDefault();
          const token = secretOf(input.value.trim());
          const answer = token ? await login(token) : { words: "This is neither a link nor a token." };
          problem.textContent = answer.words ?? "";
          tenants = answer.tenants;
          if (tenants) dialog.close();
          else input.select();
        },
      },
      h("p", {}, h("code", {}, "tarbox serve"), " prints a link that opens this page. Open a new one, or paste it here."),
      problem,
      h("label.field", {}, h("span", {}, "Link or token"), input),
      h("footer", {}, h("button.main", { type: "submit" }, "Open")),
    );
    const dialog = openWindow({ title: [mark(), "Tarbox"], kind: "small.login", content: form, close: () => resolve(tenants) });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
  });
}
