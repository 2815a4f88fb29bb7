// Which language a file is in, by its name. Each is loaded when it is needed first.

import { StreamLanguage } from "@codemirror/language";
import { endingOf } from "./paths.js";

const stream = (parser) => StreamLanguage.define(parser);
const javascript = (options) => async () => (await import("@codemirror/lang-javascript")).javascript(options);
const cpp = async () => (await import("@codemirror/lang-cpp")).cpp();
const css = async () => (await import("@codemirror/lang-css")).css();
const go = async () => (await import("@codemirror/lang-go")).go();
const html = async () => (await import("@codemirror/lang-html")).html();
const java = async () => (await import("@codemirror/lang-java")).java();
const json = async () => (await import("@codemirror/lang-json")).json();
const markdown = async () => (await import("@codemirror/lang-markdown")).markdown();
const python = async () => (await import("@codemirror/lang-python")).python();
const rust = async () => (await import("@codemirror/lang-rust")).rust();
const sql = async () => (await import("@codemirror/lang-sql")).sql();
const xml = async () => (await import("@codemirror/lang-xml")).xml();
const yaml = async () => (await import("@codemirror/lang-yaml")).yaml();
const shell = async () => stream((await import("@codemirror/legacy-modes/mode/shell")).shell);
const toml = async () => stream((await import("@codemirror/legacy-modes/mode/toml")).toml);
const properties = async () => stream((await import("@codemirror/legacy-modes/mode/properties")).properties);
const ruby = async () => stream((await import("@codemirror/legacy-modes/mode/ruby")).ruby);
const lua = async () => stream((await import("@codemirror/legacy-modes/mode/lua")).lua);
const diff = async () => stream((await import("@codemirror/legacy-modes/mode/diff")).diff);
const docker = async () => stream((await import("@codemirror/legacy-modes/mode/dockerfile")).dockerFile);

const ENDINGS = {
  js: javascript(),
  mjs: javascript(),
  cjs: javascript(),
  jsx: javascript({ jsx: true }),
  ts: javascript({ typescript: true }),
  tsx: javascript({ jsx: true, typescript: true }),
  c: cpp,
  h: cpp,
  cc: cpp,
  cpp,
  hpp: cpp,
  css,
  go,
  html,
  htm: html,
  java,
  json,
  md: markdown,
  py: python,
  pyi: python,
  rs: rust,
  sql,
  xml,
  svg: xml,
  yaml,
  yml: yaml,
  sh: shell,
  bash: shell,
  zsh: shell,
  toml,
  ini: properties,
  cfg: properties,
  conf: properties,
  env: properties,
  rb: ruby,
  lua,
  diff,
  patch: diff,
};

// An extension of the editor; nothing where the language is not known.
export async function languageOf(name) {
  const load = /^(Dockerfile|Containerfile)/.test(name) ? docker : ENDINGS[endingOf(name)];
  return load ? load() : [];
}
