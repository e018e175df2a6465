// English and Chinese texts from strings.json. data-t stores the key of an element's text, for a change of language.

import { remembered } from "./store.js";

const LANGUAGES = { en: "en", zh: "zh-CN" };
const ATTRIBUTES = ["aria-label", "placeholder", "title"];
let table = {};
let language = "en";

/** Load the table and select the stored language, by default the browser's. */
export async function load() {
  table = await (await fetch(new URL("strings.json", import.meta.url))).json();
  const preferred = navigator.languages ?? [navigator.language];
  const known = preferred.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in LANGUAGES);
  const chosen = remembered.get("language");
  speak(chosen in LANGUAGES ? chosen : (known ?? "en"));
}

export const other = () => (language === "en" ? "zh" : "en");

export function choose(name) {
  remembered.set("language", name);
  speak(name);
}

function speak(name) {
  language = name;
  document.documentElement.lang = LANGUAGES[name];
  translate(document);
}

/** Whether the table has a key. */
export const has = (row) => row in table;

/** Return the text of a key, with {name} replaced from `values`. */
export function t(row, values = {}) {
  const text = table[row]?.[language] ?? row;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Set an element's text to a key's, also after a change of language. */
export function tell(element, row, values) {
  element.dataset.t = row;
  if (values) element.dataset.tValues = JSON.stringify(values);
  else delete element.dataset.tValues;
  element.textContent = t(row, values);
  return element;
}

function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t, JSON.parse(element.dataset.tValues ?? "{}"));
  }
  for (const attribute of ATTRIBUTES) {
    for (const element of root.querySelectorAll(`[data-t-${attribute}]`)) {
      const values = JSON.parse(element.dataset.tValues ?? "{}");
      element.setAttribute(attribute, t(element.getAttribute(`data-t-${attribute}`), values));
    }
  }
}

const format = (options) => (value) => new Intl.NumberFormat(LANGUAGES[language], options).format(value);
export const count = format({});
export const share = format({ style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
export const decimal = format({ maximumSignificantDigits: 3 });
const withSign = format({ signDisplay: "exceptZero", minimumFractionDigits: 3, maximumFractionDigits: 3 });
export const signed = (value) => withSign(value).replace("-", "−");
export const millions = format({ notation: "compact", maximumSignificantDigits: 3 });
