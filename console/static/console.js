// Keeps a page of the console current. The server draws everything; this puts
// what it sends into place. Without it the page reloads by itself.
"use strict";
(() => {
  const address = document.body.dataset.live;
  if (!address || !window.EventSource) return;

  const sign = document.getElementById("live");
  const rows = document.getElementById("rows");
  const none = document.getElementById("no-rows");
  const held = document.getElementById("held");
  const pause = document.getElementById("pause");
  const limit = rows ? Number(rows.dataset.limit) : 0;

  const waiting = new Map(); // rows that came while the list stands still
  let paused = false;
  let touched = false; // the pointer or the keyboard is in the list
  let source = null;
  let heard = 0;

  function say(on) {
    const text = on ? sign.dataset.live : sign.dataset.lost;
    if (sign.textContent !== text) sign.textContent = text;
    sign.hidden = false;
    document.body.classList.toggle("stale", !on);
  }

  function place(el) {
    return el.id || el.getAttribute("href");
  }

  // put replaces a region, where it has changed: a stream begins with all of
  // them, and a click on what is replaced under it is lost. What had the focus
  // keeps it, what was folded stays.
  function put(name, html) {
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    for (const el of document.querySelectorAll(`[data-region="${name}"]`)) {
      if (el.innerHTML === fresh.innerHTML) continue;
      const at = el.contains(document.activeElement) ? place(document.activeElement) : null;
      const folded = new Map();
      for (const d of el.querySelectorAll("details[data-key]")) folded.set(d.dataset.key, d.open);
      el.innerHTML = html;
      for (const d of el.querySelectorAll("details[data-key]")) {
        if (folded.has(d.dataset.key)) d.open = folded.get(d.dataset.key);
      }
      if (at === null) continue;
      for (const a of el.querySelectorAll("a[href], button[id]")) {
        if (place(a) === at) {
          a.focus({ preventScroll: true });
          break;
        }
      }
    }
  }

  function find(id) {
    for (const tr of rows.children) if (tr.dataset.id === id) return tr;
    return null;
  }

  // show puts a row where its id belongs: the newest on top.
  function show(row) {
    const room = document.createElement("tbody");
    room.innerHTML = row.html;
    const tr = room.firstElementChild;
    const old = find(row.id);
    if (old) {
      if (old.outerHTML !== tr.outerHTML) old.replaceWith(tr);
      return;
    }
    let before = rows.firstElementChild;
    while (before && before.dataset.id > row.id) before = before.nextElementSibling;
    if (!before && rows.children.length >= limit) return; // older than all
    tr.classList.add("new");
    rows.insertBefore(tr, before);
    while (rows.children.length > limit) rows.lastElementChild.remove();
    none.hidden = true;
  }

  function still() {
    return paused || touched;
  }

  function take(list) {
    for (const row of list) {
      if (still() && !find(row.id)) {
        waiting.delete(row.id);
        waiting.set(row.id, row);
        if (waiting.size > limit) waiting.delete(waiting.keys().next().value);
      } else {
        show(row);
      }
    }
    tell();
  }

  function release() {
    if (still()) return;
    for (const row of waiting.values()) show(row);
    waiting.clear();
    tell();
  }

  function tell() {
    held.hidden = waiting.size === 0;
    held.textContent = `${waiting.size}${waiting.size >= limit ? "+" : ""} ${held.dataset.text}`;
  }

  if (rows) {
    const table = rows.parentElement;
    table.addEventListener("pointerenter", (e) => {
      if (e.pointerType === "mouse") touched = true;
    });
    table.addEventListener("pointerleave", () => {
      touched = rows.contains(document.activeElement);
      release();
    });
    table.addEventListener("focusin", () => { touched = true; });
    table.addEventListener("focusout", (e) => {
      if (table.contains(e.relatedTarget)) return;
      touched = false;
      release();
    });
    pause.hidden = false;
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
      pause.textContent = paused ? pause.dataset.resume : pause.dataset.pause;
      release();
    });
  }

  function open() {
    if (source) return;
    heard = Date.now();
    source = new EventSource(address);
    source.onmessage = (e) => {
      heard = Date.now();
      say(true);
      const frame = JSON.parse(e.data);
      for (const name of Object.keys(frame.regions || {})) put(name, frame.regions[name]);
      if (rows && frame.rows) take(frame.rows);
    };
    source.onerror = () => {
      say(false);
      if (source && source.readyState === EventSource.CLOSED) close(); // turned away; the watch below asks again
    };
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  // A page nobody sees holds no stream: a browser has six for one address.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else open();
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", () => { if (!document.hidden) open(); });

  setInterval(() => {
    if (document.hidden) return;
    if (source && Date.now() - heard > 6000) {
      say(false);
      close();
    }
    if (!source) open();
  }, 5000);

  open();
})();
