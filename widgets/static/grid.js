// A grid of single weights, one row per task: draws, moves, reports clicks and keys. What the cells mean is the look's, in
// the view.js that follows this file; every number comes from Python.

const array = (Type, view) => new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
const sign = (value) => (value > 0 ? "+" : value < 0 ? "−" : "0");
const number = (value) => (value === 0 ? "0" : sign(value) + Math.abs(value).toExponential(1).replace("e-", "e−").replace("e+", "e"));
const make = (tag, attributes = {}, text = "") => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
};

function paint(cell, share, [negative, positive]) { // colour by sign, strength by size, on whatever colour the page has
  const strength = Math.min(1, Math.abs(share)) ** 0.6, alpha = Math.round(255 * strength).toString(16).padStart(2, "0");
  cell.style.backgroundColor = share === 0 ? "" : (share > 0 ? positive : negative) + alpha;
  cell.classList.toggle("strong", strength > 0.55);
}

function build(d, look) {
  const table = make("table", { role: "grid", "aria-label": `${d.K} single weights of ${d.tensor}, one row per task` });
  const head = table.createTHead().insertRow();
  head.append(make("td", { class: "corner" }));
  for (let j = 0; j < d.K; j++) head.append(make("th", { scope: "col", "aria-label": `weight ${d.index[j]}` }, String(d.index[j])));
  head.append(make("th", { scope: "col", class: "lam", "data-from": look.side.from }, look.side.title));
  const body = table.createTBody(), side = look.side.values(d), most = Math.max(...side, look.side.least);
  [...d.tasks, ...look.below].forEach((name, row) => {
    const line = body.insertRow();
    if (row >= d.T) line.className = row === d.T ? "vote first" : "vote";
    line.append(make("th", { scope: "row" }, name));
    for (let j = 0; j < d.K; j++) line.append(make("td", { role: "gridcell", tabindex: -1, "data-row": row, "data-column": j }));
    if (row < d.T) {
      const bar = make("i"), cell = make("td", { class: "lam", "data-from": look.side.from });
      bar.style.width = `${Math.min(1, side[row] / most) * 51}px`;
      cell.append(bar, make("span", {}, look.side.text(side[row])));
      line.append(cell);
    }
  });
  return table;
}

class View {
  constructor(model, el, look) {
    this.model = model;
    this.el = el;
    this.look = look;
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
    this.data = { ...this.look.unpack(columns), K: columns.index.length, T: columns.tasks.length };
    this.last = this.data.T + this.look.below.length - 1;
    this.rebuild();
    for (const node of this.table.querySelectorAll("[data-from]")) node.classList.toggle("later", step < +node.dataset.from);
    for (const td of this.table.querySelectorAll("td[data-row]")) this.fill(td, step);
    this.legend.textContent = `${columns.legend[step]} In the grid: arrow keys move, 0 to ${columns.legend.length - 1} choose the step.`;
    this.el.dataset.step = step;
    this.settle();
  }

  rebuild() { // new nodes only for new weights: between steps the same cells change colour
    const { tasks, index, tensor } = this.data, wanted = JSON.stringify([tasks, index, tensor, this.look.side.values(this.data)]);
    if (wanted === this.shown) return;
    const held = this.table && this.table.contains(document.activeElement);
    this.table = build(this.data, this.look);
    this.shown = wanted;
    this.frame.replaceChildren(this.table);
    if (held) requestAnimationFrame(() => this.cell(...this.focus).focus({ preventScroll: true }));
  }

  fill(td, step) {
    const row = +td.dataset.row, j = +td.dataset.column, d = this.data;
    paint(td, this.look.share(d, step, row, j), this.look.colours(d, step, row));
    td.textContent = this.look.glyph(d, step, row, j);
    td.classList.toggle("lose", this.look.lost(d, step, row, j));
    td.classList.toggle("win", this.look.won(d, step, row, j));
    td.setAttribute("aria-label", this.look.sentence(d, step, row, j));
  }

  settle() { // one cell can be reached by Tab; what it holds is said below
    this.focus = [Math.min(this.focus[0], this.last), Math.min(this.focus[1], this.data.K - 1)];
    for (const old of this.table.querySelectorAll('td[tabindex="0"]')) {
      old.tabIndex = -1;
      old.removeAttribute("aria-selected");
    }
    const chosen = this.cell(...this.focus);
    chosen.tabIndex = 0;
    chosen.setAttribute("aria-selected", "true");
    this.table.querySelectorAll("thead th[scope=col]").forEach((th, j) => th.classList.toggle("here", j === this.focus[1]));
    this.live.textContent = this.look.sentence(this.data, this.model.get("step"), ...this.focus);
  }

  go(row, column) {
    const { T, K, tasks, index } = this.data;
    this.focus = [Math.max(0, Math.min(this.last, row)), Math.max(0, Math.min(K - 1, column))];
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
    const far = this.data.K, steps = this.model.get("columns").legend.length;
    const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -far], End: [0, far] }[event.key];
    if (move) this.go(this.focus[0] + move[0], this.focus[1] + move[1]);
    else if (/^\d$/.test(event.key) && +event.key < steps) this.set("step", +event.key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function show({ model, el }, look) {
  const view = new View(model, el, look), draw = () => view.draw(), follow = () => view.follow();
  const listeners = { columns: draw, step: draw, selected: follow };
  for (const [trait, listener] of Object.entries(listeners)) model.on(`change:${trait}`, listener);
  draw();
  follow();
  return () => {
    for (const [trait, listener] of Object.entries(listeners)) model.off(`change:${trait}`, listener);
  };
}
