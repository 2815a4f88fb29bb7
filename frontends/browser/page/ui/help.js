// The keys.

import { openWindow } from "./dialog.js";
import { h } from "./dom.js";

const KEYS = [
  [
    "Moving about",
    [
      ["↑ ↓ Home End PgUp PgDn", "Go through the list"],
      ["A letter, or several", "Go to a name"],
      ["Enter", "Open"],
      ["Backspace, Alt+↑", "The folder above"],
      ["Alt+← Alt+→", "Back and forward"],
      ["Ctrl+L", "Edit the path"],
      ["/", "Search by name"],
      ["Esc", "Close what is open"],
    ],
  ],
  [
    "Selecting",
    [
      ["Shift+↑ ↓, Shift+click", "From here to there"],
      ["Space, Ctrl+click", "One more, or one less"],
      ["Ctrl+A", "All"],
    ],
  ],
  [
    "Files",
    [
      ["F2", "Rename"],
      ["Delete", "Delete"],
      ["Ctrl+Z", "Undo"],
      ["Ctrl+C  Ctrl+X  Ctrl+V", "Copy, cut, paste"],
      ["Ctrl+S", "Save the open file"],
      ["Shift+F10", "All that can be done"],
      ["?", "This"],
    ],
  ],
];

export function openHelp() {
  const groups = KEYS.map(([title, keys]) =>
    h(
      "section",
      {},
      h("h3", {}, title),
      h(
        "dl",
        {},
        keys.map(([key, words]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, words)]),
      ),
    ),
  );
  openWindow({ title: "Keys", kind: "help", content: groups });
}
