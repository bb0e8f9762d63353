// Answers that are the flags of an image and a note; page.js has the page. An image without flags has
// an answer only where a person says that it has no fault, so that what was not looked at is missing.

const NO_FAULT = "no fault";
const names = data.choices.map(({ value }) => value).filter((value) => value !== NO_FAULT);
const note = find("[name=note]");

// Of any text: no half characters, whose bytes differ between programs, and single spaces.
const plain = (text) => text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd").replace(/\s+/g, " ").trim();

const isAnswer = (value) =>
  Array.isArray(value?.flags) && value.flags.every((flag) => names.includes(flag)) && typeof value.note === "string";

function showAnswer(value) {
  const flags = value && (value.flags.length ? value.flags : [NO_FAULT]);
  for (const [name, button] of buttons) button.setAttribute("aria-pressed", String(flags?.includes(name) ?? false));
  note.value = value?.note ?? drafts.get(data.tasks[at].id) ?? "";
  note.setCustomValidity("");
}

const drafts = new Map(); // notes on images without an answer, by task

const current = () => state.answers[data.tasks[at].id];

function pressed(value) {
  if (!ready) return;
  if (value === NO_FAULT) {
    answer({ flags: [], note: plain(note.value) });
    return on();
  }
  const set = new Set(current()?.flags);
  if (!set.delete(value)) set.add(value);
  drafts.set(data.tasks[at].id, note.value); // of an image whose last flag is taken back
  answer(set.size ? { flags: names.filter((name) => set.has(name)), note: plain(note.value) } : undefined);
  showAnswer(current());
  find("progress").value = answerCount() / data.tasks.length;
}

function keepNote() {
  note.setCustomValidity("");
  drafts.set(data.tasks[at].id, note.value);
  if (current()) answer({ ...current(), note: plain(note.value) });
}

function on() {
  if (!current() && plain(note.value)) {
    note.setCustomValidity("A note alone is no answer: choose a flag, or No fault.");
    return note.reportValidity();
  }
  note.blur(); // so that keys are those of flags again
  if (at + 1 < data.tasks.length) showTask(at + 1); else showEnd();
}

function onTaskKey({ key, target }, choice) {
  if (target === note) {
    if (key === "Escape") note.blur();
    else if (key === "Enter") on();
    else return false;
    return true;
  }
  if (choice !== undefined) pressed(choice);
  else if (key.toLowerCase() === "n") note.focus();
  else if (key === "ArrowRight") on();
  else if (key === "ArrowLeft" || key === "Backspace") back();
  else return false;
  return true;
}

const entry = ({ flags, note }) => ({ flags, note, text: JSON.stringify([...flags, note]) });

note.addEventListener("input", keepNote);
find(".on").addEventListener("click", ({ detail }) => { if (detail < 2) on(); });
begin();
