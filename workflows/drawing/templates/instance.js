"use strict";
// The view of one instance, which the report and the review page share: its picture with the outline, zoom, scores, and
// the buttons and keys to decide on it. Where decisions go is the page's own matter.

const byId = (id) => document.getElementById(id);
const WORDS = { accept: "accepted", review: "to review", reject: "rejected" };
const SCORES = ["joint", "detector", "mask", "agreement", "stability"]; // agreement is left out where it is 1
const ZOOM_STEP = 1.25;

function make(name, text = "", properties = {}) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(text);
  return element;
}

/**
 * Bring the view in `root` (instance.html) to life.
 *
 * `act` says what the page does: `decide(verdict, class name or null)`, `undo()`, `go(step)`; `note` and `undoes` are for
 * the help. Returns `show(item, picture)`, `press(key event)`, and `help()`; and for a page that draws on the picture
 * `picture(picture)`, which shows a picture alone, `use(pen or null)` and `inImage(place on the stage)`. A pen is asked
 * instead of moving the picture: `click(place, is the right button)`, `drag(from, to)` while a box is dragged, `box(from,
 * to)`, `placed(scale)` after a zoom, all in coordinates of the picture, and `cancel()`.
 */
function instanceView(root, classNames, act) {
  byId("help-note").textContent = act.note;
  byId("help-undo").textContent = act.undoes;
  const part = (selector) => root.querySelector(selector);
  const [stage, image, overlay, placed] = [".stage", ".stage img", ".stage svg", ".stage g"].map(part);
  const view = { scale: 1, x: 0, y: 0, onObject: true };
  let shown = null; // the picture
  let pen = null;

  // ---------------------------------------------------------------- what is shown

  /**
   * `item`: class, labeled_as, verdict, reason, decided, scores, image_id, width, height, area, prompt.
   * `picture`: source, or a message why there is none, and in its coordinates width, height, outline, box, detector_box.
   */
  function show(item, picture, isOther = true) {
    showPicture(picture, isOther);
    stage.className = `stage outlined ${item.decided ?? item.verdict}`;
    stage.setAttribute("aria-label", `${item.class} in ${item.image_id}`);
    describe(item);
  }

  function showPicture(picture, isOther = true) {
    shown = picture;
    image.hidden = overlay.hidden = !picture.source;
    if (picture.source && image.src !== picture.source) image.src = picture.source;
    part(".message").hidden = Boolean(picture.source);
    part(".message").textContent = picture.message ?? "";
    for (const path of placed.querySelectorAll(".halo, .outline")) path.setAttribute("d", picture.outline);
    const [x1, y1, x2, y2] = picture.detector_box;
    const box = { x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0) };
    for (const [name, value] of Object.entries(box)) part(".detector-box").setAttribute(name, value);
    if (isOther) fit(true);
    else place();
  }

  function describe(item) {
    part(".class-name").textContent = item.class;
    const was = item.class === item.labeled_as ? "" : `, labeled as ${item.labeled_as}`;
    const why = item.reason ? `: ${item.reason}` : "";
    part(".state").textContent = item.decided ? `${WORDS[item.decided]} by hand${was}` : WORDS[item.verdict] + why;
    part(".state").className = `state ${item.decided ? `decided ${item.decided}` : item.verdict}`;
    for (const [key, verdict] of [["a", "accept"], ["r", "reject"]]) {
      part(`.actions [data-key="${key}"]`).ariaPressed = String(item.decided === verdict);
    }
    for (const chip of part(".chips").children) chip.ariaCurrent = String(chip.dataset.name === item.class);
    part(".scores").replaceChildren(
      ...SCORES.filter((name) => name in item.scores).flatMap((name) => [
        make("dt", name),
        make("meter", "", { value: item.scores[name], ariaHidden: "true" }),
        make("dd", item.scores[name].toFixed(2)),
      ]),
    );
    part(".image-id").textContent = item.image_id;
    part(".about").textContent =
      `${item.width} × ${item.height}, mask of ${item.area.toLocaleString("en")} pixels; prompt “${item.prompt}”`;
  }

  // ---------------------------------------------------------------- zoom

  /** The object with its surroundings, or the whole picture. */
  function fit(onObject) {
    const { clientWidth: width, clientHeight: height } = stage;
    const whole = Math.min(width / shown.width, height / shown.height);
    const [x1, y1, x2, y2] = shown.box;
    const near = 0.45 * Math.min(width / Math.max(x2 - x1, 1), height / Math.max(y2 - y1, 1));
    view.onObject = onObject;
    view.scale = onObject ? Math.min(Math.max(near, whole), Math.max(8, whole)) : whole;
    view.x = width / 2 - view.scale * (onObject ? (x1 + x2) / 2 : shown.width / 2);
    view.y = height / 2 - view.scale * (onObject ? (y1 + y2) / 2 : shown.height / 2);
    for (const [start, side, length] of [["x", width, shown.width], ["y", height, shown.height]]) {
      const rest = side - view.scale * length; // no margin that the picture could fill
      view[start] = rest > 0 ? rest / 2 : Math.min(0, Math.max(rest, view[start]));
    }
    place();
  }

  function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    const scale = Math.min(Math.max(view.scale * factor, 0.02), 64);
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    place();
  }

  function place() {
    const shrunk = image.naturalWidth ? shown.width / image.naturalWidth : 1; // very large images arrive scaled down
    image.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale * shrunk})`;
    image.classList.toggle("pixels", view.scale * shrunk > 4);
    placed.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
    pen?.placed(view.scale);
  }

  const CLICK = 5; // screen pixels within which a pointer that goes down and up has clicked
  const held = new Map(); // pointers that are down
  let stroke = null; // what the pen does with the one pointer that is down: where it began, and whether it is a drag
  const inImage = ([x, y]) => [(x - view.x) / view.scale, (y - view.y) / view.scale];
  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const wheel = (event) => {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    if (shown) zoom(Math.exp(-0.0015 * lines * event.deltaY), ...at(event));
  };
  stage.addEventListener("wheel", wheel, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    if ((event.button && !pen) || event.target.closest("button")) return;
    stage.setPointerCapture(event.pointerId);
    held.set(event.pointerId, at(event));
    if (stroke) pen.cancel(); // a second finger zooms
    const draws = pen && shown?.source && held.size === 1 && event.button !== 1;
    stroke = draws ? { from: at(event), isRight: event.button === 2, isDrag: false } : null;
    stage.classList.add("dragging");
  });
  stage.addEventListener("pointermove", (event) => {
    if (!shown || !held.has(event.pointerId)) return;
    const [before, now] = [held.get(event.pointerId), at(event)];
    const other = [...held].find(([id]) => id !== event.pointerId)?.[1];
    held.set(event.pointerId, now);
    if (stroke) {
      stroke.isDrag ||= Math.hypot(now[0] - stroke.from[0], now[1] - stroke.from[1]) > CLICK;
      if (stroke.isDrag && !stroke.isRight) pen.drag(inImage(stroke.from), inImage(now));
      return;
    }
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
      if (!held.delete(event.pointerId)) return;
      stage.classList.toggle("dragging", held.size > 0);
      const done = stroke;
      stroke = null;
      if (!done) return;
      if (name === "pointercancel") pen.cancel();
      else if (!done.isDrag) pen.click(inImage(done.from), done.isRight);
      else if (!done.isRight) pen.box(inImage(done.from), inImage(at(event)));
    });
  }
  stage.addEventListener("contextmenu", (event) => pen && event.preventDefault());
  image.addEventListener("load", () => shown && place());
  new ResizeObserver(() => shown && fit(view.onObject)).observe(stage);

  // ---------------------------------------------------------------- choosing a class

  const [chooser, help, filter, choices] = ["chooser", "help", "filter", "choices"].map(byId);
  function list() {
    const wanted = filter.value.trim().toLowerCase();
    const fitting = classNames.filter((name) => name.toLowerCase().includes(wanted));
    fitting.sort((a, b) => b.toLowerCase().startsWith(wanted) - a.toLowerCase().startsWith(wanted));
    choices.replaceChildren(...fitting.map((name) => make("option", name)));
    choices.selectedIndex = 0;
  }
  function choose() {
    filter.value = "";
    list();
    chooser.showModal();
  }
  filter.addEventListener("input", list);
  filter.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !choices.options[choices.selectedIndex + step]) return;
    event.preventDefault();
    choices.selectedIndex += step;
  });
  choices.addEventListener("dblclick", () => chooser.querySelector("button").click());
  chooser.addEventListener("submit", () => choices.value && act.decide("accept", choices.value));

  const chips = classNames.slice(0, 9).map((name, index) => [name, String(index + 1)]);
  for (const [name, key] of [...chips, [classNames.length > 9 ? `all ${classNames.length}` : "list", "l"]]) {
    const chip = make("button", `${name} `, { type: "button", className: "button" });
    Object.assign(chip.dataset, { key, ...(key !== "l" && { name }) });
    chip.append(make("kbd", key));
    part(".chips").append(chip);
  }

  // ---------------------------------------------------------------- keys

  const keys = {
    a: () => act.decide("accept", null),
    r: () => act.decide("reject", null),
    u: () => act.undo(),
    n: () => act.go(1),
    p: () => act.go(-1),
    ArrowRight: () => act.go(1),
    ArrowLeft: () => act.go(-1),
    l: choose,
    o: () => {
      const isOn = overlay.classList.toggle("off");
      part('[data-key="o"]').ariaPressed = String(!isOn);
      overlay.style.visibility = isOn ? "hidden" : "";
    },
    "+": () => zoom(ZOOM_STEP),
    "=": () => zoom(ZOOM_STEP),
    "-": () => zoom(1 / ZOOM_STEP),
    0: () => fit(!view.onObject),
    "?": () => help.showModal(),
    ...Object.fromEntries(classNames.slice(0, 9).map((name, index) => [index + 1, () => act.decide("accept", name)])),
  };
  const repeated = new Set(["n", "p", "ArrowRight", "ArrowLeft", "+", "=", "-"]); // while the key is held

  /** Do what a key stands for. `only`: the keys that count here. */
  function press(event, only = Object.keys(keys)) {
    if (event.ctrlKey || event.metaKey || event.altKey || chooser.open || help.open) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!(key in keys) || !only.includes(key)) return;
    event.preventDefault();
    if (!event.repeat || repeated.has(key)) keys[key]();
  }

  root.addEventListener("click", (event) => {
    const key = event.target.closest("[data-key]")?.dataset.key;
    if (key) keys[key]();
  });

  function use(next) {
    pen = next;
    stroke = null;
    stage.classList.toggle("drawing", Boolean(pen));
    if (shown) place();
  }
  return { show, press, help: keys["?"], picture: showPicture, use, inImage };
}
