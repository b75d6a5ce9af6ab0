"use strict";
// Drawing on the review page: the mask of an instance is fixed, or a new object is drawn, by clicks and boxes that a
// segmenter turns into masks. Each click makes a draft on the server; undo goes back to the draft before.

const LOADING = 1000; // milliseconds between questions whether the segmenter is loaded
const STEP = 10; // screen pixels that an arrow key moves the cross; 1 with Shift

/**
 * `view`: the view of instances, see instance.js. `session`: classes and images, the number of images.
 *
 * Returns `open(key event)`, which begins drawing if the key asks for it, `draw(image)`, `press(key event)`, `isOn()`.
 */
function drawingView(view, session) {
  const svg = (name, parent) =>
    parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  const [side, panel, stage] = [document.querySelector(".side"), byId("drawing"), document.querySelector(".stage")];
  const overlay = stage.querySelector("svg g");
  const [others, marks] = [svg("g", overlay), svg("g", overlay)];
  const select = byId("drawing-class");
  select.append(...session.classes.map((name) => make("option", name, { value: name })));

  let isOn = false;
  let picturing = null; // the picture that is drawn on: image, width, height, outline, box
  let fixing = null; // the item whose mask is fixed; null for a new object
  let drafts = []; // what each click made: draft, outline, area, and the marks of its prompts
  let removes = false; // what a click does
  let cross = null; // where the arrow keys are, in the picture
  let corner = null; // of a box that is set by keys
  let scale = 1;
  let prepared = Promise.resolve(); // until the segmenter is loaded and the image embedded
  let turn = 0; // answers to an earlier drawing are dropped

  // ---------------------------------------------------------------- beginning and ending

  function start(picture, item) {
    const isOther = picturing?.source !== picture.source || !isOn;
    [isOn, picturing, fixing, drafts, cross, corner] = [true, picture, item, [], null, null];
    turn += 1;
    side.hidden = true;
    panel.hidden = false;
    setRemoves(false);
    byId("drawing-title").textContent = item ? `Fix the mask: ${item.class}` : "Draw a new object";
    byId("drawing-image").textContent = picture.image_id;
    byId("of-images").hidden = Boolean(item);
    if (item) select.value = item.class;
    stage.className = "stage outlined drawing accept";
    stage.setAttribute("aria-label", `Drawing on ${picture.image_id}`);
    view.picture(picture, isOther);
    view.use(pen);
    render();
    prepared = ready(turn);
    document.body.dataset.drawing = picture.image;
  }

  function end() {
    isOn = false;
    turn += 1;
    side.hidden = false;
    panel.hidden = true;
    others.replaceChildren();
    marks.replaceChildren();
    view.use(null);
    delete document.body.dataset.drawing;
  }

  async function back() {
    end();
    if (session.total) await show(current?.number ?? session.next ?? 0);
    else await draw(picturing.image);
  }

  async function fix() {
    const item = current;
    const source = await picture(item.image);
    start({ ...item, source }, item);
  }

  async function draw(image) {
    const found = await ask(`objects?image=${image}`);
    const source = await picture(image);
    const whole = [0, 0, found.width, found.height];
    const message = "This image cannot be shown: it is gone, or it has changed since it was labeled.";
    const shown = { ...found, image, source, message, outline: "", box: whole, detector_box: [0, 0, 0, 0] };
    byId("position").textContent = `image ${(image + 1).toLocaleString("en")} of ${session.images.toLocaleString("en")}`;
    others.replaceChildren();
    for (const object of found.objects) {
      const path = svg("path", others);
      path.setAttribute("class", "other");
      path.setAttribute("d", object.outline);
      svg("title", path).textContent = object.class;
    }
    start(shown, null);
  }

  /** Wait until the segmenter is loaded and the image embedded, and say so. */
  async function ready(asked) {
    const { image, source } = picturing;
    if (!source) return state("There is no picture to draw on.");
    try {
      state("Loading the segmenter …");
      while (asked === turn && !(await ask("assist")).ready) await new Promise((done) => setTimeout(done, LOADING));
      if (asked === turn) state("Reading the image …");
      if (asked === turn) await ask(`assist?image=${image}`);
      if (asked === turn) state();
    } catch (error) {
      if (asked === turn) state(error.message);
    }
  }

  function state(text) {
    const last = drafts.at(-1);
    const begin = fixing ? "Click a part that is missing, or right-click one that is too much." : "Click the object, or drag a box around it.";
    const size = last && (last.area ? `Mask of ${last.area.toLocaleString("en")} pixels.` : "No mask was found there.");
    byId("drawing-state").textContent = text ?? size ?? begin;
    document.body.dataset.drafts = text ? "busy" : String(drafts.length);
    byId("drawing-save").disabled = !last?.area;
  }

  // ---------------------------------------------------------------- prompts

  const clamp = ([x, y]) => [
    Math.min(Math.max(x, 0), picturing.width),
    Math.min(Math.max(y, 0), picturing.height),
  ];

  function point(place, isRemoved) {
    const [x, y] = place;
    if (!picturing.source || x < 0 || y < 0 || x > picturing.width || y > picturing.height) return;
    const mark = { point: place, isRemoved };
    prompt(() => {
      const last = drafts.at(-1);
      const from = last ? { draft: last.draft } : fixing ? { item: fixing.number } : {};
      return [{ ...from, point: place, label: isRemoved ? 0 : 1 }, [...(last?.marks ?? []), mark]];
    });
  }

  function box(from, to) {
    const [[x1, y1], [x2, y2]] = [clamp(from), clamp(to)];
    if (x1 === x2 || y1 === y2 || !picturing.source) return render();
    const corners = [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];
    prompt(() => [{ box: corners }, [{ box: corners }]]);
  }

  /** Ask for the next draft. `content`: makes the request and the marks, when the drafts before are there. */
  function prompt(content) {
    const asked = turn;
    inTurn(async () => {
      if (asked !== turn) return;
      await prepared;
      if (asked !== turn) return;
      const [request, its] = content();
      render(its);
      state("Drawing …");
      try {
        const answer = await ask("masks", { image: picturing.image, ...request }).catch((error) => {
          throw new Error(error.message.replace(/^Not saved: /, ""));
        });
        if (asked === turn) drafts.push({ ...answer, marks: its });
      } finally {
        if (asked === turn) {
          render();
          state();
        }
      }
    });
  }

  function stepBack() {
    const asked = turn;
    inTurn(async () => {
      if (asked !== turn) return;
      if (drafts.length) {
        drafts.pop();
        render();
        state();
        return;
      }
      if (fixing) return say("nothing to undo");
      const answer = await ask("undo", {});
      takeObjects(answer.progress);
      say(answer.item || answer.is_undone ? "taken back: the last decision" : "nothing to undo");
      await draw(picturing.image);
    });
  }

  function save() {
    const asked = turn;
    inTurn(async () => {
      const last = drafts.at(-1);
      if (asked !== turn) return;
      if (!last?.area) return say("draw a mask first");
      if (fixing) {
        const { number, instance } = fixing;
        const content = { item: number, instance, verdict: "accept", class: select.value, draft: last.draft };
        const answer = await ask("decisions", content);
        end();
        await decided(answer, "accept");
        return;
      }
      const answer = await ask("objects", { image: picturing.image, class: select.value, draft: last.draft });
      takeObjects(answer.progress);
      say(`saved: ${answer.class} added`);
      await draw(picturing.image);
    });
  }

  // ---------------------------------------------------------------- what is shown

  function render(its = drafts.at(-1)?.marks ?? [], dragged = null) {
    const outline = drafts.length ? drafts.at(-1).outline : picturing.outline;
    for (const path of overlay.querySelectorAll(":scope > .halo, :scope > .outline")) path.setAttribute("d", outline);
    marks.replaceChildren();
    for (const { box: corners } of [...its, ...(dragged ? [{ box: dragged }] : [])]) {
      if (!corners) continue;
      const [x1, y1, x2, y2] = corners;
      const rect = svg("rect", marks);
      const values = { class: "prompt-box", x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
      for (const [name, value] of Object.entries(values)) rect.setAttribute(name, value);
    }
    for (const { point: place, isRemoved } of its) if (place) sign(place, isRemoved ? "M-4 0H4" : "M-4 0H4M0 -4V4", isRemoved);
    if (cross) sign(cross, "M-14 0H14M0 -14V14", removes, "cross");
    if (corner) sign(corner, "M-6 -6H6V6H-6Z", false, "cross");
  }

  /** A sign of constant size on the screen. */
  function sign([x, y], path, isRemoved, kind = "point") {
    const group = svg("g", marks);
    group.setAttribute("class", `${kind} ${isRemoved ? "removed" : "added"}`);
    group.setAttribute("transform", `translate(${x} ${y}) scale(${1 / scale})`);
    if (kind === "point") svg("circle", group).setAttribute("r", 7);
    svg("path", group).setAttribute("d", path);
  }

  const pen = {
    click: (place, isRight) => point(place, isRight || removes),
    drag: (from, to) => {
      const [[x1, y1], [x2, y2]] = [clamp(from), clamp(to)];
      render(undefined, [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)]);
    },
    box,
    cancel: () => render(),
    placed: (now) => {
      scale = now;
      render();
    },
  };

  // ---------------------------------------------------------------- buttons and keys

  function setRemoves(is) {
    removes = is;
    byId("adds").ariaPressed = String(!is);
    byId("removes").ariaPressed = String(is);
  }

  function move(event, [right, down]) {
    const { clientWidth: width, clientHeight: height } = stage;
    const [x, y] = cross ?? clamp(view.inImage([width / 2, height / 2]));
    const step = (event.shiftKey ? 1 : STEP) / scale;
    cross = clamp(cross ? [x + right * step, y + down * step] : [x, y]);
    render();
  }

  function cornerAt() {
    if (!cross) return;
    if (corner) {
      const from = corner;
      corner = null;
      box(from, cross);
    } else {
      corner = cross;
      render();
    }
  }

  const other = (step) => {
    const image = picturing.image + step;
    if (fixing) return;
    if (image < 0 || image >= session.images) return say(step > 0 ? "that was the last image" : "this is the first image");
    inTurn(() => draw(image));
  };
  const keys = {
    Escape: () => {
      turn += 1;
      inTurn(back);
    },
    Enter: save,
    u: stepBack,
    " ": () => cross && point(cross, false),
    x: () => (cross ? point(cross, true) : setRemoves(!removes)),
    b: cornerAt,
    n: () => other(1),
    p: () => other(-1),
  };
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function press(event) {
    const isControl = event.target.closest?.("button, select, summary");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
      event.preventDefault();
      return stepBack();
    }
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (isControl && (event.key === "Enter" || event.key === " " || event.key in arrows)) return;
    if (event.target === select && event.key !== "Escape") return; // typing chooses a class
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key in arrows) {
      event.preventDefault();
      move(event, arrows[key]);
    } else if (key in keys) {
      event.preventDefault();
      if (!event.repeat) keys[key]();
    } else view.press(event, ["+", "=", "-", "0", "o", "?"]);
  }

  panel.addEventListener("submit", (event) => {
    event.preventDefault();
    save();
  });
  const clicks = {
    adds: () => setRemoves(false),
    removes: () => setRemoves(true),
    "step-back": stepBack,
    "drawing-cancel": keys.Escape,
    "image-back": keys.p,
    "image-next": keys.n,
  };
  for (const [id, act] of Object.entries(clicks)) byId(id).addEventListener("click", act);

  const begin = { e: () => inTurn(fix), d: () => inTurn(() => draw(current.image)) };
  const entry = make("div", "", { className: "row" });
  for (const [text, key] of [["Fix the mask ", "e"], ["Draw an object ", "d"]]) {
    const button = make("button", text, { type: "button", className: "button" });
    button.append(make("kbd", key));
    button.addEventListener("click", begin[key]);
    entry.append(button);
  }
  side.querySelector(".actions").after(entry);

  function open(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.querySelector("dialog[open]")) return false;
    const key = event.key.toLowerCase();
    if (!(key in begin)) return false;
    event.preventDefault();
    begin[key]();
    return true;
  }

  return { open, draw, press, isOn: () => isOn };
}
