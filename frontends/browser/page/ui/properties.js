// The properties of a file or folder; its rights, owner and group can be set.

import { h } from "./dom.js";
import { fullTime, kindOf, layerName, octal, size } from "./format.js";

const WHO = ["Owner", "Group", "Others"];
const MAY = ["Read", "Write", "Run"];

export async function showProperties(element, explorer, path, entry) {
  const { layer } = explorer.place;
  const told = await explorer.client.told("stat", { path, layer, follow: false });
  const rows = [
    ["Path", path],
    ["Kind", kindOf({ ...told, name: entry.name })],
    ["Size", told.kind === "file" ? size(told.size) + (told.size < 1024 ? "" : ` (${told.size.toLocaleString("en")} bytes)`) : null],
    ["Stored", size(told.stored)],
    ["Leads to", told.target],
    ["Modified", fullTime(told.mtime)],
    ["Changed", fullTime(told.ctime)],
    ["Read", fullTime(told.atime)],
    ["Links", String(told.links)],
    ["Inode", told.ino],
    ["Layer", explorer.whole ? await layerOf(explorer.client, told.layer) : null],
  ];
  const list = h(
    "dl.properties",
    {},
    rows.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
  element.append(list, rightsForm(explorer, path, told));
}

// What the layer is called that has a stamp.
async function layerOf(client, stamp) {
  const { layers } = await client.told("layers");
  const found = layers.find((layer) => layer.stamp === stamp);
  return found ? layerName(found) : "a layer that is gone";
}

function rightsForm(explorer, path, told) {
  const fixed = !explorer.writable || told.kind === "link";
  const number = (label, value) =>
    h("input", { type: "number", min: "0", max: "4294967294", "aria-label": label, ".value": String(value), disabled: fixed });
  const mode = h("input", {
    type: "text",
    "aria-label": "Mode",
    ".value": octal(told.mode),
    pattern: "[0-7]{3,4}",
    maxlength: "4",
    spellcheck: "false",
    disabled: fixed,
  });
  const uid = number("Owner's number", told.uid);
  const gid = number("Group's number", told.gid);
  const bits = WHO.map((_, who) => MAY.map((_, may) => 0o400 >> (who * 3 + may)));
  const boxes = bits.flat().map((bit, at) => {
    const label = `${WHO[Math.floor(at / 3)]}: ${MAY[at % 3].toLowerCase()}`;
    const toggle = (event) => {
      const now = parseInt(mode.value, 8);
      mode.value = octal(event.target.checked ? now | bit : now & ~bit); // the form looks at it when this event comes by there
    };
    return h("input", { type: "checkbox", "aria-label": label, disabled: fixed, oninput: toggle });
  });
  const apply = h("button.main", { type: "submit", hidden: true }, "Apply");
  const look = () => {
    const valid = mode.checkValidity() && mode.value;
    const now = parseInt(mode.value, 8);
    if (valid) bits.flat().forEach((bit, at) => (boxes[at].checked = (now & bit) !== 0));
    apply.hidden = !valid || (now === told.mode && uid.value === String(told.uid) && gid.value === String(told.gid));
  };
  const grid = h(
    "table.rights",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("td"),
        MAY.map((words) => h("th", { scope: "col" }, words)),
      ),
    ),
    h(
      "tbody",
      {},
      WHO.map((words, who) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, words),
          MAY.map((_, may) => h("td", {}, boxes[who * 3 + may])),
        ),
      ),
    ),
  );
  const owners = h(
    "div.owners",
    {},
    h("label.field", {}, h("span", {}, "Mode"), mode),
    h("label.field", {}, h("span", {}, "Owner"), uid),
    h("label.field", {}, h("span", {}, "Group"), gid),
  );
  const submit = async (event) => {
    event.preventDefault();
    try {
      await explorer.client.told("chmod", { path, mode: parseInt(mode.value, 8), uid: Number(uid.value), gid: Number(gid.value) });
      await explorer.touchedAt(path);
    } catch (error) {
      explorer.toasts.failed("Setting the rights", error);
    }
  };
  look();
  return h("form.rights", { oninput: look, onsubmit: submit }, h("h3", {}, "Rights"), grid, owners, apply);
}
