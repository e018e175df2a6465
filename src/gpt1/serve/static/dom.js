// Creation of DOM elements.

import { t, tell } from "./language.js";

/**
 * Create an element: h("p", { class: "hint", t: ["truncated", { n: 3 }] }, child, …). Properties may be DOM properties,
 * `on…` handlers and attributes. `t` is a key of strings.json or [key, values]; `label` is the same for aria-label,
 * `holder` for placeholder; `vars` are CSS variables.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "t") tell(element, ...[value].flat());
    else if (name === "label") attribute(element, "aria-label", ...[value].flat());
    else if (name === "holder") attribute(element, "placeholder", ...[value].flat());
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") set(element, value);
    else if (name in element && name !== "list" && name !== "role") element[name] = value;
    else element.setAttribute(name === "class" ? "class" : name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Set CSS variables through the DOM, because the Content-Security-Policy forbids style attributes. */
export function set(element, variables) {
  for (const [name, value] of Object.entries(variables)) element.style.setProperty(`--${name}`, value);
}

function attribute(element, name, row, values = {}) {
  element.setAttribute(`data-t-${name}`, row);
  element.dataset.tValues = JSON.stringify(values);
  element.setAttribute(name, t(row, values));
}

/** Create a table; `head` are keys of strings.json, the first text of each row is its header. */
export function table(head, rows) {
  const row = ([name, ...cells]) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, name),
      cells.map((cell) => h("td", {}, cell)),
    );
  const heads = head.map((name) => h("th", { scope: "col", t: name }));
  return h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.map(row)));
}

let ids = 0;
export const fresh = (name) => `${name}-${++ids}`;

/** Debounce: of several calls within `ms`, only the last one runs `action`. */
export function later(ms, action) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), ms);
  };
}
