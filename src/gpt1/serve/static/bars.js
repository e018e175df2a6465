// Bar chart of probabilities as a list.

import { h } from "./dom.js";
import { share } from "./language.js";

/** Return a list of bars from rows {name, share, best?, pick?, title?}; a row with `pick` is a button. Bar lengths are
 * relative to `full`; `long` puts names on a separate line. */
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
