// A page on which a person judges one task after the other. page.py writes the data: the id of the
// page, its kind, and tasks with the indices of their images. A second script, below this one, says
// what an answer is: choices.js for one choice, flags.js for flags and a note. It defines the
// functions isAnswer, showAnswer, pressed, onTaskKey and entry, and calls begin.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const data = read("data"), images = read("images");
const STORED = `t2v-eval ${data.page}`; // one entry for each page, as files may share a storage
const LONG = 160; // characters of a text that is written smaller
const find = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const sections = ["start", "task", "end"];
const buttons = new Map(all("[data-choice]").map((button) => [button.dataset.choice, button]));
const keys = new Map(data.choices.map(({ key, value }) => [key, value]));

let state, at = 0, ready = false, persistent = true;

const newState = () => ({ voter: [...crypto.getRandomValues(new Uint8Array(4))].map((byte) => byte.toString(16).padStart(2, "0")).join(""), name: "", answers: {} });
const answerCount = () => data.tasks.filter((task) => task.id in state.answers).length;

function write(key, text) {
  try {
    localStorage.setItem(key, text);
  } catch {
    persistent = false;
    find("#forgets").hidden = false;
  }
}
const keep = () => write(STORED, JSON.stringify(state));

// What an earlier visit has kept, or null; anything else than a state of this page is as if nothing were.
function stored() {
  try {
    const { voter, name, answers } = JSON.parse(localStorage.getItem(STORED));
    const valid = data.tasks.filter(({ id }) => isAnswer(answers[id]));
    if (!/^[0-9a-f]{8}$/.test(voter) || typeof name !== "string") return null;
    return { voter, name, answers: Object.fromEntries(valid.map(({ id }) => [id, answers[id]])) };
  } catch {
    return null;
  }
}

function show(section) {
  for (const id of sections) find(`#${id}`).hidden = id !== section;
  document.body.dataset.section = section;
}

function showStart() {
  const count = answerCount();
  find("[name=name]").value = state.name;
  find("#start .primary").textContent = count ? `Go on (${count} of ${data.tasks.length} answered)` : "Start";
  show("start");
}

async function showTask(index) {
  at = index;
  ready = false;
  const task = data.tasks[at], section = find("#task");
  section.setAttribute("aria-busy", "true");
  find("#text").textContent = task.text;
  find("#text").classList.toggle("long", task.text.length > LONG);
  find("#task .back").disabled = at === 0;
  find("progress").value = answerCount() / data.tasks.length;
  find(".count").textContent = `${at + 1} of ${data.tasks.length}`;
  showAnswer(state.answers[task.id]);
  const pictures = all("#task img");
  pictures.forEach((image, side) => { image.src = images[task.images[side]]; });
  show("task");
  find("#text").scrollTop = 0;
  await Promise.all(pictures.map((image) => image.decode().catch(() => {})));
  if (at !== index) return;
  ready = true; // an answer counts once its images are in view
  section.setAttribute("aria-busy", "false");
  for (const next of data.tasks[at + 1]?.images ?? []) new Image().src = images[next];
}

function showEnd() {
  const count = answerCount(), total = data.tasks.length, left = total - count;
  find("#end h1").textContent = left ? "Paused" : "Done. Thank you!";
  find(".next").textContent = left ? `${count} of ${total} are answered. Go on now or later, in this browser, or save what there is.` : `All ${total} are answered. Save them as a file now.`;
  find("#end .back").textContent = left ? "Go on" : "Back to the last";
  find("#end .instructions").hidden = left === 0;
  find("#end .back").classList.toggle("primary", left > 0);
  find(".save").classList.toggle("primary", left === 0);
  find(".file").textContent = fileName();
  find("#status").textContent = "";
  find(".anew").disabled = true;
  show("end");
  find(left ? "#end .back" : ".save").focus();
}

const next = () => {
  const unanswered = data.tasks.findIndex(({ id }) => !(id in state.answers));
  return unanswered < 0 ? showEnd() : showTask(unanswered);
};

// Keeps the answer to the task in view, beside those of another window; undefined takes it back.
function answer(value) {
  const id = data.tasks[at].id, other = stored();
  if (other?.voter === state.voter) Object.assign(state.answers, other.answers);
  state.answers[id] = value;
  if (value === undefined) delete state.answers[id];
  keep();
}

const fileName = () => `${data.file}-${state.voter}.json`;

// CRC-32, by which a file that was changed by mistake is noticed; votes/saved.py computes it too.
function checksum(text) {
  let crc = -1;
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return (~crc >>> 0).toString(16).padStart(8, "0");
}

function content() {
  const { voter, name } = state;
  const answers = data.tasks.filter(({ id }) => id in state.answers).map(({ id }) => {
    const { text, ...fields } = entry(state.answers[id]);
    return { task: id, ...fields, check: checksum(`${data.page} ${voter} ${id} ${text}`) };
  });
  return `${JSON.stringify({ version: 1, kind: data.kind, page: data.page, voter, name, answers }, null, 1)}\n`;
}

function say(text) {
  find("#status").textContent = text;
  find(".anew").disabled = false;
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content()], { type: "application/json" }));
  link.download = fileName();
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000); // some browsers read it after a question
  say(`${fileName()} is saved where your browser puts downloads.`);
}

async function copy() {
  try {
    await navigator.clipboard.writeText(content());
  } catch {
    const area = document.createElement("textarea"); // a browser that allows no clipboard to files
    area.value = content();
    find("#end").append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say("Copied: paste it into a message.");
}

function back() {
  if (document.body.dataset.section === "end") return answerCount() < data.tasks.length ? next() : showTask(data.tasks.length - 1);
  if (at > 0) showTask(at - 1);
}

function onKey(event) {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.body.dataset.section !== "task" || find("dialog").open) return;
  if (onTaskKey(event, keys.get(event.key.length === 1 ? event.key.toLowerCase() : event.key))) event.preventDefault();
}

function enlarge(image) {
  const large = find("dialog img");
  large.src = image.src;
  large.alt = image.alt;
  find("dialog").showModal();
}

find("#start form").addEventListener("submit", (event) => {
  event.preventDefault();
  state = stored() ?? state;
  state.name = find("[name=name]").value.trim();
  keep();
  next();
});
for (const { value } of data.choices) {
  // The second click of a double click would answer the next task.
  buttons.get(String(value)).addEventListener("click", (event) => { if (event.detail < 2 && ready) pressed(value); });
}
for (const button of all(".back")) button.addEventListener("click", back);
for (const button of all(".enlarge")) button.addEventListener("click", () => enlarge(button.firstElementChild));
find(".pause").addEventListener("click", showEnd);
find(".save").addEventListener("click", save);
find(".copy").addEventListener("click", copy);
find(".instructions").addEventListener("click", showStart);
find(".anew").addEventListener("click", () => {
  state = newState();
  keep();
  showStart();
});
document.addEventListener("keydown", onKey);
window.addEventListener("beforeunload", (event) => { if (!persistent && answerCount()) event.preventDefault(); });
// The page may be open twice: its start says what was answered in the other.
window.addEventListener("storage", ({ key }) => {
  if (key !== STORED || document.body.dataset.section !== "start") return;
  state = stored() ?? state;
  showStart();
});

function begin() {
  state = stored() ?? newState();
  write("t2v-eval", ""); // says whether anything can be kept, and replaces nothing
  showStart();
}
