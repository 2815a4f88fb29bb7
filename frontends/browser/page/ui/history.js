// The versions of a file or folder, the newest first: in which layers it changed, and how much.

import { compareFiles } from "./compare.js";
import { h } from "./dom.js";
import { layerName, layerOf, size, STATUS, time } from "./format.js";

export async function showHistory(element, explorer, path) {
  const { versions } = await explorer.client.told("history", { path });
  if (!versions.length) {
    element.append(h("p.note", {}, "No layer has it."));
    return;
  }
  element.append(
    h(
      "ol.versions",
      {},
      versions.map((version, at) => item(explorer, version, versions[at + 1])),
    ),
  );
}

function item(explorer, version, older) {
  const { layer, attributes, counts, status } = version;
  const name = layerName(layer);
  const now = layer.sealedAt === null;
  const lines =
    counts &&
    h(
      "span.counts",
      { title: "Lines added, deleted, modified" },
      counts.added > 0 && h("ins", {}, `+${counts.added}`),
      counts.deleted > 0 && h("del", {}, `−${counts.deleted}`),
      counts.modified > 0 && h("span", {}, `~${counts.modified}`),
    );
  const file = attributes?.kind === "file";
  const before = older?.attributes?.kind === "file" ? older : null;
  const sides = () => [
    before ? { label: layerName(before.layer), path: before.path, layer: layerOf(before.layer) } : { label: "Before", path: null },
    { label: name, path: version.path, layer: layerOf(layer) },
  ];
  const compare = async () => {
    try {
      await compareFiles(explorer.client, ...sides());
    } catch (error) {
      explorer.toasts.failed("Comparing", error);
    }
  };
  return h(
    "li",
    {},
    h(
      "div.line",
      {},
      h("span.status", { "data-status": status, title: STATUS[status] }, status),
      h("strong", {}, name),
      h("time", {}, time(layer.sealedAt ?? layer.createdAt)),
    ),
    h(
      "div.line.dim",
      {},
      file ? size(attributes.size) : STATUS[status],
      lines,
      version.oldPath && version.oldPath !== version.path && h("span", {}, `was ${version.oldPath}`),
    ),
    h(
      "div.tools",
      {},
      file && h("button", { type: "button", onclick: compare }, "What changed"),
      attributes && !now && h("button", { type: "button", onclick: () => explorer.go(version.path, { layer: layer.id }) }, "Open"),
      attributes &&
        !now &&
        explorer.mayWrite &&
        h("button", { type: "button", onclick: () => explorer.actions.restore(version.path, layer.id, name) }, "Restore"),
    ),
  );
}
