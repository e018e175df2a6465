// A text whose words can be visited: with the mouse, by touch, or with the arrow keys (one stop of the Tab key).

import { h } from "./dom.js";

const MOVES = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };

/** A place where a line may end. */
export const BREAK = Symbol("break");

export class Words {
  /** `visit(index)` is called when a word gets the pointer or the focus. */
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

  /** Pieces are plain strings, BREAK, or words: {text, name (what is read out), note (what is shown), class, vars}. */
  show(pieces) {
    this.options = [];
    this.element.replaceChildren(
      ...pieces.map((piece) => {
        if (typeof piece === "string") return piece;
        if (piece === BREAK) return h("wbr");
        if (piece.plain) return h("span", { class: piece.class, role: "presentation" }, piece.text);
        const option = h(
          "span",
          {
            role: "option",
            tabindex: "-1",
            class: piece.class,
            vars: piece.vars,
            "aria-label": piece.name,
            "data-note": piece.note,
            "aria-selected": "false",
          },
          piece.text,
        );
        this.options.push(option);
        return option;
      }),
    );
    this.options[0]?.setAttribute("tabindex", "0");
  }

  /** Make `index` the word that Tab comes back to, without moving the focus. */
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
