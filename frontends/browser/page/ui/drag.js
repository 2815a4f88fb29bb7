// Dragging: entries onto folders, and files from the user's computer into the tree.

import { dropped } from "./uploads.js";
import { join } from "./paths.js";

const OURS = "application/x-tarbox";

export function bindDragging(explorer) {
  const { list, tree, crumbs, element } = explorer;
  let dragged = null; // paths, while they are dragged
  let over = null;

  list.element.addEventListener("dragstart", (event) => {
    const entry = list.entryAt(event);
    if (!entry) return;
    if (!list.selection.names.has(entry.name)) list.choose([entry.name]);
    dragged = list.selection.entries.map(({ name }) => join(explorer.place.path, name));
    event.dataTransfer.setData(OURS, "");
    event.dataTransfer.effectAllowed = "copyMove";
  });
  list.element.addEventListener("dragend", () => (dragged = null));

  // Where a drop would go: the folder, and the element that stands for it.
  function target(event) {
    if (list.element.contains(event.target)) {
      const entry = list.entryAt(event);
      if (entry?.kind === "directory") return { folder: join(explorer.place.path, entry.name), mark: event.target.closest(".row") };
      return { folder: explorer.place.path, mark: list.element };
    }
    const path = tree.pathAt(event) ?? (crumbs.element.contains(event.target) ? event.target.closest("[data-path]")?.dataset.path : undefined);
    return path === undefined || path === null ? null : { folder: path, mark: event.target.closest("[data-path]") };
  }

  function mark(found) {
    over?.classList.remove("over");
    over = found?.mark ?? null;
    over?.classList.add("over");
  }

  // An open file takes what is dropped on it itself.
  const ours = (event) => !explorer.stage.element.contains(event.target);
  element.addEventListener("dragover", (event) => {
    if (!ours(event)) return;
    const files = event.dataTransfer.types.includes("Files");
    const found = explorer.writable && (dragged || files) ? target(event) : null;
    const idle = found && dragged && found.folder === explorer.place.path && !event.ctrlKey;
    mark(idle ? null : found);
    event.preventDefault(); // or the browser opens a file that misses
    event.dataTransfer.dropEffect = !found || idle ? "none" : files || event.ctrlKey ? "copy" : "move";
  });
  element.addEventListener("dragleave", (event) => {
    if (!element.contains(event.relatedTarget)) mark(null);
  });
  element.addEventListener("drop", (event) => {
    if (!ours(event)) return;
    event.preventDefault();
    const found = explorer.writable ? target(event) : null;
    mark(null);
    if (!found) return;
    if (dragged && event.ctrlKey) explorer.actions.copyTo(dragged, found.folder, explorer.place.layer);
    else if (dragged) explorer.actions.move(dragged, found.folder);
    else explorer.actions.upload(dropped(event.dataTransfer.items), found.folder);
    dragged = null;
  });
}
