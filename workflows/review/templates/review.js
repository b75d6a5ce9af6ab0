"use strict";

const ITEMS_A_PAGE = 8; // as the server sends them
const AHEAD = 3; // instances that are fetched before they are asked for
const KEPT = 400; // items held; far ones are fetched again
const LOOK = 150; // milliseconds that an instance must have been in view for a key to decide on it
const STEP = 1.25; // of a zoom
const byId = (id) => document.getElementById(id);

let session; // classes, output, and progress: total, accepted, rejected, next
let current = null; // the item that is shown
let shownAt = 0; // when it was
let isDeciding = false; // until the server has answered
const items = new Map(); // by number
const pages = new Map(); // being fetched, by first number
const pictures = new Map(); // by image number
const view = { scale: 1, x: 0, y: 0, width: 1, height: 1, onObject: true };

// ---------------------------------------------------------------- the server

async function ask(path, content) {
  const request = content && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(content),
  };
  let answer;
  try {
    answer = await fetch(path, request);
  } catch {
    throw new Error(`${content ? "Not saved: the" : "The"} server does not answer. Start labeler review again.`);
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(`${content ? "Not saved: " : ""}${body.error || answer.statusText}`);
  return body;
}

async function item(number) {
  if (items.has(number)) return items.get(number);
  const start = number - (number % ITEMS_A_PAGE);
  if (!pages.has(start)) {
    const page = ask(`items?start=${start}`).finally(() => pages.delete(start));
    pages.set(start, page);
  }
  for (const each of (await pages.get(start)).items) if (!items.has(each.number)) items.set(each.number, each);
  for (const far of [...items.keys()].filter((key) => Math.abs(key - number) > KEPT / 2)) items.delete(far);
  return items.get(number);
}

function picture(image) {
  const known = pictures.get(image);
  if (known) {
    pictures.delete(image); // the last one used is the last to go
    pictures.set(image, known);
    return known;
  }
  const element = new Image();
  element.src = `images/${image}`;
  const loaded = element.decode().then(
    () => element,
    () => null,
  );
  pictures.set(image, loaded);
  for (const oldest of [...pictures.keys()].slice(0, -3 * AHEAD)) pictures.delete(oldest);
  return loaded;
}

async function prefetch(number) {
  for (const step of [1, 2, -1, ...Array.from({ length: AHEAD - 2 }, (_, i) => i + 3)]) {
    const near = number + step;
    if (near >= 0 && near < session.total) picture((await item(near)).image);
  }
}

// ---------------------------------------------------------------- one thing after the other

let chain = Promise.resolve();
let epoch = 0; // what was asked for before a failure is dropped

/** Keys may come faster than answers: each acts on the instance that is shown when its turn comes. */
function inTurn(task) {
  const asked = epoch;
  chain = chain.then(async () => {
    if (asked !== epoch) return;
    try {
      await task();
      byId("problem").hidden = true;
    } catch (error) {
      epoch += 1;
      isDeciding = false;
      byId("problem").textContent = error.message;
      byId("problem").hidden = false;
    }
  });
}

// ---------------------------------------------------------------- showing

async function show(number) {
  const found = await item(number);
  const loaded = await picture(found.image);
  const isOther = !current || current.number !== number;
  current = found;
  if (loaded && byId("picture").src !== loaded.src) {
    byId("picture").src = loaded.src;
    await byId("picture").decode().catch(() => {});
  }
  byId("picture").hidden = byId("overlay").hidden = !loaded;
  byId("message").hidden = Boolean(loaded);
  byId("message").textContent = loaded ? "" : "This image cannot be shown: it is gone, or another one than was labeled.";
  for (const path of document.querySelectorAll("#placed path")) path.setAttribute("d", found.outline);
  if (isOther) fit(true);
  else place();
  describe(found);
  if (isOther) shownAt = performance.now();
  history.replaceState(null, "", `#${number + 1}`);
  document.body.dataset.number = number; // what is wholly there
  prefetch(number).catch(() => {});
}

function describe(found) {
  byId("class-name").textContent = found.class;
  const state = byId("state");
  const was = found.class === found.found_as ? "" : `, found as ${found.found_as}`;
  if (found.decided) {
    state.textContent = `${found.decided}ed by hand${was}`;
    state.className = `${found.decided}ed`;
  } else {
    state.textContent = found.reason ? `${found.verdict}: ${found.reason}` : found.verdict;
    state.className = found.verdict;
  }
  byId("stage").setAttribute("aria-label", `${found.class} in ${found.image_id}`);
  for (const button of byId("classes").children) button.ariaCurrent = String(button.dataset.name === found.class);
  byId("scores").replaceChildren(
    ...Object.entries(found.scores).flatMap(([name, value]) => {
      const term = make("dt", name);
      const meter = make("meter", "");
      meter.value = value;
      meter.ariaHidden = "true";
      return [term, meter, make("dd", value.toFixed(2))];
    }),
  );
  byId("image-id").textContent = found.image_id;
  byId("about").textContent =
    `${found.width} × ${found.height}, mask of ${found.area.toLocaleString("en")} pixels; prompt “${found.prompt}”`;
  describeProgress();
}

function describeProgress() {
  const decided = session.accepted + session.rejected;
  byId("position").textContent = `${(current.number + 1).toLocaleString("en")} of ${session.total.toLocaleString("en")}`;
  byId("counts").textContent = `${session.accepted} accepted, ${session.rejected} rejected`;
  byId("progress").max = session.total;
  byId("progress").value = decided;
}

function say(text) {
  byId("said").textContent = text;
  byId("said").classList.add("visible");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => byId("said").classList.remove("visible"), 1500);
}

function make(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

// ---------------------------------------------------------------- zoom

/** Of the object with its surroundings, or of the whole image. */
function fit(onObject) {
  const { clientWidth: width, clientHeight: height } = byId("stage");
  const whole = Math.min(width / current.width, height / current.height);
  const [x1, y1, x2, y2] = current.box;
  const near = 0.45 * Math.min(width / Math.max(x2 - x1, 1), height / Math.max(y2 - y1, 1));
  view.onObject = onObject;
  view.scale = onObject ? Math.min(Math.max(near, whole), Math.max(8, whole)) : whole;
  view.x = width / 2 - view.scale * (onObject ? (x1 + x2) / 2 : current.width / 2);
  view.y = height / 2 - view.scale * (onObject ? (y1 + y2) / 2 : current.height / 2);
  for (const [start, side, length] of [["x", width, current.width], ["y", height, current.height]]) {
    const rest = side - view.scale * length; // no margin that the image could fill
    view[start] = rest > 0 ? rest / 2 : Math.min(0, Math.max(rest, view[start]));
  }
  place();
}

function zoom(factor, x = byId("stage").clientWidth / 2, y = byId("stage").clientHeight / 2) {
  const scale = Math.min(Math.max(view.scale * factor, 0.02), 64);
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  place();
}

function place() {
  const image = byId("picture");
  const shrunk = image.naturalWidth ? current.width / image.naturalWidth : 1; // very large ones come scaled down
  image.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale * shrunk})`;
  image.classList.toggle("pixels", view.scale * shrunk > 4);
  byId("placed").setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
}

function listenToPointers() {
  const stage = byId("stage");
  const held = new Map();
  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
      if (current) zoom(Math.exp(-0.0015 * lines * event.deltaY), ...at(event));
    },
    { passive: false },
  );
  stage.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button")) return;
    stage.setPointerCapture(event.pointerId);
    held.set(event.pointerId, at(event));
    stage.classList.add("dragging");
  });
  stage.addEventListener("pointermove", (event) => {
    if (!current || !held.has(event.pointerId)) return;
    const [before, now] = [held.get(event.pointerId), at(event)];
    const other = [...held].find(([id]) => id !== event.pointerId)?.[1];
    held.set(event.pointerId, now);
    if (other) {
      const far = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      zoom(far(now) / far(before), ...other);
      return;
    }
    view.x += now[0] - before[0];
    view.y += now[1] - before[1];
    place();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    stage.addEventListener(name, (event) => {
      held.delete(event.pointerId);
      stage.classList.toggle("dragging", held.size > 0);
    });
  }
  new ResizeObserver(() => current && fit(view.onObject)).observe(stage);
}

// ---------------------------------------------------------------- deciding

/** On what is in view: a key that comes before one can have seen it does nothing. */
function decide(verdict, name = null) {
  if (isDeciding || performance.now() - shownAt < LOOK) return;
  isDeciding = true;
  inTurn(async () => {
    const { number, mark } = current;
    const answer = await ask("decisions", { item: number, mark, verdict, class: name }).finally(() => {
      isDeciding = false;
    });
    take(answer);
    say(`saved: ${answer.item.class} ${verdict}ed`);
    const next = session.next;
    await show(next === null ? number : next);
    if (next === null) finish();
  });
}

function undo() {
  inTurn(async () => {
    const answer = await ask("undo", {});
    if (!answer.item) {
      say("nothing to undo");
      return;
    }
    take(answer);
    await show(answer.item.number);
    say("taken back");
  });
}

function take(answer) {
  if (answer.progress.total > session.total) pages.clear();
  Object.assign(session, answer.progress);
  items.set(answer.item.number, answer.item);
}

function go(step) {
  inTurn(async () => {
    const number = current.number + step;
    if (number >= 0 && number < session.total) await show(number);
    else say(step > 0 ? "that was the last one" : "this is the first one");
  });
}

function finish() {
  byId("done-text").textContent = `${session.accepted} accepted, ${session.rejected} rejected, all saved.`;
  byId("done-command").textContent = `labeler export ${session.output}`;
  open("done");
}

// ---------------------------------------------------------------- choosing a class

function open(id) {
  if (!document.querySelector("dialog[open]")) byId(id).showModal();
}

function choose() {
  byId("filter").value = "";
  list();
  open("chooser");
}

function list() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const fitting = session.classes.filter((name) => name.toLowerCase().includes(wanted));
  fitting.sort((a, b) => b.toLowerCase().startsWith(wanted) - a.toLowerCase().startsWith(wanted));
  const choices = fitting.map((name, index) => {
    const choice = make("li", name);
    choice.role = "option";
    choice.id = `choice-${index}`;
    choice.ariaSelected = String(index === 0);
    choice.addEventListener("click", () => chosen(name));
    return choice;
  });
  if (!choices.length) {
    const none = make("li", "no such class in this dataset");
    none.className = "none";
    choices.push(none);
  }
  byId("choices").replaceChildren(...choices);
  mark(0);
}

function mark(step) {
  const choices = [...byId("choices").querySelectorAll("[role=option]")];
  if (!choices.length) return;
  const now = choices.findIndex((choice) => choice.ariaSelected === "true");
  const next = Math.min(Math.max(now + step, 0), choices.length - 1);
  choices[now].ariaSelected = "false";
  choices[next].ariaSelected = "true";
  choices[next].scrollIntoView({ block: "nearest" });
  byId("filter").setAttribute("aria-activedescendant", choices[next].id);
}

function chosen(name) {
  byId("chooser").close();
  decide("accept", name);
}

// ---------------------------------------------------------------- keys

const KEYS = {
  a: () => decide("accept"),
  r: () => decide("reject"),
  u: undo,
  n: () => go(1),
  p: () => go(-1),
  ArrowRight: () => go(1),
  ArrowLeft: () => go(-1),
  l: choose,
  o: () => {
    const isOn = !byId("overlay").classList.toggle("off");
    byId("outline-button").ariaPressed = String(isOn);
    byId("overlay").style.visibility = isOn ? "" : "hidden";
  },
  "+": () => zoom(STEP),
  "=": () => zoom(STEP),
  "-": () => zoom(1 / STEP),
  0: () => fit(!view.onObject),
  "?": () => open("help"),
};
const REPEATED = new Set(["n", "p", "ArrowRight", "ArrowLeft", "+", "=", "-"]); // while the key is held

function press(key) {
  if (!current) return;
  if (/^[1-9]$/.test(key)) {
    const name = session.classes[Number(key) - 1];
    if (name !== undefined) decide("accept", name);
  } else {
    KEYS[key]?.();
  }
}

function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!(key in KEYS) && !/^[1-9]$/.test(key)) return;
    event.preventDefault();
    if (!event.repeat || REPEATED.has(key)) press(key);
  });
  for (const button of document.querySelectorAll("[data-key]")) {
    button.addEventListener("click", () => press(button.dataset.key));
  }
  byId("help-button").addEventListener("click", () => press("?"));
  byId("filter").addEventListener("input", list);
  byId("filter").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") mark(event.key === "ArrowDown" ? 1 : -1);
    else if (event.key === "Enter") byId("choices").querySelector("[aria-selected=true]")?.click();
    else return;
    event.preventDefault();
  });
}

function drawClasses() {
  const shown = session.classes.slice(0, 9).map((name, index) => {
    const button = make("button", `${name} `);
    button.type = "button";
    button.dataset.name = name;
    button.append(make("kbd", String(index + 1)));
    button.addEventListener("click", () => decide("accept", name));
    return button;
  });
  const more = make("button", session.classes.length > 9 ? `all ${session.classes.length} ` : "list ");
  more.type = "button";
  more.append(make("kbd", "l"));
  more.addEventListener("click", choose);
  byId("classes").replaceChildren(...shown, more);
}

inTurn(async () => {
  session = await ask("session");
  drawClasses();
  listenToKeys();
  listenToPointers();
  const asked = Number(location.hash.slice(1)) - 1;
  const isThere = Number.isInteger(asked) && asked >= 0 && asked < session.total;
  await show(isThere ? asked : (session.next ?? 0));
  if (session.next === null) finish();
});
