// Page layout: model details, the panels that the model supports, language, theme, API key.

import { call } from "./api.js";
import { Attention } from "./attention.js";
import { Classify } from "./classify.js";
import { h } from "./dom.js";
import { Generate } from "./generate.js";
import { choose, count, load, millions, other, tell } from "./language.js";
import { Next } from "./next.js";
import { remembered, session } from "./store.js";

const PANELS = [
  { name: "classify", Panel: Classify, can: (model) => model.kind !== null, why: "missing.classify" },
  { name: "generate", Panel: Generate, can: () => true },
  { name: "next", Panel: Next, can: () => true },
  { name: "attention", Panel: Attention, can: () => true },
];
const MOST_LABELS = 6; // shown in the header

const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
let served = null;
let shown = [];

// ---- the model

async function start() {
  $("down").hidden = true;
  try {
    const {
      data: [entry],
    } = await call("v1/models");
    served = { id: entry.id, ...entry.gpt1 };
  } catch (error) {
    if (error.status !== 401) down(error);
    return;
  }
  $("key").hidden = true;
  introduce(served);
  build(served);
}

function down(error) {
  const again = h("button", { type: "button", t: "again", onclick: start });
  const detail = error.status ? h("p", { class: "detail" }, error.message) : null;
  $("down").replaceChildren(h("p", { t: error.status ? "error.failed" : "error.dead" }), detail ?? "", again);
  $("down").hidden = false;
}

function introduce(model) {
  document.title = `${model.id} · gpt1`;
  $("model").textContent = model.id;
  $("report").hidden = !model.report || Boolean(session.get("key")); // a link cannot send the key
  const labels = model.labels.slice(0, MOST_LABELS).join(", ") + (model.labels.length > MOST_LABELS ? " …" : "");
  const task = model.task === null ? "task.none" : model.regression ? "task.regression" : `task.${model.task}`;
  const shape = { layers: model.n_layer, heads: model.n_head, width: model.n_embd };
  $("facts").replaceChildren(
    h("span", { t: task }),
    labels && !model.regression ? h("span", { class: "labels" }, labels) : "",
    h("span", { t: ["size", { n: millions(model.parameters) }] }),
    h("span", { t: ["shape", shape] }),
    h("span", { t: ["context", { n: count(model.n_ctx) }] }),
    h("span", {}, `${model.device}, ${model.dtype}`),
  );
}

// ---- panels as tabs

function build(model) {
  const able = PANELS.filter((panel) => panel.can(model));
  shown = able.map(({ name, Panel }) => {
    const panel = new Panel(model);
    const tab = h("button", {
      type: "button",
      role: "tab",
      id: `tab-${name}`,
      "aria-controls": name,
      t: `tab.${name}`,
      onclick: () => open(name),
    });
    const box = h(
      "section",
      { id: name, role: "tabpanel", "aria-labelledby": tab.id },
      h("p", { class: "about", t: `about.${name}` }),
      panel.element,
    );
    return { name, panel, tab, box };
  });
  $("tabs").replaceChildren(...shown.map(({ tab }) => tab));
  $("panels").replaceChildren(...shown.map(({ box }) => box));
  $("tabs").hidden = false;
  const missing = PANELS.find((panel) => !panel.can(model));
  tell($("missing"), missing?.why ?? "");
  open(location.hash.slice(1), false);
}

function open(name, remember = true) {
  const chosen =
    shown.find((one) => one.name === name) ?? shown.find((one) => one.name === session.get("panel")) ?? shown[0];
  for (const one of shown) {
    const now = one === chosen;
    one.box.hidden = !now;
    one.tab.setAttribute("aria-selected", String(now));
    one.tab.tabIndex = now ? 0 : -1;
  }
  session.set("panel", chosen.name);
  if (remember) history.replaceState(null, "", `#${chosen.name}`);
  chosen.panel.enter?.();
}

function walk(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const at = shown.findIndex(({ tab }) => tab === document.activeElement);
  const to = Number.isFinite(step) ? (at + step + shown.length) % shown.length : step < 0 ? 0 : shown.length - 1;
  shown[to].tab.focus();
  open(shown[to].name);
}

// ---- language, theme, key

function label() {
  const theme = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  tell($("theme"), theme === "dark" ? "theme.light" : "theme.dark");
  $("language").textContent = { en: "English", zh: "中文" }[other()];
  $("language").lang = { en: "en", zh: "zh-CN" }[other()];
}

$("language").addEventListener("click", () => {
  choose(other());
  label();
  if (served) introduce(served);
});
$("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  remembered.set("theme", document.documentElement.dataset.theme);
  label();
  dispatchEvent(new Event("gpt1:theme"));
});
dark.addEventListener("change", label);
$("tabs").addEventListener("keydown", walk);
addEventListener("hashchange", () => {
  if (shown.length && location.hash !== "#main") open(location.hash.slice(1), false);
});

addEventListener("gpt1:unauthorised", ({ detail: { tried } }) => {
  $("key").hidden = false;
  $("key").classList.toggle("wrong", tried);
  tell($("key").querySelector(".hint"), tried ? "key.wrong" : "key.hint");
  $("key-field").focus();
});
$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  session.set("key", $("key-field").value);
  $("key-field").value = "";
  if (shown.length)
    $("key").hidden = true; // inputs are kept, so the user can submit again
  else start();
});

await load();
label();
await start();
