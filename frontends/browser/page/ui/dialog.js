// Dialogs: a question with its answers, and windows for larger things. The browser keeps the focus inside, and gives it back.

import { h } from "./dom.js";
import { icon } from "./icons.js";

let numbers = 0;

// A window; `close` is called with the word that it ended with, "" where it was only closed.
export function openWindow({ title, kind = "small", content, close = () => {}, tools = [] }) {
  const id = `dialog-${++numbers}`;
  const shut = h("button.plain", { type: "button", "aria-label": "Close", title: "Close (Esc)", onclick: () => element.close("") }, icon("close"));
  const element = h(
    `dialog.${kind}`,
    { "aria-labelledby": id },
    h("header", {}, h("h2", { id }, title), h("div.tools", {}, tools), shut),
    h("div.content", {}, content),
  );
  element.addEventListener("close", () => {
    element.remove();
    close(element.returnValue);
  });
  element.addEventListener("keydown", (event) => event.stopPropagation()); // keys in here are nobody else's
  document.body.append(element);
  element.showModal();
  return element;
}

// The value of the chosen answer, or null. `choices`: {label, value, kind?}, the last of which Enter takes. With `field` ({label, value,
// select}) an answer is {value, text}; `mark` ({label}) adds a box and `marked`.
export function question({ title, text = "", choices, field, mark }) {
  return new Promise((resolve) => {
    const input =
      field && h("input", { type: "text", "aria-label": field.label, ".value": field.value ?? "", spellcheck: "false", autocomplete: "off" });
    const box = mark && h("input", { type: "checkbox" });
    const buttons = choices.map(({ label, value, kind = "" }, at) =>
      h(`button${kind && `.${kind}`}`, { type: "submit", value, autofocus: !field && at === choices.length - 1 }, label),
    );
    const form = h(
      "form",
      {
        method: "dialog",
        onkeydown: (event) => {
          if (event.key !== "Enter" || event.target !== input || event.isComposing) return;
          event.preventDefault();
          if (input.value) window.close(choices.at(-1).value);
        },
      },
      text && h("p", {}, text),
      input && h("label.field", {}, h("span", {}, field.label), input),
      box && h("label.check", {}, box, mark.label),
      h("footer", {}, buttons),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!input || input.value || event.submitter.value === "") window.close(event.submitter.value);
    });
    const window = openWindow({
      title,
      content: form,
      close: (value) => {
        if (!value) resolve(null);
        else resolve(input || box ? { value, text: input?.value, marked: box?.checked ?? false } : value);
      },
    });
    if (input) {
      input.focus();
      input.setSelectionRange(...(field.select ?? [0, input.value.length]));
    }
  });
}

export async function asked(title, label, value, action, select) {
  const cancel = { label: "Cancel", value: "", kind: "quiet" };
  const answer = await question({ title, field: { label, value, select }, choices: [cancel, { label: action, value: "yes", kind: "main" }] });
  return answer?.text;
}

export async function confirmed(title, text, action, kind = "main") {
  return (
    (await question({
      title,
      text,
      choices: [
        { label: "Cancel", value: "", kind: "quiet" },
        { label: action, value: "yes", kind },
      ],
    })) === "yes"
  );
}
