// CodeMirror, loaded when the first file is opened: an editor, and two texts side by side. Each lives under a shadow root, where its styles are
// adopted sheets, so that the page's policy need allow no inline ones.

import { closeBrackets, closeBracketsKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { bracketMatching, foldGutter, foldKeymap, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { MergeView, unifiedMergeView } from "@codemirror/merge";
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
  ".cm-panels-top": { borderBottomColor: "var(--line)" },
  ".cm-panel.cm-search": { padding: "8px 48px 4px 16px", font: "13px/20px var(--sans)" },
  ".cm-panel.cm-search input, .cm-panel.cm-search button, .cm-panel.cm-search label": { margin: "0 8px 4px 0", font: "inherit" },
  ".cm-panel.cm-search label input": { margin: "0" },
  ".cm-panel .cm-textfield, .cm-panel .cm-button": {
    minHeight: "28px",
    padding: "0 8px",
    color: "inherit",
    backgroundColor: "var(--surface)",
    backgroundImage: "none",
    border: "1px solid var(--line)",
    borderRadius: "var(--radius)",
  },
  ".cm-panel .cm-textfield": { width: "208px", borderColor: "var(--edge)" },
  ".cm-panel .cm-button": { cursor: "pointer" },
  ".cm-panel .cm-button:hover": { backgroundColor: "var(--hover)" },
  ".cm-panel :focus-visible": { outline: "2px solid var(--accent)", outlineOffset: "1px" },
  ".cm-panel label": { display: "inline-flex", alignItems: "center", gap: "4px" },
  ".cm-panel.cm-search [name=close]": { inset: "8px 8px auto auto", margin: "0", width: "28px", height: "28px", fontSize: "18px", cursor: "pointer" },
  ".cm-panel.cm-search [name=close]:hover": { backgroundColor: "var(--hover)" },
  ".cm-searchMatch": { backgroundColor: "var(--found)" },
  ".cm-foldPlaceholder": { backgroundColor: "var(--hover)", border: "none", color: "var(--dim)" },
  ".cm-changedLine, .cm-inlineChangedLine": { backgroundColor: "var(--good-soft) !important" },
  ".cm-changedText": { background: "var(--good-text) !important" },
  "&.cm-merge-a .cm-changedLine, .cm-deletedChunk": { backgroundColor: "var(--bad-soft) !important" },
  "&.cm-merge-a .cm-changedText, .cm-deletedChunk .cm-deletedText": { background: "var(--bad-text) !important" },
  ".cm-collapsedLines": { background: "var(--hover)", color: "var(--dim)", padding: "4px 16px" },
  ".cm-collapsedLines:before, .cm-collapsedLines:after": { content: "'⋯'" },
  ".cm-changeGutter": { width: "3px" },
  "&.cm-merge-b .cm-changedLineGutter, .cm-changedLineGutter": { background: "var(--good)" },
  "&.cm-merge-a .cm-changedLineGutter, .cm-deletedLineGutter": { background: "var(--bad)" },
});

const merged = new CSSStyleSheet();
merged.replaceSync(
  ":host, .cm-mergeView { display: grid; grid-template-columns: minmax(0, 1fr); } :host { height: 100%; overflow: auto; }" +
    " .cm-mergeViewEditor + .cm-mergeViewEditor { border-left: 1px solid var(--line); }",
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
  const language = await languageOf(name).catch(() => []); // its text has no colours
  view.dispatch({ effects: compartment.reconfigure(language) });
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
        EditorView.clipboardInputFilter.of((pasted, { lineBreak }) => pasted.replace(/\r\n?|\n/g, lineBreak)),
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

const differing = { gutter: true, collapseUnchanged: { margin: 3, minSize: 6 }, diffConfig: { scanLimit: 5000, timeout: 1000 } };

// Two texts in `host`, what is equal folded away: side by side, or where it is `narrow` in one.
export function drawDifference(host, before, after, name, narrow) {
  const root = host.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = [merged];
  const language = new Compartment();
  const label = EditorView.contentAttributes.of({ "aria-label": `What differs in ${name}` });
  const side = (text) => ({ doc: text, extensions: [reading(text), EditorState.readOnly.of(true), label, language.of([])] });
  if (narrow) {
    const { doc, extensions } = side(after);
    const view = new EditorView({ doc, extensions: [extensions, unifiedMergeView({ original: before, mergeControls: false, ...differing })], parent: root, root });
    speak(view, language, name);
    return () => view.destroy();
  }
  const view = new MergeView({
    a: side(before),
    b: side(after),
    parent: root,
    root,
    ...differing,
  });
  root.adoptedStyleSheets = [...new Set([...root.adoptedStyleSheets, merged])];
  speak(view.a, language, name);
  speak(view.b, language, name);
  return () => view.destroy();
}
