// The pages work without this file. It adds the keyboard, stops a second click on a form, and tells
// when somebody else has changed the open case.
"use strict";

const typing = element =>
  element.closest("textarea, select, [contenteditable]") ||
  (element.matches("input") && !["checkbox", "radio", "button", "submit"].includes(element.type));

function move(step) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step;
  const row = rows[Math.min(Math.max(next, 0), rows.length - 1)];
  row.focus();
  row.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const keys = document.getElementById("keys");
  if (keys?.open) return;
  if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "?" && keys) keys.showModal();
  else if (event.key === "/") {
    const field = document.querySelector('[data-focus="/"]');
    if (!field) return;
    field.closest("details")?.setAttribute("open", "");
    field.focus();
  } else {
    if (!/^[a-z]$/.test(event.key)) return;
    const element = document.querySelector(`[data-key="${event.key}"]`);
    if (!element || element.disabled) return;
    element.click();
  }
  event.preventDefault();
});

// A form is sent once. The button is not disabled, or its value would not be sent.
document.addEventListener("submit", event => {
  const form = event.target;
  if (form.method === "dialog") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "1";
});
window.addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

const facts = document.getElementById("facts");
if (facts) {
  const { version, claimed, state } = facts.dataset;
  const look = async () => {
    if (document.hidden) return;
    const answer = await fetch(state, { headers: { accept: "application/json" } });
    if (!answer.ok || answer.redirected) return;
    const now = await answer.json();
    const changed = String(now.version) !== version || (now.claimed_by ?? "") !== claimed;
    document.getElementById("changed").hidden = !changed;
  };
  setInterval(() => look().catch(() => {}), 10000);
  document.addEventListener("visibilitychange", () => look().catch(() => {}));
}
