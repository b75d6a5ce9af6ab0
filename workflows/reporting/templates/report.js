// The report: theme, sortable tables, and the gallery with decisions, which stay in the browser until they are exported.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const data = JSON.parse(byId("data").textContent);
  const { instances } = data;

  // What the browser keeps. A page opened from disk may be refused to keep anything.
  const store = {
    get(name) { try { return localStorage.getItem(name); } catch { return null; } },
    set(name, value) { try { localStorage.setItem(name, value); } catch { /* it lasts as long as the page */ } },
  };

  // ---------------------------------------------------------------- theme

  const wantsDark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = store.get("labeler-theme");
  if (chosen) root.dataset.theme = chosen;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : wantsDark.matches);
  const nameTheme = () => { byId("theme").textContent = isDark() ? "Light" : "Dark"; };
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    store.set("labeler-theme", root.dataset.theme);
    nameTheme();
  });
  wantsDark.addEventListener("change", nameTheme);
  nameTheme();

  // ---------------------------------------------------------------- tables

  const numberIn = (text) => {
    const number = parseFloat(text.replaceAll(",", ""));
    return Number.isNaN(number) ? -Infinity : number;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("thead th").forEach((head, column) => {
      const button = make("button", "", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      const numeric = head.classList.contains("number");
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : numeric;
        table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const text = (row) => row.cells[column].textContent.trim();
        const compare = numeric
          ? (a, b) => numberIn(text(a)) - numberIn(text(b))
          : (a, b) => text(a).localeCompare(text(b), undefined, { numeric: true });
        const rows = [...table.tBodies[0].rows].sort(compare);
        table.tBodies[0].append(...(down ? rows.reverse() : rows));
      });
    });
  }

  // ---------------------------------------------------------------- decisions

  const storeName = `labeler-decisions-${data.report}`;
  const stored = () => new Map(JSON.parse(store.get(storeName) ?? "[]"));
  let decisions = stored(); // key of the instance -> [verdict, class to accept it as, or null]
  const keyOf = ({ decision }) => `${decision.instance} ${decision.image_id}`; // copies of an image have the same ids
  const decisionOn = (index) => decisions.get(keyOf(instances[index]));

  const showDecision = (index) => {
    const [card, decision] = [cards[index], decisionOn(index)];
    card.querySelector(".decided")?.remove();
    if (!decision) {
      delete card.dataset.decision;
      return;
    }
    const [verdict, name] = decision;
    card.dataset.decision = verdict;
    const text = name ? `→ ${name}` : verdict === "accept" ? "✓ accepted" : "✕ rejected";
    card.append(make("span", text, { className: "decided" }));
  };
  const save = (index, decision) => {
    if (store.get(storeName) !== null) decisions = stored(); // another tab may have written meanwhile
    if (decision) decisions.set(keyOf(instances[index]), decision);
    else decisions.delete(keyOf(instances[index]));
    store.set(storeName, JSON.stringify([...decisions]));
    showDecision(index);
    count();
  };
  const decided = () => [...instances.keys()].filter(decisionOn);

  byId("export").addEventListener("click", () => {
    const rows = decided().map((index) => {
      const [{ decision }, [verdict, name]] = [instances[index], decisionOn(index)];
      return { ...decision, verdict, ...(name && { new_class: name === decision.class ? null : name }) };
    });
    // All were made at once: where one card was rejected and another was given its class, the object stays.
    rows.sort((one, other) => (other.verdict === "reject") - (one.verdict === "reject"));
    const url = URL.createObjectURL(new Blob([`${JSON.stringify(rows, null, 1)}\n`], { type: "application/json" }));
    make("a", "", { href: url, download: "decisions.json" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });
  byId("clear").addEventListener("click", () => {
    if (!confirm(`Forget ${decided().length} decisions?`)) return;
    decisions.clear();
    store.set(storeName, "[]");
    cards.forEach((_, index) => showDecision(index));
    count();
  });

  // ---------------------------------------------------------------- gallery

  const STEP = 60;
  const list = byId("cards");
  const cards = [...list.children];
  const tools = byId("tools");
  let order = []; // indices of the instances that fit the filters, sorted
  let limit = STEP;
  let current = -1; // index of the instance that has the focus, or had it last

  const doubt = (each) => Math.abs(each.scores[data.ranking] - data.accept[each.class_id]);
  const by = (name) => (a, b) => b.scores[name] - a.scores[name];
  const sorts = {
    joint: by("joint"),
    "joint-up": (a, b) => a.scores.joint - b.scores.joint,
    uncertain: (a, b) => doubt(a) - doubt(b),
    detector: by("detector"),
    mask: by("mask"),
    stability: by("stability"),
    area: (a, b) => b.area - a.area,
    class: (a, b) => a.class_id - b.class_id || by("joint")(a, b),
    image: (a, b) => a.image_id.localeCompare(b.image_id, undefined, { numeric: true }),
  };
  const count = () => {
    const made = decided().length;
    byId("count").textContent = `${order.length} of ${instances.length} shown${made ? `, ${made} decided` : ""}`;
    byId("export").disabled = byId("clear").disabled = !made;
  };
  const filter = () => {
    const wanted = Object.fromEntries(new FormData(tools));
    const low = wanted.low === "" ? -Infinity : Number(wanted.low);
    const high = wanted.high === "" ? Infinity : Number(wanted.high);
    order = [...instances.keys()].filter((index) => {
      const each = instances[index];
      return (
        (!wanted.verdict || each.verdict === wanted.verdict) &&
        (wanted.class === "" || each.class_id === Number(wanted.class)) &&
        each.scores.joint >= low &&
        each.scores.joint <= high &&
        (!wanted.decided || Boolean(decisionOn(index)) === (wanted.decided === "yes"))
      );
    });
    order.sort((a, b) => sorts[wanted.sort](instances[a], instances[b]) || a - b);
    list.classList.toggle("no-outlines", !wanted.outlines);
    limit = STEP;
    show();
  };
  const show = () => {
    const shown = order.slice(0, limit);
    const visible = new Set(shown);
    cards.forEach((card, index) => { card.hidden = !visible.has(index); });
    list.append(...shown.map((index) => cards[index]));
    byId("nothing").hidden = order.length > 0;
    byId("more").hidden = order.length <= limit;
    byId("more").textContent = `Show ${Math.min(STEP, order.length - limit)} more of ${order.length - limit}`;
    if (!visible.has(current)) current = shown[0] ?? -1;
    reach();
    count();
  };
  // One stop for the Tab key in the whole gallery; arrow keys move within.
  const reach = () => {
    cards.forEach((card, index) => { card.firstElementChild.tabIndex = index === current ? 0 : -1; });
  };
  const focus = (index) => {
    current = index;
    reach();
    cards[index].firstElementChild.focus();
  };
  const columns = () => getComputedStyle(list).gridTemplateColumns.split(" ").length;
  const step = (by) => {
    const next = order.indexOf(current) + by;
    if (next < 0 || next >= order.length) return false;
    if (next >= limit) { limit += STEP; show(); }
    current = order[next];
    return true;
  };

  tools.addEventListener("input", filter);
  tools.addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", () => {
    const first = limit;
    limit += STEP;
    show();
    focus(order[first]);
  });
  list.addEventListener("focusin", (event) => {
    const card = event.target.closest(".card");
    if (card) { current = Number(card.dataset.index); reach(); }
  });
  list.addEventListener("click", (event) => {
    const card = event.target.closest(".thumb")?.closest(".card");
    if (!card) return;
    current = Number(card.dataset.index);
    large.showModal();
    draw();
  });
  list.addEventListener("keydown", (event) => {
    const [at, last] = [order.indexOf(current), Math.min(limit, order.length) - 1];
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns(), Home: -at, End: last - at };
    if (current < 0 || !(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) {
      if (current >= 0) view.press(event, [..."arul?123456789"]);
      return;
    }
    event.preventDefault();
    if (step(steps[event.key])) focus(current);
  });

  // ---------------------------------------------------------------- one instance, large

  const large = byId("large");
  const draw = () => {
    if (!large.open) {
      focus(current);
      return;
    }
    const [each, decision, frame] = [instances[current], decisionOn(current), cards[current].querySelector(".frame")];
    const [width, height] = each.picture_size;
    view.show(
      { ...each, decided: decision?.[0], class: decision?.[1] ?? each.class },
      {
        source: frame.querySelector("img")?.src,
        message: frame.textContent,
        width,
        height,
        outline: frame.querySelector(".outline")?.getAttribute("d") ?? "",
        box: [0, 0, width, height],
        detector_box: each.detector_box,
      },
    );
    byId("position").textContent = `${order.indexOf(current) + 1} of ${order.length}`;
  };
  const view = instanceView(byId("view"), data.classes, {
    decide(verdict, name) {
      save(current, [verdict, name]);
      step(1);
      draw();
    },
    undo() {
      save(current, null);
      draw();
    },
    go(by) {
      step(by);
      draw();
    },
    undoes: "take the decision on this instance back",
    note: "Decisions stay in this browser until you export them.",
  });
  large.addEventListener("keydown", (event) => view.press(event));
  large.addEventListener("click", (event) => {
    if (event.target === large || event.target.closest("#close")) large.close();
  });
  large.addEventListener("close", () => focus(current));

  cards.forEach((_, index) => showDecision(index));
  filter();
})();
