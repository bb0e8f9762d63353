// The item browser: filters and sorts the items of a section and builds those that come into view.
// item_browser.py writes the data and describes its keys.

const AT_ONCE = 48; // cards added when the end of the list comes into view
const COLUMNS = 4, TEXTS = 3; // shown on a card; the dialog shows all
const IMAGES_AT_ONCE = 24; // in the dialog, before its button is pressed

const narrow = matchMedia("(max-width: 40rem)"); // a phone, as in report.css

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const glyphs = read("glyphs");

// Images are megabytes and come after this script in the page, so that the items appear before them.
const arrived = new Promise((resolve) => document.addEventListener("DOMContentLoaded", resolve));
const albums = {}; // "images" and "large", each read when its first image is shown
const imageAt = (album, index) => (albums[album] ??= read(album))[index];

function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const number = (value) => value === null ? "–" : String(value).replace("-", "−");

// The image of a unit; in the dialog the larger one, where the page has it.
function imageOf([index, name, frames, larger], whole) {
  if (index === -3) return null;
  const label = name || "image", more = frames > 1 ? `${frames} frames` : "";
  if (index < 0) {
    const why = index === -1 ? "not in this page" : "could not be read";
    return element("span", { class: "none", title: label }, label, element("br"), why);
  }
  const image = element("img", { alt: label, title: more ? `${label}, ${more}` : label, decoding: "async" });
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 96));
  arrived.then(() => { image.src = whole && larger >= 0 ? imageAt("large", larger) : imageAt("images", index); });
  return image;
}

// The human rating of a cell, or whether it matches where labels are right or wrong.
function rating(data, item, cell) {
  if (!item.human || item.human[cell] === null) return null;
  if (data.labels === "match") {
    const right = item.human[cell] === 1;
    return element("span", { class: `people ${right ? "yes" : ""}` }, right ? "✓ matches" : "no match");
  }
  return element("span", { class: "people" }, `${data.judges} `, element("b", {}, number(item.human[cell])));
}

function score(data, item, cell, k, whole) {
  const scorer = data.scorers[k], failure = item.failures[k].find(([failed]) => failed === cell);
  const reason = failure ? data.reasons[failure[1]] : "";
  const detail = item.details?.[k].find(([described]) => described === cell);
  const value = failure ? "failed" : number(item.scores[k][cell]);
  const share = item.percentiles[k][cell];
  const place = share === null ? null : element("span", { class: "place-of", "aria-hidden": "true" }, element("i"));
  if (place) place.firstChild.style.left = `${share}%`;
  return element("span", { class: `score k${scorer.colour}`, title: scorer.label + (reason ? `: ${reason}` : share === null ? "" : `: higher than ${share} % of its scores`) },
    element("span", { "aria-hidden": "true" }, glyphs[scorer.colour]),
    element("span", { class: `n ${failure ? "fail" : ""}${whole ? " who" : ""}` }, whole ? `${scorer.label} ` : "", element("b", {}, value), whole && reason ? `: ${reason}` : ""),
    place,
    whole && share !== null ? element("span", { class: "said" }, `higher than ${share} % of its scores`) : null,
    whole && detail ? detailOf(detail[1]) : null);
}

// What a model returned beside a score: a text, or a list of questions with their answers.
function detailOf(detail) {
  if (!Array.isArray(detail)) return element("code", { class: "said" }, detail);
  return element("ul", { class: "said answers" }, ...detail.map((answer) => element("li", { dir: "auto" }, answer)));
}

function generatorOf(data, item, i) {
  const name = item.generators?.[i];
  if (!name) return null;
  const known = data.generators.find((one) => one.label === name);
  return element("span", { class: "generator" }, known ? element("span", { class: `k${known.colour}`, "aria-hidden": "true" }, `${glyphs[known.colour]} `) : null, name);
}

// Which images a card shows: one of each generator before the second of any.
function shownColumns(item) {
  const all = item.images.map((_, i) => i);
  if (all.length <= COLUMNS) return all;
  const seen = {}, turn = all.map((i) => (seen[item.generators?.[i]] = (seen[item.generators?.[i]] ?? -1) + 1));
  const chosen = item.generators ? [...all].sort((a, b) => turn[a] - turn[b] || a - b) : all;
  return chosen.slice(0, COLUMNS).sort((a, b) => a - b);
}

// An image or video of an item below the name of its generator, and its own name in the dialog.
function imageParts(data, item, i, whole) {
  const [, name, frames] = item.images[i];
  const caption = [name, frames > 1 ? `${frames} frames` : ""].filter(Boolean).join(", ");
  return [generatorOf(data, item, i), imageOf(item.images[i], whole), whole && caption ? element("small", { class: "file" }, caption) : null];
}

// An image or video of an item, beside its texts and their scores, or the scores alone.
function single(data, item, whole, i = 0, named = true) {
  const rows = item.texts.slice(0, whole ? undefined : TEXTS).map((text, j) => {
    const cell = i * item.texts.length + j;
    return element("div", { class: "row" },
      named ? element("span", { class: "text", dir: "auto" }, text) : null, rating(data, item, cell),
      element("div", { class: "scores" }, ...data.scorers.map((_, k) => score(data, item, cell, k, whole))));
  });
  return element("div", { class: "single" },
    element("div", {}, ...item.images[i][0] === -3 ? [] : imageParts(data, item, i, whole)),
    element("div", { class: "rows" }, ...rows));
}

// A table of some images of an item, with all its texts or, on a card, the first.
function grid(data, item, columns, whole) {
  const rows = whole ? item.texts.length : Math.min(TEXTS, item.texts.length);
  const head = element("tr", {}, element("td"));
  for (const i of columns) head.append(element("th", { scope: "col" }, ...imageParts(data, item, i, whole)));
  const body = element("tbody");
  for (let j = 0; j < rows; j++) {
    const row = element("tr", {}, element("th", { scope: "row" }, element("span", { class: "text", dir: "auto" }, item.texts[j])));
    for (const i of columns) {
      const cell = i * item.texts.length + j;
      row.append(element("td", {}, rating(data, item, cell), ...data.scorers.map((_, k) => score(data, item, cell, k, whole))));
    }
    body.append(row);
  }
  return element("table", { class: "cells" }, element("thead", {}, head), body);
}

function table(data, item, whole) {
  if (item.images.length === 1) return single(data, item, whole);
  if (!whole) return grid(data, item, shownColumns(item), false);
  // On a phone images are one below the other; a text of all of them stands above.
  const above = narrow.matches && item.texts.length === 1;
  const parts = element("div", {}, above ? element("p", { class: "text", dir: "auto" }, item.texts[0]) : null);
  const shape = (columns) => narrow.matches ? columns.map((i) => single(data, item, true, i, !above)) : [grid(data, item, columns, true)];
  const all = item.images.map((_, i) => i);
  const more = element("button", { type: "button", class: "more-images" });
  let count = 0;
  const add = () => {
    const part = element("div", { class: "scroll", tabindex: "-1" }, ...shape(all.slice(count, count + IMAGES_AT_ONCE)));
    count = Math.min(count + IMAGES_AT_ONCE, all.length);
    parts.append(part);
    if (count === all.length) more.remove();
    more.textContent = `show ${Math.min(IMAGES_AT_ONCE, all.length - count)} more of ${all.length} images`;
    return part;
  };
  add();
  more.addEventListener("click", () => add().focus());
  return element("div", {}, parts, count < all.length ? more : null);
}

const tagsOf = (data, item) => [...item.tags.map((k) => data.tags[k]), ...(item.other_tags || [])]
  .map((tag) => element("span", { class: "tag" }, tag));

const judges = (data) => data.judges === "people" ? "people" : "the truth";

function disagreements(data, item) {
  const apart = [];
  const distances = item.human_disagreement.filter((value) => value !== null);
  if (distances.length) apart.push(`with ${judges(data)} ${mean(distances).toFixed(2)}`);
  if (data.scorers.length > 1) apart.push(`of scorers ${item.scorer_disagreement.toFixed(2)}`);
  return apart.length ? element("span", { class: "soft" }, `disagreement ${apart.join(", ")}`) : null;
}

function verdicts(data, item, whole) {
  const compared = data.contrasts.length > 0; // mean scores and differences, and no right or wrong
  const metrics = whole ? data.metrics : compared ? data.contrasts.slice(0, 3) : [data.headline];
  const lines = data.scorers.map((scorer, k) => {
    const line = element("span", {}, element("span", { class: `mark k${scorer.colour}`, "aria-hidden": "true" }, glyphs[scorer.colour]), ` ${scorer.label}: `);
    for (const metric of metrics) {
      const value = item.verdicts[k][data.metrics.indexOf(metric)];
      if (value === null || value === undefined) continue;
      const kind = compared ? "" : value === 1 ? "yes" : value === 0 ? "no" : "";
      const plus = data.contrasts.includes(metric) && value > 0 ? "+" : "";
      const sign = kind === "yes" ? "✓" : kind === "no" ? "✗" : plus + number(Number(value.toPrecision(3)));
      line.append(element("span", { class: kind }, `${metric.replace(" - ", " − ")}\u00a0${sign}`), " ");
    }
    if (whole && item.human_disagreement[k] !== null) line.append(element("span", { class: "soft" }, `disagreement with ${judges(data)} ${item.human_disagreement[k].toFixed(2)}`));
    return line.childElementCount > 1 ? line : null;
  }).filter(Boolean);
  return lines.length ? element("div", { class: "verdicts" }, ...lines) : null;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function card(data, item, open) {
  const button = element("button", { type: "button", class: "open", "data-n": item.index, "aria-haspopup": "dialog" }, item.id);
  button.addEventListener("click", () => open(item));
  const cut = item.images.length > COLUMNS || item.texts.length > TEXTS || item.hidden;
  const parts = cut ? element("span", { class: "soft" }, `in part: ${(item.hidden || [item.images.length, item.texts.length]).join(" × ")}`) : null;
  return element("article", { class: `item${item.images.length > 2 ? " wide" : ""}` },
    element("header", {}, button, ...tagsOf(data, item), disagreements(data, item), parts),
    table(data, item, false), verdicts(data, item, false));
}

const value = (item, k, data, m) => item.verdicts[k][data.metrics.indexOf(data.contrasts[m])];

const orders = {
  number: () => (item) => item.index,
  apart: () => (item) => -item.scorer_disagreement,
  people: (k) => k === undefined
    ? (item) => { const distances = item.human_disagreement.filter((value) => value !== null); return distances.length ? -mean(distances) : 1; }
    : (item) => item.human_disagreement[k] === null ? 1 : -item.human_disagreement[k],
  above: (k, data, m) => (item) => -(value(item, k, data, m) ?? -Infinity),
  below: (k, data, m) => (item) => value(item, k, data, m) ?? Infinity,
  worst: (k, data) => { const m = data.metrics.indexOf(data.headline); return (item) => item.verdicts[k][m] ?? Infinity; },
};

function browse(root) {
  const data = read(root.dataset.of);
  const find = (selector) => root.querySelector(selector);
  const list = find(".items"), more = find(".more");
  const words = new Map();
  let matching = [], count = 0; // the items that pass the filters, and how many of them are built

  const add = () => {
    const next = matching.slice(count, count + AT_ONCE);
    list.append(...next.map((item) => card(data, item, show)));
    count += next.length;
    more.hidden = count >= matching.length;
  };
  const textOf = (item) => {
    if (!words.has(item.index)) words.set(item.index, [item.id, ...item.texts].join("\n").toLowerCase());
    return words.get(item.index);
  };
  const update = () => {
    const [key, scorer, pair] = find(".sort").value.split("-");
    const order = orders[key](scorer, data, pair);
    const tag = find(".by-tag")?.value, failure = find(".by-failure")?.value;
    const differs = find(".differs")?.checked, query = find(".find").value.trim().toLowerCase();
    const headline = data.metrics.indexOf(data.headline);
    matching = data.items.filter((item) => {
      const reasons = item.failures.flat().map(([, reason]) => reason);
      if (tag && !item.tags.includes(Number(tag))) return false;
      if (failure === "any" && !reasons.length) return false;
      if (failure === "none" && reasons.length) return false;
      if (failure && !isNaN(failure) && !reasons.includes(Number(failure))) return false;
      if (differs && new Set(item.verdicts.map((metrics) => metrics[headline])).size < 2) return false;
      return !query || textOf(item).includes(query);
    }).map((item) => [order(item), item]).sort((a, b) => (a[0] === b[0] ? 0 : a[0] - b[0]) || a[1].index - b[1].index).map(([, item]) => item);
    list.replaceChildren();
    count = 0;
    add();
    find(".count").textContent = `${matching.length} of ${data.items.length} items`;
  };
  const controls = { sort: ".sort", tag: ".by-tag", failure: ".by-failure", differs: ".differs", find: ".find" };
  const initial = find(".sort").value;
  const show = (chosen) => dialog.show(data, matching, chosen, remember);
  // The state in the address, so that a link leads to the same items, or to one of them.
  const remember = (open) => {
    const pairs = Object.entries(controls).map(([name, selector]) => {
      const control = find(selector);
      const text = control?.type === "checkbox" ? (control.checked ? "1" : "") : control?.value;
      return [name, name === "sort" && text === initial ? "" : text];
    }).filter(([, text]) => text);
    if (open) pairs.push(["item", String(open.index)]);
    const state = pairs.length ? new URLSearchParams([["in", root.dataset.of], ...pairs]).toString() : "";
    history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
  };
  const restore = (state) => {
    for (const [name, selector] of Object.entries(controls)) {
      const control = find(selector), text = state.get(name) ?? (name === "sort" ? initial : "");
      if (!control) continue;
      if (control.type === "checkbox") control.checked = text === "1";
      else if (control.tagName !== "SELECT" || [...control.options].some((option) => option.value === text)) control.value = text;
    }
    update();
    const item = data.items.find((one) => String(one.index) === state.get("item"));
    root.scrollIntoView();
    if (item) dialog.show(data, matching.includes(item) ? matching : data.items, item, remember);
  };
  root.addEventListener("input", () => { update(); remember(); });
  more.addEventListener("click", add);
  new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting) && !more.hidden) add(); }, { rootMargin: "800px" }).observe(more);
  update();
  return { id: root.dataset.of, restore };
}

// The open item; before and after it are its neighbours in the filtered and sorted list.
const dialog = {
  box: document.querySelector("dialog"),
  show(data, items, item, remember) {
    Object.assign(this, { data, items, at: items.indexOf(item), remember });
    this.fill();
    if (!this.box.open) this.box.showModal();
  },
  fill() {
    const item = this.items[this.at], find = (selector) => this.box.querySelector(selector);
    find("#opened").textContent = item.id;
    find(".place").textContent = `${this.at + 1} of ${this.items.length}`;
    find(".before").disabled = this.at === 0;
    find(".after").disabled = this.at === this.items.length - 1;
    const parts = [
      element("header", {}, ...tagsOf(this.data, item), disagreements(this.data, item)),
      table(this.data, item, true),
      verdicts(this.data, item, true),
      item.hidden ? element("p", { class: "soft" }, `${item.images.length} of ${item.hidden[0]} images and ${item.texts.length} of ${item.hidden[1]} texts; scores.csv has all.`) : null,
    ];
    find(".content").replaceChildren(...parts.filter(Boolean));
    this.box.scrollTop = 0;
    this.remember(item);
  },
  move(step) {
    if (this.items[this.at + step]) { this.at += step; this.fill(); }
  },
  listen() {
    const find = (selector) => this.box.querySelector(selector);
    find(".before").addEventListener("click", () => this.move(-1));
    find(".after").addEventListener("click", () => this.move(1));
    find(".close").addEventListener("click", () => this.box.close());
    find(".link").addEventListener("click", (event) => copy(location.href, event.target));
    this.box.addEventListener("close", () => this.remember());
    narrow.addEventListener("change", () => { if (this.box.open) this.fill(); });
    this.box.addEventListener("click", (event) => { if (event.target === this.box) this.box.close(); });
    this.box.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.move(-1);
      if (event.key === "ArrowRight") this.move(1);
    });
  },
};

dialog.listen();
const browsers = [...document.querySelectorAll(".browser")].map(browse);

function followAddress() {
  const state = new URLSearchParams(location.hash.slice(1));
  browsers.find((browser) => browser.id === state.get("in"))?.restore(state);
}
addEventListener("hashchange", followAddress);
followAddress();
offerTools();
document.documentElement.dataset.ready = String(Math.round(performance.now()));
