"use strict";
// Keeps the page current: fragments arrive as events, parts with an id are replaced where they
// differ, so that focus, selection and hover stay where they are.

const view = document.getElementById("view");
const word = document.getElementById("live-word");
const token = document.querySelector('meta[name="atoll-token"]').content;

function takeOver(current, fresh) {
  if (current.innerHTML === fresh.innerHTML && current.className === fresh.className) return;
  const parts = [...fresh.children].every((child) => child.id);
  if (parts && fresh.children.length) {
    takeOverParts(current, fresh);
  } else if (!current.contains(document.activeElement) || !sameFocus(current, fresh)) {
    current.innerHTML = fresh.innerHTML;
  }
  current.className = fresh.className;
}

function sameFocus(current, fresh) {
  const focused = document.activeElement;
  const twin = fresh.querySelector(focused.tagName);
  if (twin && twin.outerHTML === focused.outerHTML) return true;
  current.innerHTML = fresh.innerHTML;
  const again = current.querySelector("button");
  if (again) again.focus();
  return true;
}

function takeOverParts(current, fresh) {
  const wanted = new Set([...fresh.children].map((child) => child.id));
  for (const child of [...current.children]) if (!wanted.has(child.id)) child.remove();
  for (const child of fresh.children) {
    const there = document.getElementById(child.id);
    if (there && there.parentElement === current) takeOver(there, child);
    else current.append(child.cloneNode(true));
  }
}

function show(html) {
  const page = document.createElement("template");
  page.innerHTML = html;
  const parts = page.content.querySelectorAll("[id]");
  const known = [...parts].every((part) => document.getElementById(part.id));
  if (!known || !view.querySelector("#rows")) {
    view.innerHTML = html;
    return;
  }
  for (const id of ["hero-words", "reef", "facts", "earned", "money", "repair-tag", "repair", "peak", "throughput", "time", "rows"]) {
    const part = page.content.getElementById(id);
    if (part) takeOver(document.getElementById(id), part);
  }
  view.querySelector(".hero").className = page.content.querySelector(".hero").className;
}

let lastSeen = performance.now();

// Euros grow between two fragments by the pace that the last one named. Whole picos: no fraction of
// a cent is ever rounded up.
const TICK_MS = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 100;
const PICO_PER_EURO = 1000000000000n;

function euros(pico, decimals) {
  const whole = (pico / PICO_PER_EURO).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  return `${whole}.${(pico % PICO_PER_EURO).toString().padStart(12, "0").slice(0, decimals)}`;
}

setInterval(() => {
  const passed = performance.now() - lastSeen;
  if (passed > 8000) return;
  for (const one of view.querySelectorAll("[data-pico]")) {
    const grown = Math.floor(Number(one.dataset.rate) * passed / 1000);
    one.textContent = euros(BigInt(one.dataset.pico) + BigInt(grown), Number(one.dataset.decimals));
  }
}, TICK_MS);

function mark(fresh) {
  document.body.classList.toggle("stale", !fresh);
  word.textContent = fresh ? "live" : "no connection";
}

function listen() {
  const stream = new EventSource("/live");
  stream.addEventListener("view", (event) => {
    lastSeen = performance.now();
    mark(true);
    show(event.data);
  });
  stream.onerror = () => mark(false);
}

setInterval(() => {
  if (performance.now() - lastSeen > 8000) mark(false);
}, 2000);

function say(text) {
  const said = document.getElementById("said");
  said.textContent = text;
  said.hidden = false;
  setTimeout(() => { said.hidden = true; }, 5000);
}

view.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-order]");
  if (!button) return;
  button.disabled = true;
  try {
    const answer = await fetch(`/nodes/${button.dataset.order}`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-atoll-token": token },
      body: JSON.stringify({ address: button.dataset.address }),
    });
    if (!answer.ok) {
      const failure = await answer.json();
      say([failure.message, failure.hint].filter(Boolean).join(" — "));
    }
  } catch {
    say("The cloud does not answer.");
  }
  setTimeout(() => { button.disabled = false; }, 1500);
});

listen();
