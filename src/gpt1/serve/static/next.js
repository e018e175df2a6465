// Next token panel: the most likely tokens, updated while typing; a click appends one.

import { Latest, call } from "./api.js";
import { bars } from "./bars.js";
import { h, later } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { area, examples, showError } from "./fields.js";
import { t, tell } from "./language.js";
import { session } from "./store.js";
import { isSpecial, plain } from "./tokens.js";

const PAUSE = 350; // ms without a keystroke before a request is sent
const TOP = 10;
const CLINGS = /^([.,;:!?)\]…%]|['’](s|t|d|m|ll|re|ve)$|n['’]t$)/; // tokens without a space before them

export class Next {
  constructor() {
    this.latest = new Latest();
    this.prompt = area("field.prompt", 3, "prompt");
    this.list = h("div", { class: "result next", "aria-live": "polite", hidden: true });
    this.status = h("p", { class: "hint", t: "next.hint" });
    const ask = later(PAUSE, () => this.run());
    this.prompt.control.addEventListener("input", () => {
      this.keep();
      ask();
    });
    const submit = (event) => {
      event.preventDefault();
      this.run();
    };
    const asking = h("form", { novalidate: true, onsubmit: submit }, this.prompt.element);
    this.element = h(
      "div",
      {},
      asking,
      examples(EXAMPLES.next, (text) => this.set(text)),
      this.status,
      this.list,
    );
    this.prompt.value = session.get("next")?.prompt ?? "";
  }

  /** Called when the panel is shown: reruns the prompt kept over a reload. */
  enter() {
    if (this.prompt.value && this.list.hidden) this.run();
  }

  keep() {
    session.set("next", { prompt: this.prompt.value });
  }

  set(text) {
    this.prompt.value = text;
    this.keep();
    return this.run();
  }

  async run() {
    this.prompt.clear();
    const prompt = this.prompt.value;
    if (!prompt.trim()) {
      this.latest.stop();
      this.list.hidden = true;
      return;
    }
    const signal = this.latest.begin();
    this.list.setAttribute("aria-busy", "true");
    try {
      this.show(prompt, (await call("v1/next", { prompt, top: TOP }, signal)).tokens);
    } catch (error) {
      showError(error, { prompt: this.prompt });
    } finally {
      if (this.latest.current(signal)) this.list.removeAttribute("aria-busy");
    }
  }

  show(prompt, tokens) {
    const index = [...this.list.querySelectorAll("button")].indexOf(document.activeElement);
    const row = ({ token, probability }) => {
      const { text, open } = plain(token);
      const pick = isSpecial(token) ? null : () => this.append(prompt, text);
      return {
        name: open ? `${text}…` : text,
        share: probability,
        pick,
        title: pick && t("next.append", { token: text }),
      };
    };
    this.list.replaceChildren(bars(tokens.map(row), tokens[0]?.probability));
    this.list.hidden = false;
    if (index >= 0) this.list.querySelectorAll("button")[index]?.focus();
  }

  async append(prompt, text) {
    const glued = text === "⏎" || !prompt || /\s$/.test(prompt) || CLINGS.test(text);
    await this.set(prompt + (glued ? "" : " ") + (text === "⏎" ? "\n" : text));
    const { control } = this.prompt;
    control.scrollTop = control.scrollHeight;
  }
}
