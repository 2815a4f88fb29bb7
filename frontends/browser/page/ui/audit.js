// The audit trail of a path and what is below it, the newest first, read on as far as wanted.

import { h } from "./dom.js";
import { fullTime, size, time } from "./format.js";

const AT_ONCE = 50; // records

export async function showAudit(element, explorer, path) {
  const list = h("ol.records", {});
  const older = h("button", { type: "button", onclick: () => more(older.dataset.until) }, "Older");
  async function more(until = null) {
    const answer = await explorer.client.told("audit", { path, limit: AT_ONCE, until });
    list.append(...answer.records.map(item));
    older.hidden = answer.until === null;
    older.dataset.until = answer.until;
  }
  await more();
  element.append(list.children.length ? list : h("p.note", {}, "Nothing is recorded."), older);
}

function item(record) {
  const { operation, result, path, at, uid, pid, layerName, bytes, metadata } = record;
  const program = metadata?.program ?? (pid ? `process ${pid}` : null);
  const facts = [`user ${uid}`, program, bytes ? size(bytes) : null, layerName && `on ${layerName}`].filter(Boolean).join(" · ");
  return h(
    "li",
    {},
    h(
      "div.line",
      {},
      h("strong", {}, operation.replaceAll("_", " ")),
      result && h("span.bad", {}, result),
      h("time", { title: fullTime(at) }, time(at)),
    ),
    path && h("div.line.path", {}, path),
    h("div.line.dim", {}, facts),
  );
}
