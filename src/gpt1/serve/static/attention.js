// Attention panel: attention weights by layer and head.

import { Latest, call } from "./api.js";
import { fresh, h, set, table } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { Field, ItemEditor, complete, examples, form, showError } from "./fields.js";
import { heat, mean, withoutFirst } from "./heat.js";
import { share, t, tell } from "./language.js";
import { session } from "./store.js";
import { isSpecial, plain } from "./tokens.js";
import { BREAK, Words } from "./words.js";

const MEAN = "mean";
const TABLE = 12;

export class Attention {
  constructor(model) {
    this.model = model;
    this.latest = new Latest();
    this.head = MEAN;
    this.row = -1;
    this.item = new ItemEditor(model.fields, () => this.keep());
    const layers = Array.from({ length: model.n_layer }, (_, layer) =>
      h("option", { value: layer, t: ["layer.n", { n: layer + 1 }] }),
    );
    this.layer = h(
      "select",
      {
        name: "layer",
        onchange: () => {
          this.keep();
          this.run();
        },
      },
      layers,
    );
    this.layerField = new Field(this.layer, "layer");
    this.choice = h("select", { name: "choice", onchange: () => this.run() });
    this.choiceField = new Field(this.choice, "choice.which");
    this.skip = h("input", {
      type: "checkbox",
      id: fresh("skip"),
      onchange: () => {
        this.keep();
        this.render();
      },
    });
    this.heads = h("fieldset", { class: "heads" });
    this.words = new Words("attention.words", {}, (index) => this.look(index));
    this.status = h("p", { class: "hint", role: "status" });
    this.matrix = h("canvas", { class: "matrix", role: "img", label: "matrix" });
    this.frame = h("span", { class: "frame", "aria-hidden": "true", hidden: true });
    this.table = h("details", {}, h("summary", { t: "attention.table" }), h("div", {}));
    this.matrix.addEventListener("pointermove", (event) => this.#point(event));
    this.result = h(
      "div",
      { class: "result attention", hidden: true },
      h("div", { class: "row" }, this.layerField.element, model.kind === "choices" ? this.choiceField.element : null),
      this.heads,
      h("label", { class: "check" }, this.skip, h("span", { t: "skip.first" })),
      h(
        "div",
        { class: "beside" },
        h("div", { class: "text" }, this.words.element, this.status, this.table),
        h(
          "figure",
          {},
          h("div", { class: "holder" }, this.matrix, this.frame),
          h("figcaption", { class: "hint", t: "matrix.how" }),
        ),
      ),
    );
    const run = () => {
      this.row = -1;
      this.run(true);
    };
    const asking = form({ go: "attention.go", run }, this.item.element);
    const plain = !model.fields || model.kind === "single";
    const tries = plain ? EXAMPLES.attention : (EXAMPLES[model.kind] ?? []);
    const take = (item) => {
      this.item.write(item);
      this.keep();
      run();
    };
    this.element = h("div", {}, asking, examples(tries, take), this.result);
    const kept = session.get("attention") ?? {};
    if (kept.kind === model.kind) this.item.write(kept.item);
    if (kept.layer < model.n_layer) this.layer.value = kept.layer;
    this.skip.checked = kept.skip ?? true;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.render());
    addEventListener("gpt1:theme", () => this.render());
  }

  keep() {
    session.set("attention", {
      kind: this.model.kind,
      item: this.item.read(),
      layer: Number(this.layer.value),
      skip: this.skip.checked,
    });
  }

  async run(anew = false) {
    this.item.clear();
    if (anew || !this.asked) {
      if (!complete(this.item.required)) return;
      this.asked = this.item.read();
      if (this.asked.choices)
        this.choice.replaceChildren(...this.asked.choices.map((text, index) => h("option", { value: index }, text)));
    }
    const signal = this.latest.begin();
    this.result.setAttribute("aria-busy", "true");
    try {
      const body = { input: this.asked, layer: Number(this.layer.value) };
      if (this.model.kind === "choices") body.choice = Number(this.choice.value);
      this.attention = await call("v1/attention", body, signal);
      this.result.hidden = false;
      this.render();
    } catch (error) {
      showError(error, { ...this.item.fields, layer: this.layerField });
    } finally {
      if (this.latest.current(signal)) this.result.removeAttribute("aria-busy");
    }
  }

  /** Show the selected head's weights, without the first token if that is selected. */
  render() {
    if (!this.attention) return;
    const length = this.attention.tokens.length;
    if (this.row < 0 || this.row >= length) this.row = Math.max(0, length - 2);
    const rows = this.head === MEAN ? mean(this.attention.heads) : this.attention.heads[this.head];
    this.rows = this.skip.checked ? withoutFirst(rows) : rows;
    this.#renderHeads();
    heat(this.matrix, this.rows);
    this.words.show(this.attention.tokens.flatMap((token) => this.#parts(token)));
    this.look(this.row);
    this.words.select(this.row);
  }

  #renderHeads() {
    const all = [[MEAN, mean(this.attention.heads)], ...this.attention.heads.map((rows, head) => [head, rows])];
    const at = [...this.heads.querySelectorAll("input")].indexOf(document.activeElement);
    this.heads.replaceChildren(
      h("legend", { class: "label", t: "heads" }),
      ...all.map(([head, rows]) => {
        const small = h("canvas", { "aria-hidden": "true" });
        const input = h("input", {
          type: "radio",
          name: "head",
          value: head,
          checked: head === this.head,
          onchange: () => {
            this.head = head;
            this.render();
          },
        });
        const name = head === MEAN ? h("span", { t: "head.mean" }) : h("span", { t: ["head.n", { n: head + 1 }] });
        const label = h("label", {}, input, small, name);
        queueMicrotask(() => heat(small, this.skip.checked ? withoutFirst(rows) : rows));
        return label;
      }),
    );
    if (at >= 0) this.heads.querySelectorAll("input")[at]?.focus();
  }

  #parts(token) {
    const { text, open } = plain(token);
    const option = { text, name: text, class: `token ${open ? "open" : ""} ${isSpecial(token) ? "special" : ""}` };
    return open ? [option] : [option, BREAK];
  }

  /** Colour the tokens by the attention weights of token `index`. */
  look(index) {
    this.row = index;
    const weights = this.rows[index];
    const most = Math.max(...weights, 1e-12);
    this.words.options.forEach((option, position) => {
      const weight = weights[position];
      option.classList.toggle("later", weight === undefined);
      option.classList.toggle("from", position === index);
      set(option, { w: weight === undefined ? 0 : (weight / most).toFixed(3) });
      const note = weight === undefined ? "" : share(weight);
      option.dataset.note = note;
      option.setAttribute("aria-label", `${option.textContent} ${note}`.trim());
    });
    const name = (position) => plain(this.attention.tokens[position]).text;
    const ranked = [...weights.keys()].sort((a, b) => weights[b] - weights[a]).filter((position) => weights[position] > 0);
    const best = ranked
      .slice(0, 3)
      .map((position) => `“${name(position)}” ${share(weights[position])}`)
      .join(", ");
    tell(this.status, best ? "attends.to" : "attends.none", { token: name(index), best });
    this.frame.hidden = false;
    set(this.frame, { row: index / this.attention.tokens.length, height: 1 / this.attention.tokens.length });
    const rows = ranked.slice(0, TABLE).map((position) => [name(position), share(weights[position])]);
    this.table.lastChild.replaceChildren(table(["table.token", "table.share"], rows));
  }

  #point(event) {
    const box = this.matrix.getBoundingClientRect();
    const size = this.attention.tokens.length;
    const row = Math.min(size - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * size)));
    const column = Math.floor(((event.clientX - box.left) / box.width) * size);
    if (row !== this.row) {
      this.words.select(row);
      this.look(row);
    }
    const weight = this.rows[row][column];
    const name = (position) => plain(this.attention.tokens[position]).text;
    this.matrix.title =
      weight === undefined ? "" : t("cell", { from: name(row), to: name(column), share: share(weight) });
  }
}
