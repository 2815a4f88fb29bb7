// The keys.

import { openWindow } from "./dialog.js";
import { h } from "./dom.js";

// Keys, with a space between those that do the same.
const KEYS = [
  [
    "Moving about",
    [
      ["↑ ↓ Home End PgUp PgDn", "Go through the list"],
      ["A…Z", "Go to a name, by its first letters"],
      ["Enter", "Open"],
      ["Backspace Alt+↑", "The folder above"],
      ["Alt+← Alt+→", "Back and forward"],
      ["Ctrl+L", "Edit the path"],
      ["/", "Search by name"],
      ["Esc", "Close what is open"],
    ],
  ],
  [
    "Selecting",
    [
      ["Shift+↑ Shift+↓ Shift+click", "From here to there"],
      ["Space Ctrl+click", "One more, or one less"],
      ["Ctrl+A", "All"],
    ],
  ],
  [
    "Files",
    [
      ["F2", "Rename"],
      ["Delete", "Delete"],
      ["Ctrl+Z", "Undo"],
      ["Ctrl+C Ctrl+X Ctrl+V", "Copy, cut, paste"],
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
        keys.map(([key, words]) => [
          h(
            "dt",
            {},
            key.split(" ").map((each) => h("kbd", {}, each)),
          ),
          h("dd", {}, words),
        ]),
      ),
    ),
  );
  openWindow({ title: "Keys", kind: "help", content: groups });
}
