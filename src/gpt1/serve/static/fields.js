// Form fields with labels and error messages, and the editor of a model's input (text, pair, choices).

import { h, fresh } from "./dom.js";
import { has, tell } from "./language.js";

const BY_CODE = { context_length_exceeded: "error.context", too_long: "error.context" };
const BY_STATUS = {
  0: "error.dead",
  401: "error.key",
  408: "error.slow",
  413: "error.long",
  429: "error.busy",
  503: "error.draining",
  504: "error.slow",
  400: "error.refused",
  404: "error.refused",
  405: "error.refused",
  422: "error.refused",
};

/** A control with its label; an error is shown below it and announced by screen readers. */
export class Field {
  constructor(control, label, extra = null) {
    control.id ||= fresh("field");
    this.control = control;
    this.error = h("p", { class: "error", id: fresh("error"), role: "alert" });
    this.element = h(
      "div",
      { class: "field" },
      h("div", { class: "label" }, h("label", { htmlFor: control.id, t: label }), extra),
      control,
      this.error,
    );
  }

  get value() {
    return this.control.value;
  }

  set value(text) {
    this.control.value = text;
  }

  fail(row, values = {}, detail = "") {
    this.control.setAttribute("aria-invalid", "true");
    this.control.setAttribute("aria-describedby", this.error.id);
    write(this.error, { row, values, detail });
  }

  clear() {
    this.control.removeAttribute("aria-invalid");
    this.control.removeAttribute("aria-describedby");
    this.error.replaceChildren();
  }
}

const write = (element, { row, values, detail }) =>
  element.replaceChildren(h("span", { t: [row, values] }), detail ? h("span", { class: "detail" }, detail) : "");

/** Return the key of strings.json for an ApiError, its values, and the server's message. */
function describe(error) {
  if (error.status === undefined) throw error; // a bug of this page, for the console
  const row = BY_CODE[error.code] ?? BY_STATUS[error.status] ?? "error.failed";
  return {
    row: error.status === 429 && !error.wait ? "error.busy.soon" : row,
    values: { wait: error.wait },
    detail: error.status ? error.message : "",
  };
}

/** Show an ApiError in an element with role alert. */
export function showErrorIn(element, error) {
  if (error.name !== "AbortError") write(element, describe(error));
}

/** Show an ApiError at the field given by its `param`, or at the first field; `fields` is {param: Field}. */
export function showError(error, fields) {
  if (error.name === "AbortError") return;
  const { row, values, detail } = describe(error);
  const param = (error.param ?? "").replace(/\[(\d+)\]/g, ".$1");
  const named = Object.keys(fields)
    .sort((a, b) => b.length - a.length)
    .find((name) => param === name || param.startsWith(`${name}.`));
  const field = fields[named] ?? Object.values(fields)[0];
  field.fail(row, values, detail);
}

/** Mark empty fields and focus the first one; return true if there are none. */
export function complete(fields) {
  const empty = fields.filter((field) => !field.value.trim());
  for (const field of empty) field.fail("error.empty");
  empty[0]?.control.focus();
  return !empty.length;
}

export function area(label, rows, name) {
  const control = h("textarea", { rows, name, spellcheck: false, autocomplete: "off" });
  control.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      control.form?.requestSubmit();
    }
  });
  return new Field(control, label);
}

/** Create a slider that shows its value, or the text in `words` for it; its label is `name`, its hint `name.hint`. */
export function slider({ name, min, max, step, value, words = {} }) {
  const output = h("output", {});
  const control = h("input", { type: "range", name, min, max, step, value });
  const field = new Field(control, name, output);
  output.htmlFor = control.id;
  const show = () => {
    const row = words[control.value];
    if (row) tell(output, row);
    else {
      delete output.dataset.t;
      output.textContent = control.value;
    }
  };
  control.addEventListener("input", show);
  field.restore = (kept) => {
    if (kept !== undefined) control.value = kept;
    show();
  };
  field.element.append(h("p", { class: "hint", t: `${name}.hint` }));
  show();
  return field;
}

/** Create a panel's form: fields, and a row with the submit button (also Ctrl + Enter). */
export function form({ go, run, beside = [] }, fields, ...below) {
  const submit = (event) => {
    event.preventDefault();
    run();
  };
  const button = h("button", { class: "go", t: go });
  const row = h("div", { class: "row" }, button, beside, h("span", { class: "keys hint", t: "keys" }));
  return h("form", { novalidate: true, onsubmit: submit }, fields, row, ...below);
}

/** Create buttons that fill the panel with an example. */
export function examples(items, take) {
  const button = (item) =>
    h("li", {}, h("button", { type: "button", class: "example", onclick: () => take(item.value) }, item.name));
  return h("div", { class: "examples" }, h("span", { t: "try" }), h("ul", {}, items.map(button)));
}

/** Input of a model without a task head: a text. */
const TEXT = [{ name: "text", required: true, list: false }];

/** A field's label: a key of strings.json, or the name of a field that another package adds. */
const labelOf = (name) => (has(`field.${name}`) ? `field.${name}` : name);

/** Editor of one input with the fields of the model's input kind (`/v1/models`): texts, and a list of choices. */
export class ItemEditor {
  constructor(fields, changed) {
    fields ??= TEXT;
    const texts = fields.filter((field) => !field.list);
    this.named = fields.length > 1; // the input is an object, not a string
    this.optional = texts.filter((field) => !field.required).map((field) => field.name);
    this.choicesName = fields.find((field) => field.list)?.name;
    this.element = h("div", { class: texts.length === 2 && !this.choicesName ? "item pair" : "item" });
    this.choices = [];
    this.element.addEventListener("input", () => changed());
    this.changed = changed;
    this.texts = Object.fromEntries(
      texts.map(({ name, required }) => [
        this.named ? `input.${name}` : "input",
        area(labelOf(name), required ? 3 : 1, name),
      ]),
    );
    this.element.append(...Object.values(this.texts).map((field) => field.element));
    if (this.choicesName) {
      this.list = h("div", { class: "options", role: "group", label: "field.choices" });
      this.more = h("button", { type: "button", class: "quiet", t: "choice.add", onclick: () => this.#add("", true) });
      this.element.append(this.list, this.more);
      this.write({});
    }
  }

  /** {param: Field}, to show errors. */
  get fields() {
    const choices = this.choices.map((field, index) => [`input.${this.choicesName}.${index}`, field]);
    return { ...this.texts, ...Object.fromEntries(choices) };
  }

  get required() {
    return Object.values(this.fields).filter((field) => !this.optional.includes(field.control.name));
  }

  read() {
    if (!this.named) return this.texts.input.value;
    const item = {};
    for (const { control, value } of Object.values(this.texts))
      if (value.trim() || !this.optional.includes(control.name)) item[control.name] = value;
    if (this.choicesName) item[this.choicesName] = this.choices.map((field) => field.value);
    return item;
  }

  write(item) {
    if (!this.named) this.texts.input.value = typeof item === "string" ? item : "";
    else for (const [param, field] of Object.entries(this.texts)) field.value = item?.[param.slice(6)] ?? "";
    if (!this.choicesName) return;
    this.choices = [];
    this.list.replaceChildren();
    const choices = item?.[this.choicesName] ?? [];
    for (const choice of choices.length >= 2 ? choices : ["", ""]) this.#add(choice);
  }

  clear() {
    for (const field of Object.values(this.fields)) field.clear();
  }

  #add(text, focus = false) {
    const remove = h("button", { type: "button", class: "quiet remove", onclick: () => this.#remove(field) }, "×");
    const control = h("input", { type: "text", name: "choice", autocomplete: "off", spellcheck: false, value: text });
    const field = new Field(control, "field.choice", remove);
    this.choices.push(field);
    this.list.append(field.element);
    this.#number();
    if (focus) {
      control.focus();
      this.changed();
    }
  }

  #remove(field) {
    const index = this.choices.indexOf(field);
    this.choices.splice(index, 1);
    field.element.remove();
    this.#number();
    this.choices[Math.min(index, this.choices.length - 1)].control.focus();
    this.changed();
  }

  #number() {
    this.choices.forEach((field, index) => {
      tell(field.element.querySelector("label"), "field.choice", { n: index + 1 });
      const remove = field.element.querySelector(".remove");
      remove.hidden = this.choices.length <= 2;
      const again = h("button", { label: ["choice.remove", { n: index + 1 }] });
      for (const name of ["aria-label", "data-t-aria-label", "data-t-values"])
        remove.setAttribute(name, again.getAttribute(name));
    });
  }
}
