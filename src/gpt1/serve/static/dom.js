// Elements in one call.

import { t, tell } from "./language.js";

/**
 * h("p", { class: "hint", t: ["cut", { n: 3 }] }, child, …): properties, `on…` handlers, attributes. `t` is a row of
 * strings.json or [row, values]; `label` is the same for aria-label, `holder` for placeholder; `vars` are CSS variables.
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

/** Set CSS variables: through the object model, since a style attribute is what the page's policy forbids. */
export function set(element, variables) {
  for (const [name, value] of Object.entries(variables)) element.style.setProperty(`--${name}`, value);
}

function attribute(element, name, row, values = {}) {
  element.setAttribute(`data-t-${name}`, row);
  element.dataset.tValues = JSON.stringify(values);
  element.setAttribute(name, t(row, values));
}

/** A table: rows of strings.json as its head, then rows of texts, the first of which names the row. */
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

/** Calls of the result within `ms` become the last one of them. */
export function later(ms, action) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...args), ms);
  };
}
