// Answers that are one choice, as of votes and ratings; page.js has the page.

const isAnswer = (value) => data.choices.some((choice) => choice.value === value);

function showAnswer(chosen) {
  for (const [value, button] of buttons) button.setAttribute("aria-pressed", String(String(chosen) === value));
}

function pressed(value) {
  if (!ready) return;
  answer(value);
  next();
}

function onTaskKey({ key }, choice) {
  if (choice !== undefined) pressed(choice);
  else if (key === "Backspace") back();
  else return false;
  return true;
}

const entry = (choice) => ({ choice, text: choice });

begin();
