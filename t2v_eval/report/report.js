"use strict";
// The browser of items: sorts and filters the data of a section, and builds what comes into view.

const AT_ONCE = 48; // cards that are added when the end of the list comes into view
const COLUMNS = 4, TEXTS = 3; // what a card shows of an item; the dialog shows all

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const glyphs = read("glyphs");
const pictures = read("pictures");

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

const number = (value) => value === null ? "–" : String(value).replace("-", "−");

function picture([index, name, frames]) {
  const called = name || "picture", more = frames > 1 ? `${frames} frames` : "";
  if (index < 0) {
    const why = index === -1 ? "not in this page" : "could not be read";
    return element("span", { class: "none", title: called }, name || "picture", element("br"), why);
  }
  const image = element("img", { src: pictures[index], alt: called, title: more ? `${called}, ${more}` : called, decoding: "async" });
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 96));
  return image;
}

// What people said of a cell; of a benchmark of right and wrong, which it is.
function people(data, item, cell) {
  if (!item.h || item.h[cell] === null) return null;
  if (data.labels === "match") {
    const right = item.h[cell] === 1;
    return element("span", { class: `people ${right ? "yes" : ""}` }, right ? "✓ matches" : "no match");
  }
  return element("span", { class: "people" }, "people ", element("b", {}, number(item.h[cell])));
}

function score(data, item, cell, k, whole) {
  const scorer = data.scorers[k], failure = item.f[k].find(([of]) => of === cell);
  const reason = failure ? data.reasons[failure[1]] : "";
  const said = item.x?.[k].find(([of]) => of === cell);
  const value = failure ? "failed" : number(item.s[k][cell]);
  const share = item.r[k][cell] ?? 0;
  const bar = element("i");
  bar.style.width = `${share}%`;
  return element("span", { class: `score k${scorer.colour}`, title: scorer.label + (reason ? `: ${reason}` : `: above ${share} % of its scores`) },
    element("span", { "aria-hidden": "true" }, glyphs[scorer.colour]),
    element("span", { class: `n ${failure ? "fail" : ""}${whole ? " who" : ""}` }, whole ? `${scorer.label} ` : "", element("b", {}, value), whole && reason ? `: ${reason}` : ""),
    element("span", { class: "bar", "aria-hidden": "true" }, bar),
    whole && said ? element("code", { class: "said" }, said[1]) : null);
}

// One picture or video: it stands beside its texts and their scores.
function single(data, item, whole) {
  const [, name, frames] = item.pics[0];
  const caption = [name, frames > 1 ? `${frames} frames` : ""].filter(Boolean).join(", ");
  const rows = item.texts.slice(0, whole ? undefined : TEXTS).map((text, j) => element("div", { class: "row" },
    element("span", { class: "text", dir: "auto" }, text), people(data, item, j),
    element("div", { class: "scores" }, ...data.scorers.map((_, k) => score(data, item, j, k, whole)))));
  return element("div", { class: "single" },
    element("div", {}, picture(item.pics[0]), whole && caption ? element("small", { class: "file" }, caption) : null),
    element("div", { class: "rows" }, ...rows));
}

function table(data, item, whole) {
  if (item.pics.length === 1) return single(data, item, whole);
  const columns = whole ? item.pics.length : Math.min(COLUMNS, item.pics.length);
  const rows = whole ? item.texts.length : Math.min(TEXTS, item.texts.length);
  const head = element("tr", {}, element("td"));
  for (let i = 0; i < columns; i++) {
    const [, name, frames] = item.pics[i];
    const caption = [name, frames > 1 ? `${frames} frames` : ""].filter(Boolean).join(", ");
    head.append(element("th", { scope: "col" }, picture(item.pics[i]), whole && caption ? element("small", { class: "file" }, caption) : null));
  }
  const body = element("tbody");
  for (let j = 0; j < rows; j++) {
    const row = element("tr", {}, element("th", { scope: "row" }, element("span", { class: "text", dir: "auto" }, item.texts[j])));
    for (let i = 0; i < columns; i++) {
      const cell = i * item.texts.length + j;
      row.append(element("td", {}, people(data, item, cell), ...data.scorers.map((_, k) => score(data, item, cell, k, whole))));
    }
    body.append(row);
  }
  const found = element("table", { class: "cells" }, element("thead", {}, head), body);
  return whole ? element("div", { class: "scroll" }, found) : found;
}

const tagsOf = (data, item) => [...item.tags.map((k) => data.tags[k]), ...(item.more || [])]
  .map((tag) => element("span", { class: "tag" }, tag));

function disagreements(data, item) {
  const apart = [];
  const known = item.d.filter((one) => one !== null);
  if (known.length) apart.push(`with humans ${mean(known).toFixed(2)}`);
  if (data.scorers.length > 1) apart.push(`of scorers ${item.a.toFixed(2)}`);
  return apart.length ? element("span", { class: "soft" }, `disagreement ${apart.join(", ")}`) : null;
}

function verdicts(data, item, whole) {
  const metrics = whole ? data.metrics : [data.headline];
  const lines = data.scorers.map((scorer, k) => {
    const line = element("span", {}, element("span", { class: `mark k${scorer.colour}`, "aria-hidden": "true" }, glyphs[scorer.colour]), ` ${scorer.label}: `);
    for (const metric of metrics) {
      const value = item.v[k][data.metrics.indexOf(metric)];
      if (value === null || value === undefined) continue;
      const kind = value === 1 ? "yes" : value === 0 ? "no" : "";
      const shown = value === 1 ? "✓" : value === 0 ? "✗" : number(Number(value.toFixed(2)));
      line.append(element("span", { class: kind }, `${metric}\u00a0${shown}`), " ");
    }
    if (whole && item.d[k] !== null) line.append(element("span", { class: "soft" }, `disagreement with humans ${item.d[k].toFixed(2)}`));
    return line.childElementCount > 1 ? line : null;
  }).filter(Boolean);
  return lines.length ? element("div", { class: "verdicts" }, ...lines) : null;
}

const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;

function card(data, item, open) {
  const button = element("button", { type: "button", class: "open", "data-n": item.n, "aria-haspopup": "dialog" }, item.id);
  button.addEventListener("click", () => open(item));
  const cut = item.pics.length > COLUMNS || item.texts.length > TEXTS || item.hidden;
  const parts = cut ? element("span", { class: "soft" }, `in part: ${item.pics.length}${item.hidden ? "+" : ""} × ${item.texts.length}`) : null;
  return element("article", { class: `item${item.pics.length > 2 ? " wide" : ""}` },
    element("header", {}, button, ...tagsOf(data, item), disagreements(data, item), parts),
    table(data, item, false), verdicts(data, item, false));
}

const orders = {
  number: () => (item) => item.n,
  apart: () => (item) => -item.a,
  people: (k) => k === undefined
    ? (item) => { const known = item.d.filter((one) => one !== null); return known.length ? -mean(known) : 1; }
    : (item) => item.d[k] === null ? 1 : -item.d[k],
  worst: (k, data) => { const m = data.metrics.indexOf(data.headline); return (item) => item.v[k][m] ?? Infinity; },
};

function browse(root) {
  const data = read(root.dataset.of);
  const one = (selector) => root.querySelector(selector);
  const list = one(".items"), more = one(".more");
  const words = new Map();
  let found = [], shown = 0;

  const add = () => {
    const next = found.slice(shown, shown + AT_ONCE);
    list.append(...next.map((item) => card(data, item, (chosen) => dialog.show(data, found, chosen))));
    shown += next.length;
    more.hidden = shown >= found.length;
  };
  const textOf = (item) => {
    if (!words.has(item.n)) words.set(item.n, [item.id, ...item.texts].join("\n").toLowerCase());
    return words.get(item.n);
  };
  const update = () => {
    const [key, scorer] = one(".sort").value.split("-");
    const order = orders[key](scorer, data);
    const tag = one(".by-tag")?.value, failure = one(".by-failure")?.value;
    const differs = one(".differs")?.checked, wanted = one(".find").value.trim().toLowerCase();
    const headline = data.metrics.indexOf(data.headline);
    found = data.items.filter((item) => {
      const reasons = item.f.flat().map(([, reason]) => reason);
      if (tag && !item.tags.includes(Number(tag))) return false;
      if (failure === "any" && !reasons.length) return false;
      if (failure === "none" && reasons.length) return false;
      if (failure && !isNaN(failure) && !reasons.includes(Number(failure))) return false;
      if (differs && new Set(item.v.map((own) => own[headline])).size < 2) return false;
      return !wanted || textOf(item).includes(wanted);
    }).map((item) => [order(item), item]).sort((a, b) => (a[0] === b[0] ? 0 : a[0] - b[0]) || a[1].n - b[1].n).map(([, item]) => item);
    list.replaceChildren();
    shown = 0;
    add();
    one(".count").textContent = `${found.length} of ${data.items.length} items`;
  };
  root.addEventListener("input", update);
  more.addEventListener("click", add);
  new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting) && !more.hidden) add(); }, { rootMargin: "800px" }).observe(more);
  update();
}

// The item that is open, with those before and after it in the order of the list it came from.
const dialog = {
  box: document.querySelector("dialog"),
  show(data, items, item) {
    Object.assign(this, { data, items, at: items.indexOf(item) });
    this.fill();
    this.box.showModal();
  },
  fill() {
    const item = this.items[this.at], one = (selector) => this.box.querySelector(selector);
    one("#opened").textContent = item.id;
    one(".place").textContent = `${this.at + 1} of ${this.items.length}`;
    one(".before").disabled = this.at === 0;
    one(".after").disabled = this.at === this.items.length - 1;
    const parts = [
      element("header", {}, ...tagsOf(this.data, item), disagreements(this.data, item)),
      table(this.data, item, true),
      verdicts(this.data, item, true),
      item.hidden ? element("p", { class: "soft" }, "This item has more pictures or texts; scores.csv has all.") : null,
    ];
    one(".content").replaceChildren(...parts.filter(Boolean));
    this.box.scrollTop = 0;
  },
  move(step) {
    if (this.items[this.at + step]) { this.at += step; this.fill(); }
  },
  listen() {
    const one = (selector) => this.box.querySelector(selector);
    one(".before").addEventListener("click", () => this.move(-1));
    one(".after").addEventListener("click", () => this.move(1));
    one(".close").addEventListener("click", () => this.box.close());
    this.box.addEventListener("click", (event) => { if (event.target === this.box) this.box.close(); });
    this.box.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.move(-1);
      if (event.key === "ArrowRight") this.move(1);
    });
  },
};

dialog.listen();
document.querySelectorAll(".browser").forEach(browse);
document.documentElement.dataset.ready = String(Math.round(performance.now()));
