// Draws the grid of single weights, reports clicks and keys. Every number comes from Python.
const TRAITS = ["columns", "step", "selected"];

const array = (Type, view) => new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const sign = (value) => (value > 0 ? "+" : value < 0 ? "−" : "0");
const number = (value) => (value === 0 ? "0" : sign(value) + Math.abs(value).toExponential(1).replace("e-", "e−").replace("e+", "e"));
const make = (tag, attributes = {}, text = "") => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
};

function unpack(columns) {
  const floats = (name) => array(Float32Array, columns[name]), small = (name) => array(Int8Array, columns[name]);
  return {
    ...columns, K: columns.index.length, T: columns.tasks.length,
    tau: floats("tau"), rebuilt: floats("rebuilt"), shared: floats("shared"), total: floats("total"),
    elected: small("elected"), kept: small("kept"), winner: small("winner"),
  };
}

function paint(cell, value, d) { // colour by sign, strength by magnitude, on whatever colour the page has
  const strength = Math.min(1, Math.abs(value) / (d.scale || 1)) ** 0.6, alpha = Math.round(255 * strength).toString(16).padStart(2, "0");
  cell.style.backgroundColor = value === 0 ? "" : (value > 0 ? d.positive : d.negative) + alpha;
  cell.classList.toggle("strong", strength > 0.55);
}

function sentence(d, step, row, j) {
  const where = `weight ${d.index[j]} ${d.place[j]}`, i = row * d.K + j;
  if (row >= d.T && step === 0) return `${where}: nothing is elected yet. Which sign would you elect?`;
  if (row === d.T) return `${where}: the task vectors add up to ${number(d.total[j])}, so ${sign(d.elected[j])} is elected`
    + (d.total[j] === 0 ? " (an exact tie: the tie rule decides)" : "");
  if (row === d.T + 1) return `${where}: the shared value is ${number(d.shared[j])}, `
    + (d.winner[j] < 0 ? "no task agrees" : `the largest among the agreeing tasks, from ${d.tasks[d.winner[j]]}`);
  const parts = [`${d.tasks[row]}, ${where}: task vector ${number(d.tau[i])}`];
  if (step >= 1) parts.push(`elected ${sign(d.elected[j])}`, d.kept[i] ? (d.winner[j] === row ? "agrees and is the largest: becomes the shared value" : "agrees") : "loses the vote");
  if (step >= 2) parts.push(d.kept[i] ? `bit 1: takes the shared ${number(d.shared[j])}` : "bit 0: back to the base");
  if (step >= 3) parts.push(d.kept[i] ? `× rescaler ${d.scalers[row].toFixed(3)} = ${number(d.rebuilt[i])}` : "rebuilt 0");
  return parts.join(" · ");
}

function glyph(d, step, row, j) {
  const i = row * d.K + j;
  if (row >= d.T && step === 0) return "?";
  if (row === d.T) return sign(d.elected[j]);
  if (row === d.T + 1) return sign(d.shared[j]);
  if (step < 2) return sign(d.tau[i]);
  return d.kept[i] ? (step === 2 ? "1" : sign(d.rebuilt[i])) : (step === 2 ? "0" : "·");
}

function shown(d, step, row, j) {
  const i = row * d.K + j;
  if (row >= d.T && step === 0) return 0;
  if (row === d.T) return d.elected[j] * d.scale * 0.35;
  if (row === d.T + 1) return d.shared[j];
  if (step < 2) return d.tau[i];
  return d.kept[i] ? (step === 2 ? d.shared[j] : d.rebuilt[i]) : 0;
}

function build(d) {
  const table = make("table", { role: "grid", "aria-label": `${d.K} single weights of ${d.tensor}, one row per task` });
  const head = table.createTHead().insertRow();
  head.append(make("td", { class: "corner" }));
  for (let j = 0; j < d.K; j++) head.append(make("th", { scope: "col", "aria-label": `weight ${d.index[j]}` }, String(d.index[j])));
  head.append(make("th", { scope: "col", class: "lam", "data-from": 3 }, "rescaler λ"));
  const body = table.createTBody();
  [...d.tasks, "elected sign γ", "shared value"].forEach((name, row) => {
    const line = body.insertRow();
    if (row >= d.T) line.className = row === d.T ? "vote first" : "vote";
    line.append(make("th", { scope: "row" }, name));
    for (let j = 0; j < d.K; j++) line.append(make("td", { role: "gridcell", tabindex: -1, "data-row": row, "data-column": j }));
    if (row < d.T) {
      const bar = make("i"), cell = make("td", { class: "lam", "data-from": 3 });
      bar.style.width = `${Math.min(1.5, d.scalers[row]) * 34}px`;
      cell.append(bar, make("span", {}, d.scalers[row].toFixed(2)));
      line.append(cell);
    }
  });
  return table;
}

function render({ model, el }) {
  el.classList.add("mk-walk-grid");
  el.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab would take the arrow keys
  const frame = make("div", { class: "frame" }), live = make("p", { class: "live", "aria-live": "polite" });
  const legend = make("p", { class: "legend" });
  el.append(frame, legend, live);
  let data, table, shape = "", focus = [0, 0];
  const cell = (row, column) => table.querySelector(`td[data-row="${row}"][data-column="${column}"]`);

  const settle = () => { // the one cell that Tab reaches, and what is said about it
    focus = [Math.min(focus[0], data.T + 1), Math.min(focus[1], data.K - 1)];
    for (const old of table.querySelectorAll('td[tabindex="0"]')) { old.tabIndex = -1; old.removeAttribute("aria-selected"); }
    const chosen = cell(...focus);
    chosen.tabIndex = 0;
    chosen.setAttribute("aria-selected", "true");
    table.querySelectorAll("thead th[scope=col]").forEach((th, j) => th.classList.toggle("here", j === focus[1]));
    live.textContent = sentence(data, model.get("step"), ...focus);
  };
  const go = (row, column) => {
    focus = [Math.max(0, Math.min(data.T + 1, row)), Math.max(0, Math.min(data.K - 1, column))];
    settle();
    cell(...focus).focus({ preventScroll: true });
    if (focus[0] < data.T) { model.set("selected", [data.tasks[focus[0]], data.index[focus[1]]]); model.save_changes(); }
  };
  const draw = () => {
    const columns = model.get("columns"), step = model.get("step");
    if (!columns.index) return;
    data = unpack(columns);
    const now = JSON.stringify([data.tasks, data.index, data.tensor, data.scalers]);
    if (now !== shape) { // new nodes only for new weights: between steps the same cells change colour
      const held = table && table.contains(document.activeElement);
      table = build(data); shape = now; frame.replaceChildren(table);
      if (held) requestAnimationFrame(() => cell(...focus).focus({ preventScroll: true }));
    }
    for (const node of table.querySelectorAll("[data-from]")) node.classList.toggle("later", step < +node.dataset.from);
    for (const td of table.querySelectorAll("td[data-row]")) {
      const row = +td.dataset.row, j = +td.dataset.column, task = row < data.T, kept = task && data.kept[row * data.K + j];
      paint(td, shown(data, step, row, j), data);
      td.textContent = glyph(data, step, row, j);
      td.classList.toggle("lose", task && step === 1 && !kept);
      td.classList.toggle("win", task && step === 1 && data.winner[j] === row);
      td.setAttribute("aria-label", sentence(data, step, row, j));
    }
    legend.textContent = `${data.legend[step]} In the grid: arrow keys move, 0 to 3 choose the step.`;
    el.dataset.step = step;
    settle();
  };
  const follow = () => { // a cell set from Python
    const [task, weight] = model.get("selected") || [];
    if (!data || task === undefined) return;
    const row = data.tasks.indexOf(task), column = data.index.indexOf(weight);
    if (row >= 0 && column >= 0 && (row !== focus[0] || column !== focus[1])) { focus = [row, column]; settle(); }
  };
  const onClick = (event) => {
    const td = event.target.closest("td[data-row]");
    if (td) go(+td.dataset.row, +td.dataset.column);
  };
  const onKey = (event) => {
    const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -1e6], End: [0, 1e6] }[event.key];
    if (move) go(focus[0] + move[0], focus[1] + move[1]);
    else if ("0123".includes(event.key)) { model.set("step", +event.key); model.save_changes(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const listeners = { columns: draw, step: draw, selected: follow };
  for (const trait of TRAITS) model.on(`change:${trait}`, listeners[trait]);
  frame.addEventListener("click", onClick);
  frame.addEventListener("keydown", onKey);
  draw();
  follow();
  return () => { for (const trait of TRAITS) model.off(`change:${trait}`, listeners[trait]); };
}
export default { render };
