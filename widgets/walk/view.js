// What the cells of the EMR walk mean; grid.js, which stands before this file, draws them.

const floats = (columns, name) => array(Float32Array, columns[name]), small = (columns, name) => array(Int8Array, columns[name]);

function unpack(columns) {
  return {
    ...columns, tau: floats(columns, "tau"), rebuilt: floats(columns, "rebuilt"), shared: floats(columns, "shared"),
    total: floats(columns, "total"), elected: small(columns, "elected"), kept: small(columns, "kept"), winner: small(columns, "winner"),
  };
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

function value(d, step, row, j) {
  const i = row * d.K + j;
  if (row >= d.T && step === 0) return 0;
  if (row === d.T) return d.elected[j] * d.scale * 0.35;
  if (row === d.T + 1) return d.shared[j];
  if (step < 2) return d.tau[i];
  return d.kept[i] ? (step === 2 ? d.shared[j] : d.rebuilt[i]) : 0;
}

const look = {
  unpack, sentence, glyph, below: ["elected sign γ", "shared value"],
  share: (d, ...cell) => value(d, ...cell) / (d.scale || 1),
  colours: (d) => [d.negative, d.positive],
  lost: (d, step, row, j) => step === 1 && row < d.T && !d.kept[row * d.K + j],
  won: (d, step, row, j) => step === 1 && row < d.T && d.winner[j] === row,
  side: { title: "rescaler λ", from: 3, values: (d) => d.scalers, least: 1.5, text: (scaler) => scaler.toFixed(2) },
};

export default { render: (context) => show(context, look) };
