"use strict";
// The review page: instances come from the server, the most uncertain first, and decisions go there.

const ITEMS_PER_PAGE = 8; // as the server sends them
const PAGES_KEPT = 50;
const PICTURES_KEPT = 9;
const AHEAD = [1, 2, -1, 3]; // what is fetched before it is asked for, relative to what is shown
const LOOK = 150; // milliseconds an instance must have been in view before a key can decide on it

let session; // classes, output, and progress: total, accepted, rejected, next
let view;
let drawing = null; // with labeler review --assist
let current = null; // the item that is shown
let shownAt = 0; // when it was
let isDeciding = false; // until the server has answered
const pages = new Map(); // of items, by first number
const pictures = new Map(); // by image number

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

/** The value for `key`, made if it is not there; the `kept` values used last stay in `map`. */
function recent(map, key, kept, make) {
  const value = map.get(key) ?? make();
  map.delete(key);
  map.set(key, value);
  for (const oldest of [...map.keys()].slice(0, -kept)) map.delete(oldest);
  return value;
}

/** The items of a page, as a promise; a page that could not be fetched is fetched again the next time. */
function page(start) {
  const fetchPage = () => ask(`items?start=${start}`).then(({ items }) => items).catch((error) => {
    pages.delete(start);
    throw error;
  });
  return recent(pages, start, PAGES_KEPT, fetchPage);
}

const item = async (number) => (await page(number - (number % ITEMS_PER_PAGE)))[number % ITEMS_PER_PAGE];

/** The address of an image once it is decoded; empty if it cannot be shown. */
function picture(image) {
  const { source } = recent(pictures, image, PICTURES_KEPT, () => {
    const element = make("img", "", { src: `images/${image}` });
    return { element, source: element.decode().then(() => element.src, () => "") };
  });
  return source;
}

async function prefetch(number) {
  for (const near of AHEAD.map((step) => number + step)) {
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
  const next = await item(number);
  const source = await picture(next.image);
  const isOther = !current || current.number !== number;
  current = next;
  const message = "This image cannot be shown: it is gone, or it has changed since it was labeled.";
  view.show(current, { ...current, source, message }, isOther);
  await document.querySelector(".stage img").decode().catch(() => {});
  showProgress();
  byId("position").textContent = `${(number + 1).toLocaleString("en")} of ${session.total.toLocaleString("en")}`;
  if (isOther) shownAt = performance.now();
  history.replaceState(null, "", `#${number + 1}`);
  document.body.dataset.number = number; // shown completely
  prefetch(number).catch(() => {});
}

function showProgress() {
  byId("counts").textContent = `${session.accepted} accepted, ${session.rejected} rejected`;
  byId("progress").max = Math.max(session.total, 1);
  byId("progress").value = session.accepted + session.rejected;
}

function say(text) {
  byId("said").textContent = text;
  byId("said").classList.add("visible");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => byId("said").classList.remove("visible"), 1500);
}

// ---------------------------------------------------------------- deciding

/** Decide on what is in view. A key pressed before anybody can have seen it does nothing. */
function decide(verdict, name) {
  if (isDeciding || performance.now() - shownAt < LOOK) return;
  isDeciding = true;
  inTurn(async () => {
    const { number, instance } = current;
    const answer = await ask("decisions", { item: number, instance, verdict, class: name }).finally(() => {
      isDeciding = false;
    });
    await decided(answer, verdict);
  });
}

/** Go on behind a decision. */
async function decided(answer, verdict) {
  await take(answer);
  say(`saved: ${answer.item.class} ${WORDS[verdict]}`);
  const next = session.next;
  await show(next === null ? answer.item.number : next);
  if (next === null) finish();
}

function undo() {
  inTurn(async () => {
    const answer = await ask("undo", {});
    if (!answer.item) {
      takeObjects(answer.progress);
      if (answer.is_undone) await show(current.number);
      say(answer.is_undone ? "taken back: the object that was added" : "nothing to undo");
      return;
    }
    await take(answer);
    await show(answer.item.number);
    say("taken back");
  });
}

/** Take over that objects were added, or taken back: any item may look different. */
function takeObjects(progress) {
  pages.clear();
  Object.assign(session, progress);
  showProgress();
}

/** Take over what has changed; items may have been added at the end. */
async function take(answer) {
  if (answer.progress.total > session.total) pages.clear();
  Object.assign(session, answer.progress);
  const at = answer.item.number % ITEMS_PER_PAGE;
  (await page(answer.item.number - at))[at] = answer.item;
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
  if (!document.querySelector("dialog[open]")) byId("done").showModal();
}

inTurn(async () => {
  session = await ask("session");
  const note = "The most uncertain come first. Every decision is on disk before the next instance is shown.";
  view = instanceView(byId("view"), session.classes, { decide, undo, go, note, undoes: "undo the last decision" });
  byId("help-button").addEventListener("click", () => view.help());
  document.addEventListener("keydown", (event) => {
    if (byId("done").open) return;
    if (drawing?.isOn()) drawing.press(event);
    else if (current && !drawing?.open(event)) view.press(event);
  });
  if (session.images) drawing = drawingView(view, session);
  if (!session.total) return drawing.draw(0);
  const asked = Number(location.hash.slice(1)) - 1;
  const isThere = Number.isInteger(asked) && asked >= 0 && asked < session.total;
  await show(isThere ? asked : (session.next ?? 0));
  if (session.next === null) finish();
});
