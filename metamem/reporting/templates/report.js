"use strict";
// The page works on data of strangers: text only ever becomes text nodes.
(async () => {
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    for (const child of children) node.append(child);
    return node;
  };
  const by = id => document.getElementById(id);

  const sortable = table => {
    const buttons = [...table.querySelectorAll("thead button")];
    buttons.forEach(button => button.addEventListener("click", () => {
      const column = [...button.closest("tr").children].indexOf(button.closest("th"));
      const down = button.getAttribute("aria-sort") !== "descending";
      buttons.forEach(b => b.removeAttribute("aria-sort"));
      button.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => { const cell = row.children[column]; return cell.dataset.value ?? cell.textContent.trim(); };
      const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a), value(b)) * (down ? -1 : 1));
      table.tBodies[0].append(...rows);
    }));
  };
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    return a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y) ? x - y : String(a).localeCompare(String(b), "en", { numeric: true });
  };
  document.querySelectorAll("table.sortable").forEach(sortable);

  const runs = by("runs-table");
  if (runs) {
    const form = by("filters");
    const apply = () => {
      const text = form.elements.text.value.toLowerCase(), part = form.elements.part.value;
      for (const row of runs.tBodies[0].rows)
        row.hidden = (part !== "" && row.dataset.part !== part) || !row.textContent.toLowerCase().includes(text);
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", event => event.preventDefault());
  }

  const list = by("list");
  if (!list) return;
  const packed = Uint8Array.from(atob(by("data").textContent.trim()), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = JSON.parse(await new Response(stream).text());
  const form = by("filters"), PAGE = 100;
  const labels = Object.fromEntries(data.systems.map(s => [s.key, s.label]));
  const label = a => a.part === data.part ? labels[a.system] ?? a.system : `${a.part}, step ${a.system}`;
  const verdict = a => { const v = a.verdicts[0]; return !v || v.right === null ? "invalid" : v.right ? "right" : "wrong"; };
  const evidence = q => q.retrieved === true ? "retrieved" : q.retrieved === false ? "missed" : "unknown";
  const type = q => q.type ?? "";

  // Right by question and system, on the evaluated part: at least half of the attempts.
  const tally = {};
  for (const a of data.attempts) if (a.part === data.part) {
    const cell = (tally[a.system] ??= {})[a.q] ??= [0, 0];
    cell[0] += verdict(a) === "right"; cell[1] += 1;
  }
  const isRight = (system, q) => { const c = tally[system]?.[q]; return c ? 2 * c[0] >= c[1] : null; };
  const flip = a => {
    const base = data.systems[0]?.key;
    if (a.part !== data.part || a.system === base) return "";
    const before = isRight(base, a.q), after = isRight(a.system, a.q);
    if (before === null || after === null) return "";
    return before ? (after ? "both" : "lost") : (after ? "gained" : "neither");
  };
  const rows = data.attempts.map(a => {
    const q = data.questions[a.q];
    const text = [q.id, q.text ?? "", a.reply, ...a.verdicts.map(v => v.raw)].join("\n").toLowerCase();
    return { a, q, text, part: a.part, system: a.system, type: type(q), verdict: verdict(a), evidence: evidence(q), flip: flip(a), cut: a.cut };
  });

  const fill = (name, values, any) => {
    const select = form.elements[name], chosen = select.value;
    select.replaceChildren(...(any ? [make("option", { value: "" }, any)] : []), ...values.map(([value, shown]) => make("option", { value }, shown)));
    select.value = values.some(([value]) => value === chosen) ? chosen : any ? "" : values[0]?.[0] ?? "";
  };
  const systems = () => {
    const part = form.elements.part.value;
    const found = new Map();
    for (const r of rows) if (!part || r.part === part) found.set(r.system, part === data.part ? label(r.a) : `step ${r.system}`);
    fill("system", [...found], "any");
  };
  const parts = [...new Set(rows.map(r => r.part))].sort((a, b) => (b === data.part) - (a === data.part));
  fill("part", parts.map(p => [p, p]), "any");
  form.elements.part.value = parts.includes(data.part) ? data.part : "";
  fill("type", [...new Set(rows.map(r => r.type))].sort().map(t => [t, t]), "any");
  systems();

  let sort = { key: "question", down: false }, limit = PAGE, shown = [];
  const keys = {
    question: r => r.q.id, type: r => r.type, system: r => label(r.a), verdict: r => r.verdict,
    evidence: r => r.evidence, tokens: r => r.a.tokens[0] + r.a.tokens[1],
  };
  const state = () => Object.fromEntries(new FormData(form));
  const filter = () => {
    const s = state(), text = (s.text ?? "").trim().toLowerCase();
    shown = rows.filter(r =>
      (!s.part || r.part === s.part) && (!s.system || r.system === s.system) && (!s.type || r.type === s.type) &&
      (!s.verdict || (s.verdict === "cut" ? r.cut : r.verdict === s.verdict)) && (!s.evidence || r.evidence === s.evidence) &&
      (!s.flip || r.flip === s.flip) && (!s.abstention || r.q.abstention) && (!s.question || r.q.id === s.question) &&
      (!text || r.text.includes(text)));
    const of = keys[sort.key];
    const keyed = shown.map(r => [of(r), r]);
    keyed.sort(([x], [y]) => (x < y ? -1 : x > y ? 1 : 0) * (sort.down ? -1 : 1));
    shown = keyed.map(([, r]) => r);
    draw();
  };
  const draw = () => {
    const body = list.tBodies[0];
    body.replaceChildren(...shown.slice(0, limit).map((r, i) => {
      const open = make("button", { "data-index": i }, r.q.text ?? r.q.id);
      const row = make("tr", {}, make("td", {}, open), make("td", { class: "wide" }, r.type), make("td", {}, label(r.a)),
        make("td", { class: r.verdict }, r.verdict + (r.cut ? ", cut" : "") + (r.flip === "gained" || r.flip === "lost" ? `, ${r.flip}` : "")),
        make("td", { class: "wide" }, r.evidence), make("td", { class: "n wide" }, String(r.a.tokens[0] + r.a.tokens[1])));
      row.addEventListener("click", () => show(r));
      return row;
    }));
    const questions = new Set(shown.map(r => r.a.q)).size;
    by("count").textContent = `${shown.length.toLocaleString("en")} attempts at ${questions.toLocaleString("en")} questions` + (shown.length > limit ? `, the first ${limit} shown` : "");
    by("more").hidden = shown.length <= limit;
  };
  const show = r => {
    const q = r.q;
    const same = rows.filter(o => o.a.q === r.a.q && o.part === r.part && (r.part === data.part || o.system === r.system));
    const answers = (q.answers ?? []).map(t => `“${t}”`).join(", ");
    const parts = [
      make("h3", { id: "case-title" }, q.text ?? q.id),
      make("p", { class: "note" }, [q.id, type(q), q.date ? `asked ${q.date}` : "", q.abstention ? "abstention" : "", `evidence ${evidence(q)}`].filter(Boolean).join(" · ")),
      make("p", {}, make("b", {}, "accepted: "), answers || "not kept with the run"),
    ];
    for (const o of same) {
      const head = make("h4", {}, `${label(o.a)}${o.a.draw ? `, draw ${o.a.draw}` : ""}: `, make("span", { class: o.verdict }, o.verdict + (o.cut ? ", cut at its limit" : "")));
      parts.push(head, make("div", { class: "answer" }, o.a.reply || o.a.error || "(empty)"));
      for (const v of o.a.verdicts) parts.push(make("p", { class: "note" }, `${v.by}${v.judge ? ` (${v.judge})` : ""}, score ${v.score}: ${v.raw || v.reason || (v.right ? "right" : "wrong")}`));
    }
    const units = q.evidence ?? [];
    parts.push(make("h4", {}, `evidence, ${units.length} fragments` + (units.some(u => u.needed) ? "; marked: what the question needs" : "")));
    units.forEach((u, i) => parts.push(make("div", { class: u.needed ? "memory needed" : "memory", tabindex: "0" }, `[${i + 1}] ${u.text}`)));
    by("case-body").replaceChildren(...parts);
    by("case").showModal();
    by("case").scrollTop = 0;
  };
  const set = wanted => {
    form.reset();
    form.elements.abstention.value = form.elements.question.value = "";
    form.elements.part.value = wanted.part ?? (parts.includes(data.part) ? data.part : "");
    systems();
    for (const [key, value] of Object.entries(wanted)) if (form.elements[key] && key !== "part") form.elements[key].value = value;
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
  by("more").addEventListener("click", () => { limit += 10 * PAGE; draw(); });
  list.querySelectorAll("thead button").forEach(button => button.addEventListener("click", () => {
    sort = { key: button.dataset.sort, down: sort.key === button.dataset.sort && !sort.down };
    list.querySelectorAll("thead button").forEach(b => b.removeAttribute("aria-sort"));
    button.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
    filter();
  }));
  document.querySelectorAll("button[data-filter]").forEach(button => button.addEventListener("click", () => {
    set(JSON.parse(button.dataset.filter));
    by("attempts").scrollIntoView();
    form.elements.text.focus({ preventScroll: true });
  }));
  by("case").addEventListener("click", event => { if (event.target === by("case")) by("case").close(); });
  const wanted = Object.fromEntries(new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : ""));
  set(wanted);
  if (Object.keys(wanted).length) by("attempts").scrollIntoView();
})();
