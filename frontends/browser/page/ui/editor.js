// CodeMirror, loaded when the first file is opened: an editor, and two texts side by side. Each lives under a shadow root, where its styles are
// adopted sheets, so that the page's policy need allow no inline ones.

import { closeBrackets, closeBracketsKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { bracketMatching, foldGutter, foldKeymap, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { MergeView } from "@codemirror/merge";
import { highlightSelectionMatches, search, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState } from "@codemirror/state";
import {
  drawSelection,
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSpecialChars,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { languageOf } from "./languages.js";

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier, tags.tagName], color: "var(--code-word)" },
  { tag: [tags.string, tags.special(tags.string), tags.regexp, tags.attributeValue], color: "var(--code-text)" },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: "var(--code-number)" },
  { tag: [tags.comment, tags.meta, tags.quote], color: "var(--dim)", fontStyle: "italic" },
  { tag: [tags.function(tags.variableName), tags.function(tags.propertyName), tags.definition(tags.variableName)], color: "var(--code-name)" },
  { tag: [tags.typeName, tags.className, tags.namespace, tags.attributeName, tags.propertyName], color: "var(--code-type)" },
  { tag: tags.heading, color: "var(--code-word)", fontWeight: "600" },
  { tag: tags.strong, fontWeight: "600" },
  { tag: tags.emphasis, fontStyle: "italic" },
  { tag: [tags.link, tags.url], color: "var(--accent)", textDecoration: "underline" },
  { tag: tags.invalid, color: "var(--bad)" },
]);

const look = EditorView.theme({
  "&": { height: "100%", backgroundColor: "var(--surface)", color: "var(--text)", fontSize: "13px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "20px" },
  ".cm-content": { caretColor: "var(--accent)", padding: "8px 0" },
  "&.cm-focused": { outline: "none" },
  ".cm-cursor": { borderLeftColor: "var(--accent)", borderLeftWidth: "2px" },
  ".cm-gutters": { backgroundColor: "var(--surface)", color: "var(--dim)", border: "none" },
  ".cm-lineNumbers .cm-gutterElement": { padding: "0 8px 0 16px" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--hover)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--chosen)" },
  ".cm-selectionMatch": { backgroundColor: "var(--hover)", outline: "1px solid var(--line)" },
  ".cm-panels": { backgroundColor: "var(--raised)", color: "var(--text)", borderColor: "var(--line)" },
  ".cm-panel input, .cm-panel button": {
    font: "13px var(--sans)",
    color: "inherit",
    backgroundColor: "var(--surface)",
    backgroundImage: "none",
    border: "1px solid var(--line)",
    borderRadius: "4px",
  },
  ".cm-panel label": { font: "13px var(--sans)" },
  ".cm-searchMatch": { backgroundColor: "var(--found)" },
  ".cm-foldPlaceholder": { backgroundColor: "var(--hover)", border: "none", color: "var(--dim)" },
  ".cm-changedLine": { backgroundColor: "var(--diff-line) !important" },
  ".cm-changedText": { background: "var(--diff-text) !important" },
  ".cm-deletedChunk": { backgroundColor: "var(--bad-soft)" },
  ".cm-collapsedLines": { background: "var(--hover)", color: "var(--dim)", padding: "4px 16px" },
  ".cm-changeGutter": { width: "3px" },
  ".cm-changedLineGutter": { background: "var(--accent)" },
});

const merged = new CSSStyleSheet();
merged.replaceSync(
  ":host { display: block; height: 100%; overflow: auto; } .cm-mergeView { min-height: 100%; } .cm-mergeViewEditors { min-height: 100%; }",
);

// Both ends of a line are kept as they are: "\r" alone, and where they are mixed, stays in its line.
function lineEnd(text) {
  const both = text.split("\r\n").length - 1;
  return both && both === text.split("\n").length - 1 && both === text.split("\r").length - 1 ? "\r\n" : "\n";
}

const reading = (text) => [
  lineNumbers(),
  foldGutter(),
  highlightSpecialChars(),
  drawSelection(),
  bracketMatching(),
  highlightSelectionMatches(),
  search({ top: true }),
  syntaxHighlighting(colours),
  look,
  EditorState.lineSeparator.of(lineEnd(text)),
];

async function speak(view, compartment, name) {
  view.dispatch({ effects: compartment.reconfigure(await languageOf(name)) });
}

// An editor in `host`, of a text that is a file's. `changed()` after each change, `save()` on Ctrl+S.
export function editText(host, { text, name, readOnly, changed, save }) {
  const root = host.attachShadow({ mode: "open" });
  const language = new Compartment();
  const writing = readOnly
    ? [EditorState.readOnly.of(true)]
    : [history(), indentOnInput(), closeBrackets(), highlightActiveLine(), highlightActiveLineGutter()];
  const fresh = (content) =>
    EditorState.create({
      doc: content,
      extensions: [
        reading(content),
        writing,
        language.of([]),
        keymap.of([
          { key: "Mod-s", run: () => (save(), true) },
          ...closeBracketsKeymap,
          ...defaultKeymap,
          ...searchKeymap,
          ...historyKeymap,
          ...foldKeymap,
          indentWithTab,
        ]),
        EditorView.contentAttributes.of({ "aria-label": readOnly ? `Content of ${name}` : `Edit ${name}` }),
        EditorView.updateListener.of((update) => update.docChanged && changed()),
      ],
    });
  const view = new EditorView({ state: fresh(text), parent: root, root });
  speak(view, language, name);
  let saved = view.state.doc;
  return {
    get text() {
      return view.state.sliceDoc();
    },
    get dirty() {
      return !view.state.doc.eq(saved);
    },
    // A word for the text as it is now, for `kept`.
    get mark() {
      return view.state.doc;
    },
    // What was marked is in the file.
    kept(mark) {
      saved = mark;
    },
    // The file is another one now.
    replace(content) {
      const { head } = view.state.selection.main;
      view.setState(fresh(content));
      saved = view.state.doc;
      view.dispatch({ selection: { anchor: Math.min(head, saved.length) } });
      speak(view, language, name);
    },
    // Text that was not saved, over what the file has.
    edit(content) {
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: view.state.toText(content) } });
    },
    focus: () => view.focus(),
    close: () => view.destroy(),
  };
}

// Two texts side by side in `host`, what is equal folded away.
export function sideBySide(host, before, after, name) {
  const root = host.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = [merged];
  const language = new Compartment();
  const side = (text) => ({ doc: text, extensions: [reading(text), EditorState.readOnly.of(true), language.of([])] });
  const view = new MergeView({
    a: side(before),
    b: side(after),
    parent: root,
    root,
    gutter: true,
    collapseUnchanged: { margin: 3, minSize: 6 },
    diffConfig: { scanLimit: 5000, timeout: 1000 },
  });
  root.adoptedStyleSheets = [...new Set([...root.adoptedStyleSheets, merged])];
  speak(view.a, language, name);
  speak(view.b, language, name);
  return () => view.destroy();
}
