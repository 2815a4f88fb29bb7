// How the parts lie on the screen.

import { h, phone } from "./dom.js";
import { icon, mark } from "./icons.js";
import { leave } from "./session.js";
import { LINE, menuButton } from "./menu.js";
import { isDark, switchTheme } from "./theme.js";
import { openHelp } from "./help.js";

export function layOut(explorer, tenants) {
  const { crumbs, tree, list, commands, panel, stage, banners, transfers, toasts, tenant } = explorer;
  const tool = (words, name, run, kind = "") =>
    h(`button.plain${kind}`, { type: "button", "aria-label": words, title: words, onclick: run }, icon(name));
  const { top, whole } = explorer;
  const branch = h(
    "button.branch-name",
    { type: "button", title: "Layers and branches", onclick: () => panel.toggle("layers") },
    icon("layers"),
    h("span.label", {}, tenant.head),
  );
  const others = tenants.filter(({ name }) => name !== tenant.name);
  const more = menuButton({ class: "plain", "aria-label": "More" }, [icon("more")], () => [
    { label: isDark() ? "Light colours" : "Dark colours", icon: isDark() ? "sun" : "moon", run: switchTheme },
    { label: "Keys", icon: "help", keys: "?", run: openHelp },
    LINE,
    ...others.map(({ name }) => ({ label: `Go to ${name}`, icon: "archive", run: () => location.assign(`/t/${encodeURIComponent(name)}`) })),
    { label: "Log out", icon: "close", run: leave },
  ]);
  const drawer = tool("Folders", "menu", () => open(!side.classList.contains("open")), ".only-phone");
  const header = h(
    "header.top",
    {},
    drawer,
    h("h1", {}, mark(), tenant.name),
    crumbs.element,
    h(
      "div.tools",
      {},
      tool("Search (/)", "search", () => explorer.search()),
      whole && branch,
      tool("Details", "panel", () => panel.toggle("preview")),
      more,
    ),
  );
  const veil = h("div.veil", { onclick: () => open(false) });
  const side = h("nav.side", { "aria-label": "Folders" }, tree.element);
  const status = h("span", { role: "status" });
  const alone = !whole && h("span.tag.scope", { title: `This token is for ${top} alone` }, `only ${top}`);
  const readOnly = tenant.readOnly && h("span.tag", {}, "read-only");
  const bar = h("div.bar", { role: "progressbar", "aria-label": "Reading", hidden: true });
  const middle = h("main", {}, commands.element, bar, list.element, h("footer.status", {}, status, alone, readOnly), stage.element);
  const element = h(
    "div.explorer",
    {},
    header,
    banners.element,
    h("div.columns", {}, side, veil, middle, panel.element),
    transfers.element,
    toasts.element,
  );

  function open(shown) {
    side.classList.toggle("open", shown);
    veil.classList.toggle("open", shown);
  }
  tree.element.addEventListener("click", (event) => {
    if (phone.matches && !event.target.closest(".twist")) open(false);
  });
  return {
    element,
    status: (words) => (status.textContent = words),
    busy: (whether) => (bar.hidden = !whether),
    branch: (name) => (branch.lastChild.textContent = name),
  };
}
