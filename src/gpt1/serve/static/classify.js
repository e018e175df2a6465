// Classify panel: label probabilities and word weights.

import { Latest, call } from "./api.js";
import { bars } from "./bars.js";
import { fresh, h, table } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { ItemEditor, complete, examples, form, showError, showErrorIn } from "./fields.js";
import { decimal, share, signed, tell } from "./language.js";
import { session } from "./store.js";
import { Words } from "./words.js";

const MOST_BARS = 10;
const FAINT = 0.08; // minimum weight of a marked word, as a fraction of the largest weight
const STRONGEST = 12;

const checked = (word) => typeof word.occlusion === "number";

/** Return the key of strings.json, and its values, for a text name ("text_a", "choice 0"). */
function nameOfText(name) {
  const [choice, number] = name.split(" ");
  return number === undefined ? [`field.${name}`] : [`field.${choice}`, { n: Number(number) + 1 }];
}

/** Number of words of a truncated text that the model used: up to the last word with a weight. */
const wordsRead = (text) => text.words.findLastIndex((word) => word.weight !== 0) + 1;

export class Classify {
  constructor(model) {
    this.model = model;
    this.answer = new Latest();
    this.reasons = new Latest();
    this.item = new ItemEditor(model.fields, () => this.keep());
    this.occlusion = h("input", { type: "checkbox", id: fresh("occlusion"), onchange: () => this.explain() });
    this.label = h("select", { id: fresh("label"), onchange: () => this.explain() });
    this.verdict = h("p", { class: "verdict", role: "status" });
    this.scores = h("div", {});
    this.note = h("p", { class: "hint", role: "status" });
    this.why = h("section", { class: "why", hidden: true, label: "why.title" });
    this.whyError = h("p", { class: "error", role: "alert" });
    this.result = h(
      "div",
      { class: "result", hidden: true },
      this.verdict,
      this.note,
      this.scores,
      this.whyError,
      this.why,
    );
    const take = (item) => {
      this.item.write(item);
      this.keep();
      this.run();
    };
    const asking = form({ go: "classify.go", run: () => this.run() }, this.item.element);
    this.element = h("div", {}, asking, examples(EXAMPLES[model.kind] ?? [], take), this.result);
    const kept = session.get("classify") ?? {};
    if (kept.kind === model.kind) this.item.write(kept.item);
    this.occlusion.checked = Boolean(kept.occlusion);
  }

  keep() {
    session.set("classify", { kind: this.model.kind, item: this.item.read(), occlusion: this.occlusion.checked });
  }

  async run() {
    this.item.clear();
    if (!complete(this.item.required)) return;
    this.asked = this.item.read();
    const signal = this.answer.begin();
    this.reasons.stop();
    this.result.setAttribute("aria-busy", "true");
    try {
      const {
        data: [result],
      } = await call("v1/classify", { input: this.asked }, signal);
      this.show(result);
      this.explain();
    } catch (error) {
      showError(error, this.item.fields);
    } finally {
      if (this.answer.current(signal)) this.result.removeAttribute("aria-busy");
    }
  }

  nameOf(label) {
    return this.model.kind === "choices" ? (this.asked.choices[Number(label)] ?? label) : label;
  }

  show(result) {
    const { regression } = this.model;
    const ranked = Object.entries(result.scores).sort((a, b) => b[1] - a[1]);
    const inOrder = ranked.length > 3 ? ranked.slice(0, MOST_BARS) : Object.entries(result.scores);
    const best = String(result.label);
    if (regression) this.verdict.replaceChildren(decimal(result.score), " ", h("span", { class: "sure", t: "value" }));
    else this.verdict.replaceChildren(this.nameOf(best), " ", h("span", { class: "sure" }, share(result.score)));
    const rows = inOrder.map(([name, value]) => ({ name: this.nameOf(name), share: value, best: name === best }));
    this.scores.replaceChildren(bars(rows, 1, this.model.kind === "choices"));
    const more = ranked.length - inOrder.length;
    if (more) this.scores.append(h("p", { class: "hint", t: ["bars.more", { n: more }] }));
    if (result.truncated) tell(this.note, "truncated", { n: this.model.max_length });
    else this.note.replaceChildren();
    const option = ([name]) => h("option", { value: name, selected: name === best }, this.nameOf(name));
    this.label.replaceChildren(...ranked.map(option));
    this.why.hidden = true;
    this.result.hidden = false;
  }

  async explain() {
    this.keep();
    const signal = this.reasons.begin();
    this.why.setAttribute("aria-busy", "true");
    this.whyError.replaceChildren();
    const body = { input: this.asked, occlusion: this.occlusion.checked };
    if (this.label.value) body.label = this.label.value;
    try {
      this.showWords(await call("v1/explain", body, signal));
    } catch (error) {
      showErrorIn(this.whyError, error);
    } finally {
      if (this.reasons.current(signal)) this.why.removeAttribute("aria-busy");
    }
  }

  showWords(result) {
    const focused = [this.label, this.occlusion].find((control) => control === document.activeElement);
    const all = result.texts.flatMap((text) => text.words);
    const most = Math.max(...all.map((word) => Math.abs(word.weight)), 1e-12);
    const { regression } = this.model;
    const heading = regression
      ? h("h2", { t: "why.value" })
      : h("h2", {}, h("label", { htmlFor: this.label.id, t: "why.label" }), " ", this.label);
    const check = h("label", { class: "check" }, this.occlusion, h("span", { t: "occlusion" }));
    const brackets = regression ? "legend.occlusion.value" : "legend.occlusion";
    const legend = h(
      "p",
      { class: "legend" },
      h("span", { class: "word for", vars: { w: 0.7 }, t: [regression ? "legend.raises" : "legend.for"] }),
      h("span", { class: "word against", vars: { w: 0.7 }, t: [regression ? "legend.lowers" : "legend.against"] }),
      h("span", { class: "hint", t: "legend.how" }),
      all.some(checked) ? h("span", { class: "hint", t: brackets }) : null,
    );
    this.several = result.texts.length > 1;
    const texts = result.texts.map((text) => this.#text(text, result.truncated ? wordsRead(text) : Infinity, most));
    const open = this.why.querySelector("details")?.open;
    this.why.replaceChildren(heading, legend, ...texts, check, this.#table(all));
    this.why.querySelector("details").open = open;
    this.why.hidden = false;
    focused?.focus();
  }

  #text(text, read, most) {
    const words = new Words(...(this.several ? nameOfText(text.name) : ["why.words"]));
    const letters = Array.from(text.text); // offsets are in code points
    const parts = [];
    let at = 0;
    text.words.forEach((word, index) => {
      if (word.start === null) return; // repaired text has no offsets: shown in the table only
      parts.push(letters.slice(at, word.start).join(""));
      const shown = letters.slice(word.start, word.end).join("");
      at = word.end;
      if (index >= read) {
        parts.push({ plain: true, class: "lost", text: shown });
        return;
      }
      const weight = Math.abs(word.weight) / most;
      const side = weight < FAINT ? "" : word.weight > 0 ? "for" : "against";
      const note = signed(word.weight) + (checked(word) ? ` (${signed(word.occlusion)})` : "");
      const vars = { w: weight.toFixed(3) };
      parts.push({ text: shown, name: `${shown} ${note}`, note, class: `word ${side}`, vars });
    });
    parts.push(letters.slice(at).join(""));
    words.show(parts);
    const heading = this.several ? h("p", { class: "label", t: nameOfText(text.name) }) : null;
    return h("div", { class: "text" }, heading, words.element);
  }

  #table(all) {
    const strongest = [...all].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, STRONGEST);
    const head = ["table.word", "table.weight", ...(strongest.some(checked) ? ["table.occlusion"] : [])];
    const row = (word) => [word.text, signed(word.weight), ...(checked(word) ? [signed(word.occlusion)] : [])];
    const title = h("summary", { t: ["table.title", { n: strongest.length }] });
    return h("details", {}, title, table(head, strongest.map(row)));
  }
}
