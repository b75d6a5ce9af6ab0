"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const fields = ["key", "image", "classId", "verdict", "reason", "prompt", "scores", "area", "size", "counts"];
  const instances = data.instances.map((row) => Object.fromEntries(row.map((value, i) => [fields[i], value])));
  const words = { accept: "accepted", review: "to review", reject: "rejected" };

  // What the browser keeps; a page opened from disk may be refused.
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
      const button = document.createElement("button");
      button.type = "button";
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

  // key of the instance -> [verdict, new class or null]
  const storeName = `labeler-decisions-${data.report}`;
  const stored = () => new Map(JSON.parse(store.get(storeName) ?? "[]"));
  let decisions = stored();
  const decisionText = ([verdict, name]) => (name ? `→ ${name}` : verdict === "accept" ? "✓ accepted" : "✕ rejected");

  const showDecision = (index) => {
    const card = cards[index];
    const decision = decisions.get(instances[index].key);
    card.querySelector(".decided")?.remove();
    delete card.dataset.decision;
    if (!decision) return;
    card.dataset.decision = decision[0];
    const chip = document.createElement("span");
    chip.className = "decided";
    chip.textContent = decisionText(decision);
    card.append(chip);
  };
  const decide = (index, decision) => {
    if (store.get(storeName) !== null) decisions = stored(); // another tab may have written meanwhile
    if (decision) decisions.set(instances[index].key, decision);
    else decisions.delete(instances[index].key);
    store.set(storeName, JSON.stringify([...decisions]));
    showDecision(index);
    count();
  };
  const here = () => instances.filter((instance) => decisions.has(instance.key));

  window.addEventListener("storage", (event) => {
    if (event.key !== storeName) return;
    decisions = stored();
    instances.forEach((_, index) => showDecision(index));
    count();
  });

  byId("export").addEventListener("click", () => {
    const rows = here().map((instance) => {
      const [verdict, name] = decisions.get(instance.key);
      return {
        image_id: instance.image,
        verdict,
        class: data.classes[instance.classId],
        mask: { size: instance.size, counts: instance.counts },
        new_class: name,
        new_mask: null,
      };
    });
    // All are made at once: where one card was rejected and another given its class, the latter is to count.
    rows.sort((one, other) => (other.verdict === "reject") - (one.verdict === "reject"));
    const link = document.createElement("a");
    const url = URL.createObjectURL(new Blob([`${JSON.stringify(rows, null, 1)}\n`], { type: "application/json" }));
    link.href = url;
    link.download = "decisions.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });
  byId("clear").addEventListener("click", () => {
    if (!confirm(`Forget ${here().length} decisions?`)) return;
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
  let order = []; // indices of what fits the filters, sorted
  let limit = STEP;
  let current = -1; // index of the instance that has the focus, or had it last

  const doubt = (each) => Math.abs(each.scores[data.ranking] - data.accept[each.classId]);
  const sorts = {
    joint: (a, b) => b.scores[0] - a.scores[0],
    "joint-up": (a, b) => a.scores[0] - b.scores[0],
    uncertain: (a, b) => doubt(a) - doubt(b),
    detector: (a, b) => b.scores[1] - a.scores[1],
    mask: (a, b) => b.scores[2] - a.scores[2],
    stability: (a, b) => b.scores[3] - a.scores[3],
    area: (a, b) => b.area - a.area,
    class: (a, b) => a.classId - b.classId || b.scores[0] - a.scores[0],
    image: (a, b) => a.image.localeCompare(b.image, undefined, { numeric: true }),
  };
  const count = () => {
    const made = here().length;
    const decided = made ? `, ${made} decided` : "";
    byId("count").textContent = `${order.length} of ${instances.length} shown${decided}`;
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
        (wanted.class === "" || each.classId === Number(wanted.class)) &&
        each.scores[0] >= low &&
        each.scores[0] <= high &&
        (!wanted.decided || decisions.has(each.key) === (wanted.decided === "yes"))
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
    const place = order.indexOf(current) + by;
    if (place < 0 || place >= order.length) return false;
    if (place >= limit) { limit += STEP; show(); }
    current = order[place];
    return true;
  };
  const steps = () => ({ ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() });

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
    if (card) open(Number(card.dataset.index));
  });
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || current < 0) return;
    const by = { ...steps(), Home: -order.indexOf(current), End: Math.min(limit, order.length) - 1 - order.indexOf(current) };
    if (event.key in by) {
      if (step(by[event.key])) focus(current);
    } else if (event.key === "l") {
      open(current);
      byId("relabel").focus();
    } else if (!act(event.key)) {
      return;
    } else {
      focus(current);
    }
    event.preventDefault();
  });

  // `a`, `r` and `u`, here and in the large view; what is decided gives way to the next.
  const act = (key) => {
    const decision = { a: ["accept", null], r: ["reject", null], u: null }[key];
    if (decision === undefined) return false;
    decide(current, decision);
    if (decision) step(1);
    return true;
  };

  // ---------------------------------------------------------------- large view

  const dialog = byId("large");
  const open = (index) => {
    current = index;
    draw();
    if (!dialog.open) dialog.showModal();
  };
  const draw = () => {
    const each = instances[current];
    const frame = byId("large-frame");
    const source = cards[current].querySelector(".frame");
    frame.className = source.className;
    frame.replaceChildren(...[...source.children].map((child) => child.cloneNode(true)));
    byId("large-title").textContent = data.classes[each.classId];
    const [joint, detector, mask, stability] = each.scores.map((score) => score.toFixed(3));
    const facts = {
      Verdict: words[each.verdict] + (each.reason ? ` (${each.reason})` : ""),
      "Joint score": joint,
      Detector: detector,
      Mask: mask,
      Stability: stability,
      Area: `${each.area.toLocaleString("en")} px`,
      Prompt: each.prompt,
      Image: `${each.image} (${each.size[1]} × ${each.size[0]})`,
    };
    byId("facts").replaceChildren(
      ...Object.entries(facts).flatMap(([name, text]) => {
        const [term, fact] = [document.createElement("dt"), document.createElement("dd")];
        term.textContent = name;
        fact.textContent = text;
        return [term, fact];
      }),
    );
    const decision = decisions.get(each.key);
    byId("relabel").value = decision?.[1] ?? "";
    byId("large-decision").textContent = decision ? `You: ${decisionText(decision)}` : "Not decided.";
    for (const [key, verdict] of [["a", "accept"], ["r", "reject"]]) {
      const pressed = Boolean(decision) && decision[0] === verdict && !decision[1];
      dialog.querySelector(`[data-key="${key}"]`).setAttribute("aria-pressed", pressed);
    }
    byId("place").textContent = `${order.indexOf(current) + 1} of ${order.length}`;
  };
  const pressed = (key) => {
    if (key === "ArrowLeft" || key === "ArrowRight") step(steps()[key]);
    else if (key === "l") byId("relabel").focus();
    else if (!act(key)) return false;
    draw();
    return true;
  };
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.id === "relabel") return;
    if (pressed(event.key)) event.preventDefault();
  });
  dialog.addEventListener("click", (event) => {
    const key = event.target.closest("[data-key]")?.dataset.key;
    if (key) pressed(key);
    else if (event.target === dialog || event.target.closest("#close")) dialog.close();
  });
  byId("relabel").addEventListener("change", (event) => {
    const [name, own] = [event.target.value, data.classes[instances[current].classId]];
    decide(current, name ? ["accept", name === own ? null : name] : null);
    draw();
  });
  dialog.addEventListener("close", () => { if (current >= 0) focus(current); });

  cards.forEach((_, index) => showDecision(index));
  filter();
})();
