// Probabilities as bars: a list whose rows read "name, share".

import { h } from "./dom.js";
import { share } from "./language.js";

/** Rows of {name, share, best?, pick?, title?}: a row with `pick` is a button. Lengths are relative to
 * `full`; `long` names get a line of their own. */
export function bars(rows, full = 1, long = false) {
  return h(
    "ol",
    { class: long ? "bars long" : "bars" },
    rows.map((row) => {
      const inside = [
        h("span", { class: "name" }, row.name),
        h(
          "span",
          { class: "track", "aria-hidden": "true" },
          h("span", { class: "bar", vars: { share: Math.min(1, row.share / full) } }),
        ),
        h("span", { class: "number" }, share(row.share)),
      ];
      const holder = row.pick
        ? h("button", { type: "button", class: "line", onclick: row.pick, title: row.title }, inside)
        : h("div", { class: "line" }, inside);
      return h("li", { class: row.best ? "best" : "" }, holder);
    }),
  );
}
