// A text with selectable words: by mouse, touch or arrow keys (one Tab stop).

import { h } from "./dom.js";

const MOVES = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };

/** A possible line break. */
export const BREAK = Symbol("break");

export class Words {
  /** `visit(index)` is called when a word is hovered or focused. */
  constructor(label, values = {}, visit = () => {}) {
    this.visit = visit;
    this.options = [];
    this.element = h("div", {
      class: "words",
      role: "listbox",
      label: [label, values],
      "aria-orientation": "horizontal",
      onkeydown: (event) => this.#move(event),
      onfocusin: (event) => this.#reach(event.target),
      onpointerover: (event) => this.#reach(event.target),
      onclick: (event) => event.target.closest("[role=option]")?.focus(),
    });
  }

  /** Show parts: plain strings, BREAK, or words {text, name (aria-label), note (tooltip), class, vars}. */
  show(parts) {
    this.options = [];
    this.element.replaceChildren(
      ...parts.map((part) => {
        if (typeof part === "string") return part;
        if (part === BREAK) return h("wbr");
        if (part.plain) return h("span", { class: part.class, role: "presentation" }, part.text);
        const option = h(
          "span",
          {
            role: "option",
            tabindex: "-1",
            class: part.class,
            vars: part.vars,
            "aria-label": part.name,
            "data-note": part.note,
            "aria-selected": "false",
          },
          part.text,
        );
        this.options.push(option);
        return option;
      }),
    );
    this.options[0]?.setAttribute("tabindex", "0");
  }

  /** Make word `index` the Tab stop, without moving the focus. */
  select(index) {
    for (const option of this.element.querySelectorAll("[aria-selected=true]"))
      option.setAttribute("aria-selected", "false");
    for (const option of this.element.querySelectorAll("[tabindex='0']")) option.setAttribute("tabindex", "-1");
    this.options[index]?.setAttribute("aria-selected", "true");
    this.options[index]?.setAttribute("tabindex", "0");
  }

  #reach(target) {
    const index = this.options.indexOf(target.closest("[role=option]"));
    if (index < 0) return;
    this.select(index);
    this.visit(index);
  }

  #move(event) {
    if (!(event.key in MOVES)) return;
    event.preventDefault();
    const from = this.options.indexOf(document.activeElement);
    const to = Math.max(0, Math.min(this.options.length - 1, from + MOVES[event.key]));
    this.options[to]?.focus();
  }
}
