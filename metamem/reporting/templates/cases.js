// The list of attempts: filtered, sorted, opened. A group is what a table's cell is of; it knows what it is compared with.
(async () => {
  const list = by("list"), ready = () => { document.documentElement.dataset.ready = "yes"; };
  if (!list) return ready();
  const packed = Uint8Array.from(atob(by("data").textContent.trim()), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = JSON.parse(await new Response(stream).text());
  const form = by("filters"), PAGE = 100;
  const groups = new Map(data.groups.map(g => [g.key, { ...g, units: new Set(g.units) }]));
  // Where no group is chosen an attempt belongs to the one that holds nothing but its system.
  const home = [];
  for (const g of groups.values()) for (const u of g.units) if (!home[u] || g.units.size < home[u].units.size) home[u] = g;
  const said = text => data.texts[text];
  const verdict = a => { const v = a.v[0]; return !v || v[2] === null ? "invalid" : v[2] ? "right" : "wrong"; };
  const evidence = c => c.retrieved === true ? "retrieved" : c.retrieved === false ? "missed" : "unknown";

  const rows = data.attempts.map(a => {
    const c = data.cases[a.c], q = data.questions[c.q];
    const text = [q.id, q.text ?? "", said(a.r), ...a.v.map(v => said(v[4]))].join("\n").toLowerCase();
    return { a, c, q, text, part: data.units[a.u][0], type: q.type ?? "", verdict: verdict(a), evidence: evidence(c) };
  });
  const ofUnit = data.units.map(() => []);
  for (const r of rows) ofUnit[r.a.u].push(r);

  // Right by question: at least half of a group's attempts.
  const tallies = new Map();
  const tally = g => {
    if (!tallies.has(g.key)) {
      const found = new Map();
      for (const u of g.units) for (const r of ofUnit[u]) {
        const cell = found.get(r.c.q) ?? found.set(r.c.q, { right: 0, all: 0, row: r }).get(r.c.q);
        cell.right += r.verdict === "right"; cell.all += 1;
      }
      tallies.set(g.key, found);
    }
    return tallies.get(g.key);
  };
  const isRight = (g, q) => { const cell = tally(g).get(q); return cell ? 2 * cell.right >= cell.all : null; };
  const pair = g => g.base ? [groups.get(g.base), g] : g.then ? [g, groups.get(g.then)] : null;
  const flip = (g, q) => {
    const sides = g && pair(g);
    if (!sides) return "";
    const [before, after] = sides.map(side => isRight(side, q));
    if (before === null || after === null) return "";
    return before ? (after ? "both" : "lost") : (after ? "gained" : "neither");
  };
  const flips = kind => kind === "gained" || kind === "lost";

  const fill = (name, values, any) => {
    const select = form.elements[name], chosen = select.value;
    select.replaceChildren(make("option", { value: "" }, any), ...values.map(([value, shown]) => make("option", { value }, shown)));
    select.value = values.some(([value]) => value === chosen) ? chosen : "";
  };
  const systems = () => {
    const part = form.elements.part.value;
    fill("system", [...groups.values()].filter(g => !part || g.part === part).map(g => [g.key, g.label]), "any");
  };
  const parts = [...new Set(data.groups.map(g => g.part))].sort((a, b) => (b === data.part) - (a === data.part));
  fill("part", parts.map(p => [p, p]), "any");
  form.elements.part.value = parts.includes(data.part) ? data.part : "";
  fill("type", [...new Set(rows.map(r => r.type))].sort().map(t => [t, t]), "any");
  systems();

  let sort = { key: "question", down: false }, limit = PAGE, shown = [], opened = 0;
  const label = r => (groups.get(form.elements.system.value) ?? home[r.a.u]).label;
  const keys = {
    question: r => r.q.id, type: r => r.type, system: label, verdict: r => r.verdict,
    evidence: r => r.evidence, tokens: r => r.a.t[0] + r.a.t[1],
  };
  const state = () => Object.fromEntries(new FormData(form));
  // What a question is, whatever became of it.
  const asked = (s, r) => (!s.type || r.type === s.type) && (!s.abstention || r.q.abstention) && (!s.question || r.q.id === s.question);
  const filter = () => {
    const s = state(), text = (s.text ?? "").trim().toLowerCase(), group = groups.get(s.system);
    shown = rows.filter(r => {
      if (group ? !group.units.has(r.a.u) : s.part && r.part !== s.part) return false;
      if (!asked(s, r) || (s.verdict && (s.verdict === "cut" ? !r.a.cut : r.verdict !== s.verdict)) || (s.evidence && r.evidence !== s.evidence)) return false;
      if (text && !r.text.includes(text)) return false;
      if (!s.flip) return true;
      const kind = flip(group ?? home[r.a.u], r.c.q);
      return s.flip === "flips" ? flips(kind) : kind === s.flip;
    });
    const of = keys[sort.key];
    const keyed = shown.map(r => [of(r), r]);
    keyed.sort(([x], [y]) => (x < y ? -1 : x > y ? 1 : 0) * (sort.down ? -1 : 1));
    shown = keyed.map(([, r]) => r);
    split(s, group);
    draw(group);
  };

  // The chosen group against the other: how many questions flip, by whether their evidence was retrieved.
  const split = (s, group) => {
    const sides = group && pair(group), table = by("split");
    table.hidden = !sides;
    if (!sides) return;
    const counts = { all: {}, retrieved: {}, missed: {}, unknown: {} };
    for (const [q, cell] of tally(group)) {
      const kind = flip(group, q);
      if (!kind || !asked(s, cell.row)) continue;
      for (const of of ["all", cell.row.evidence]) counts[of][kind] = (counts[of][kind] ?? 0) + 1;
    }
    by("split-title").textContent = `“${sides[1].label}” against “${sides[0].label}”${s.type ? `, ${s.type}` : ""}: a question is right when at least half of its attempts are.`;
    const kinds = ["gained", "lost", "both", "neither"];
    const sum = of => kinds.reduce((total, kind) => total + (counts[of][kind] ?? 0), 0);
    const cell = (of, kind) => {
      const count = counts[of][kind] ?? 0;
      if (!count) return make("td", { class: "n" }, "0");
      const button = make("button", { class: `cell ${kind}`, type: "button" }, String(count));
      button.addEventListener("click", () => { form.elements.flip.value = kind; form.elements.evidence.value = of === "all" ? "" : of; form.elements.verdict.value = ""; filter(); });
      return make("td", { class: "n" }, button);
    };
    const lines = Object.keys(counts).filter(of => of === "all" || (sum(of) && !(of === "unknown" && sum(of) === sum("all"))));
    table.tBodies[0].replaceChildren(...lines.map(of => make("tr", {}, make("th", { scope: "row" }, of === "all" ? "all" : `evidence ${of}`), make("td", { class: "n" }, String(sum(of))), ...kinds.map(kind => cell(of, kind)))));
  };

  const draw = group => {
    list.tBodies[0].replaceChildren(...shown.slice(0, limit).map((r, i) => {
      const open = make("button", { type: "button" }, r.q.text ?? r.q.id);
      const kind = flip(group ?? home[r.a.u], r.c.q);
      const row = make("tr", {}, make("td", {}, open), make("td", { class: "wide" }, r.type), make("td", {}, label(r)),
        make("td", { class: r.verdict }, r.verdict + (r.a.cut ? ", cut" : "") + (flips(kind) ? `, ${kind}` : "")),
        make("td", { class: "wide" }, r.evidence), make("td", { class: "n wide" }, String(r.a.t[0] + r.a.t[1])));
      row.addEventListener("click", () => show(i));
      return row;
    }));
    const questions = new Set(shown.map(r => r.c.q)).size;
    const counted = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
    by("count").textContent = `${counted(shown.length, "attempt")} at ${counted(questions, "question")}` + (shown.length > limit ? `, the first ${limit} shown` : "");
    by("more").hidden = shown.length <= limit;
  };

  const memories = c => c.evidence.map(([text, needed], i) => make("div", { class: needed ? "memory needed" : "memory", tabindex: "0" }, `[${i + 1}] ${said(text)}`));
  const heading = c => make("h4", {}, `evidence, ${c.evidence.length} fragments` + (c.evidence.some(([, needed]) => needed) ? "; marked: what the question needs" : ""));
  const show = index => {
    opened = index;
    const r = shown[index], q = r.q, group = groups.get(form.elements.system.value) ?? home[r.a.u];
    // Side by side: what the group is compared with; without that every system of a page of one run.
    const beside = pair(group) ?? [group];
    const several = data.several ? beside : [...new Set([...beside, ...[...groups.values()].filter(g => g.part === group.part && g.part === data.part)])];
    const parts = [
      make("h3", { id: "case-title" }, q.text ?? q.id),
      make("p", { class: "note" }, [q.id, r.type, q.date ? `asked ${q.date}` : "", q.abstention ? "abstention" : "", `evidence ${r.evidence}`].filter(Boolean).join(" · ")),
      make("p", {}, make("b", {}, "accepted: "), (q.answers ?? []).map(t => `“${t}”`).join(", ") || "not kept with the run"),
    ];
    const answers = new Map();
    for (const g of several) for (const u of g.units) for (const o of ofUnit[u]) if (o.c.q === r.c.q && !answers.has(o)) answers.set(o, g);
    const cases = [...new Set([...answers.keys()].map(o => o.c))];
    for (const [o, g] of answers) {
      const of = cases.length > 1 ? ` from evidence ${cases.indexOf(o.c) + 1}` : "";
      parts.push(make("h4", {}, `${g.label}${o.a.d ? `, draw ${o.a.d}` : ""}: `, make("span", { class: o.verdict }, o.verdict + (o.a.cut ? ", cut at its limit" : "")), make("small", {}, of)),
        make("div", { class: "answer" }, said(o.a.r) || (o.a.e === undefined ? "" : said(o.a.e)) || "(empty)"));
      if (o.a.g !== undefined) parts.push(make("p", { class: "note" }, `shown: ${said(o.a.g)}`));
      for (const [name, judge, right, score, raw, reason] of o.a.v) parts.push(make("p", { class: "note" }, `${said(name)}${said(judge) ? ` (${said(judge)})` : ""}, score ${score}: ${said(raw) || said(reason) || (right ? "right" : "wrong")}`));
    }
    cases.forEach((c, i) => {
      const title = heading(c);
      if (cases.length > 1) title.prepend(`${i + 1}. `);
      parts.push(title, ...memories(c));
    });
    by("case-body").replaceChildren(...parts);
    by("case-place").textContent = `${index + 1} of ${shown.length}`;
    by("previous").disabled = index === 0;
    by("next").disabled = index === shown.length - 1;
    if (!by("case").open) by("case").showModal();
    by("case").scrollTop = 0;
  };

  const set = wanted => {
    for (const element of form.elements) if (element.name) element.value = "";
    const group = groups.get(wanted.system);
    form.elements.part.value = group ? group.part : wanted.part ?? (parts.includes(data.part) ? data.part : "");
    systems();
    for (const [key, value] of Object.entries(wanted)) if (form.elements[key] && key !== "part") form.elements[key].value = value;
    // A cell opens what flips; where nothing does, all of it.
    if (wanted.flip === "flips" && !(group && [...tally(group)].some(([q, cell]) => flips(flip(group, q)) && asked(state(), cell.row)))) form.elements.flip.value = "";
    limit = PAGE;
    filter();
  };
  let waiting = 0;
  form.addEventListener("input", event => {
    if (event.target.name === "part") systems();
    limit = PAGE;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(filter);
  });
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", event => { event.preventDefault(); set({}); });
  by("more").addEventListener("click", () => { limit += 10 * PAGE; draw(groups.get(form.elements.system.value)); });
  list.querySelectorAll("thead button").forEach(button => button.addEventListener("click", () => {
    sort = { key: button.dataset.sort, down: sort.key === button.dataset.sort && !sort.down };
    mark(button, sort.down);
    filter();
  }));
  document.querySelectorAll("button[data-filter]").forEach(button => button.addEventListener("click", () => {
    set(JSON.parse(button.dataset.filter));
    by("attempts").scrollIntoView();
    by("attempts").focus({ preventScroll: true });
  }));
  const dialog = by("case");
  dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
  for (const [id, step] of [["previous", -1], ["next", 1]]) by(id).addEventListener("click", () => show(opened + step));
  dialog.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && shown[opened + step]) { event.preventDefault(); show(opened + step); }
  });
  const wanted = Object.fromEntries(new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : ""));
  set(wanted);
  if (Object.keys(wanted).length) by("attempts").scrollIntoView();
  ready();
})();
