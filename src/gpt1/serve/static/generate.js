// Generate panel: streams the generated text.

import { Latest, stream } from "./api.js";
import { h } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { Field, area, complete, examples, form, showError, slider } from "./fields.js";
import { decimal, tell } from "./language.js";
import { session } from "./store.js";

const SLIDERS = [
  { name: "max_tokens", min: 1, max: 256, step: 1, value: 80 },
  { name: "temperature", min: 0, max: 2, step: 0.05, value: 0.8, words: { 0: "greedy" } },
  { name: "top_p", min: 0.05, max: 1, step: 0.05, value: 0.95, words: { 1: "all" } },
  { name: "top_k", min: 0, max: 200, step: 1, value: 0, words: { 0: "all" } },
  { name: "repetition_penalty", min: 1, max: 2, step: 0.05, value: 1, words: { 1: "none" } },
];
const MOST_SEED = 2 ** 31;

export class Generate {
  constructor() {
    this.latest = new Latest();
    this.prompt = area("field.prompt", 3, "prompt");
    this.sliders = Object.fromEntries(SLIDERS.map((one) => [one.name, slider(one)]));
    this.seed = new Field(
      h("input", {
        type: "number",
        name: "seed",
        min: 0,
        max: MOST_SEED,
        step: 1,
        holder: "seed.any",
        inputMode: "numeric",
      }),
      "seed",
    );
    this.seed.element.append(h("p", { class: "hint", t: "seed.hint" }));
    this.stop = h("button", {
      type: "button",
      class: "quiet",
      t: "stop",
      hidden: true,
      onclick: () => this.latest.stop(),
    });
    this.status = h("p", { class: "hint", role: "status" });
    this.output = h("div", { class: "written", role: "region", label: "written", tabindex: "0" });
    this.on = h("button", { type: "button", class: "quiet", t: "go.on", onclick: () => this.#goOn() });
    this.result = h(
      "div",
      { class: "result", hidden: true },
      this.output,
      h("div", { class: "row" }, this.status, this.on),
    );
    const sliders = [...Object.values(this.sliders), this.seed].map((field) => field.element);
    this.settings = h("details", {}, h("summary", { t: "sampling" }), h("div", { class: "sliders" }, sliders));
    this.settings.open = matchMedia("(min-width: 48rem)").matches;
    const run = () => this.run();
    const asking = form({ go: "generate.go", run, beside: this.stop }, this.prompt.element, this.settings);
    asking.addEventListener("input", () => this.keep());
    this.go = asking.querySelector(".go");
    const take = (text) => {
      this.prompt.value = text;
      this.keep();
      this.run();
    };
    this.element = h("div", {}, asking, examples(EXAMPLES.generate, take), this.result);
    const kept = session.get("generate") ?? {};
    this.prompt.value = kept.prompt ?? "";
    this.seed.value = kept.seed ?? "";
    for (const [name, field] of Object.entries(this.sliders)) field.restore(kept[name]);
  }

  keep() {
    const values = Object.entries(this.sliders).map(([name, field]) => [name, field.value]);
    session.set("generate", { prompt: this.prompt.value, seed: this.seed.value, ...Object.fromEntries(values) });
  }

  get fields() {
    return { prompt: this.prompt, ...this.sliders, seed: this.seed };
  }

  #body(seed) {
    const number = (name) => Number(this.sliders[name].value);
    const body = { prompt: this.prompt.value, n: 1, seed, stream_options: { include_usage: true } };
    for (const name of ["max_tokens", "temperature", "top_p", "repetition_penalty"]) body[name] = number(name);
    if (number("top_k") > 0) body.top_k = number("top_k");
    return body;
  }

  async run() {
    for (const field of Object.values(this.fields)) field.clear();
    if (!complete([this.prompt])) return;
    const seed = this.seed.value === "" ? Math.floor(Math.random() * MOST_SEED) : Number(this.seed.value);
    const signal = this.latest.begin();
    const written = h("span", {});
    this.#writing(true);
    this.output.replaceChildren(h("span", { class: "prompt" }, this.prompt.value), written);
    this.result.hidden = false;
    tell(this.status, "writing");
    const started = performance.now();
    let tokens = 0;
    try {
      for await (const event of stream("v1/completions", this.#body(seed), signal)) {
        tokens = event.usage?.completion_tokens ?? tokens;
        written.append(event.choices[0]?.text ?? "");
      }
      const seconds = (performance.now() - started) / 1000;
      tell(this.status, "wrote", { tokens, speed: decimal(tokens / seconds), seed });
    } catch (error) {
      if (error.name === "AbortError") {
        if (this.latest.current(signal)) tell(this.status, "stopped", { seed });
      } else {
        tell(this.status, written.textContent ? "broken" : "");
        if (!written.textContent) this.result.hidden = true;
        if (Object.entries(this.sliders).some(([name]) => error.param === name)) this.settings.open = true;
        showError(error, this.fields);
      }
    } finally {
      if (this.latest.current(signal)) this.#writing(false);
    }
  }

  #writing(now) {
    const moved = !now && document.activeElement === this.stop;
    this.stop.hidden = !now;
    this.on.hidden = now;
    if (moved) this.go.focus();
    if (now) this.output.setAttribute("aria-busy", "true");
    else this.output.removeAttribute("aria-busy");
  }

  #goOn() {
    this.prompt.value = this.output.textContent;
    this.keep();
    this.run();
  }
}
