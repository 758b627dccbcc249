// Draws the grid of single weights, reports clicks and keys. Every number comes from Python.

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

class View {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.shown = ""; // which weights the table was built for
    this.focus = [0, 0]; // row and column of the one cell that Tab reaches
    [this.frame, this.legend, this.live] = [make("div", { class: "frame" }), make("p", { class: "legend" }), make("p", { class: "live", "aria-live": "polite" })];
    el.classList.add("mk-walk-grid");
    el.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab would take the arrow keys
    el.append(this.frame, this.legend, this.live);
    this.frame.addEventListener("click", (event) => this.click(event));
    this.frame.addEventListener("keydown", (event) => this.key(event));
  }

  cell(row, column) {
    return this.table.querySelector(`td[data-row="${row}"][data-column="${column}"]`);
  }

  set(trait, value) {
    this.model.set(trait, value);
    this.model.save_changes();
  }

  draw() {
    const columns = this.model.get("columns"), step = this.model.get("step");
    if (!columns.index) return;
    this.data = unpack(columns);
    this.rebuild();
    for (const node of this.table.querySelectorAll("[data-from]")) node.classList.toggle("later", step < +node.dataset.from);
    for (const td of this.table.querySelectorAll("td[data-row]")) this.fill(td, step);
    this.legend.textContent = `${columns.legend[step]} In the grid: arrow keys move, 0 to 3 choose the step.`;
    this.el.dataset.step = step;
    this.settle();
  }

  rebuild() { // new nodes only for new weights: between steps the same cells change colour
    const { tasks, index, tensor, scalers } = this.data, wanted = JSON.stringify([tasks, index, tensor, scalers]);
    if (wanted === this.shown) return;
    const held = this.table && this.table.contains(document.activeElement);
    this.table = build(this.data);
    this.shown = wanted;
    this.frame.replaceChildren(this.table);
    if (held) requestAnimationFrame(() => this.cell(...this.focus).focus({ preventScroll: true }));
  }

  fill(td, step) {
    const row = +td.dataset.row, j = +td.dataset.column, d = this.data, voting = step === 1 && row < d.T;
    paint(td, shown(d, step, row, j), d);
    td.textContent = glyph(d, step, row, j);
    td.classList.toggle("lose", voting && !d.kept[row * d.K + j]);
    td.classList.toggle("win", voting && d.winner[j] === row);
    td.setAttribute("aria-label", sentence(d, step, row, j));
  }

  settle() { // one cell can be reached by Tab; what it holds is said below
    this.focus = [Math.min(this.focus[0], this.data.T + 1), Math.min(this.focus[1], this.data.K - 1)];
    for (const old of this.table.querySelectorAll('td[tabindex="0"]')) {
      old.tabIndex = -1;
      old.removeAttribute("aria-selected");
    }
    const chosen = this.cell(...this.focus);
    chosen.tabIndex = 0;
    chosen.setAttribute("aria-selected", "true");
    this.table.querySelectorAll("thead th[scope=col]").forEach((th, j) => th.classList.toggle("here", j === this.focus[1]));
    this.live.textContent = sentence(this.data, this.model.get("step"), ...this.focus);
  }

  go(row, column) {
    const { T, K, tasks, index } = this.data;
    this.focus = [Math.max(0, Math.min(T + 1, row)), Math.max(0, Math.min(K - 1, column))];
    this.settle();
    this.cell(...this.focus).focus({ preventScroll: true });
    if (this.focus[0] < T) this.set("selected", [tasks[this.focus[0]], index[this.focus[1]]]);
  }

  follow() { // a cell chosen from Python
    const [task, weight] = this.model.get("selected") || [];
    if (!this.data || task === undefined) return;
    const row = this.data.tasks.indexOf(task), column = this.data.index.indexOf(weight);
    if (row < 0 || column < 0) return;
    this.focus = [row, column];
    this.settle();
  }

  click(event) {
    const td = event.target.closest("td[data-row]");
    if (td) this.go(+td.dataset.row, +td.dataset.column);
  }

  key(event) {
    const far = this.data.K;
    const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -far], End: [0, far] }[event.key];
    if (move) this.go(this.focus[0] + move[0], this.focus[1] + move[1]);
    else if ("0123".includes(event.key)) this.set("step", +event.key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function render({ model, el }) {
  const view = new View(model, el), draw = () => view.draw(), follow = () => view.follow();
  const listeners = { columns: draw, step: draw, selected: follow };
  for (const [trait, listener] of Object.entries(listeners)) model.on(`change:${trait}`, listener);
  draw();
  follow();
  return () => {
    for (const [trait, listener] of Object.entries(listeners)) model.off(`change:${trait}`, listener);
  };
}
export default { render };
