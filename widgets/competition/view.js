// What the cells of the competition mean; grid.js, which stands before this file, draws them.

const floats = (columns, name) => array(Float32Array, columns[name]), small = (columns, name) => array(Int8Array, columns[name]);
const of = (d, row, j) => row * d.K + j;
const times = (value) => (Math.abs(value) >= 1000 || (value !== 0 && Math.abs(value) < 0.01) ? number(value) : value.toFixed(2).replace("-", "−"));

function unpack(columns) {
  const named = Object.fromEntries(["tau", "intra", "inter", "score", "reach", "weight", "part", "merged"].map((name) => [name, floats(columns, name)]));
  return { ...columns, ...named, kept: small(columns, "kept"), winner: small(columns, "winner"), survivors: small(columns, "survivors") };
}

function sentence(d, step, row, j) {
  const where = `weight ${d.index[j]} ${d.place[j]}`, i = of(d, row, j);
  if (row === d.T) {
    if (step < 3) return `${where}: nothing is dropped yet. How many tasks will keep it?`;
    if (d.survivors[j] === 0) return `${where}: every task drops it, so it stays as in the base`;
    return `${where}: kept by ${d.survivors[j]} of ${d.T} tasks, most of all by ${d.tasks[d.winner[j]]}`;
  }
  if (row > d.T) return step < 4 ? `${where}: nothing is merged yet. Which sign will it get?`
    : `${where}: the merged change is ${number(d.merged[j])}` + (d.survivors[j] ? `, λ times the weighted mean of ${d.survivors[j]}` : "");
  const parts = [`${d.tasks[row]}, ${where}: task vector ${number(d.tau[i])}`];
  if (step >= 1) parts.push(`intra ${times(d.intra[i])}`);
  if (step >= 2) parts.push(`inter ${number(d.inter[i])}, ${d.inter[i] < 0 ? "most others pull the other way" : d.inter[i] > 0 ? "most others pull along" : "no pull"}`, `score ${number(d.score[i])}`);
  if (step >= 3) parts.push(`${d.kept[i] ? "above" : "not above"} the threshold ${number(d.cut[row])}: ${d.kept[i] ? "kept" : "dropped"}`);
  if (step >= 4 && d.kept[i]) parts.push(`weight ${times(d.weight[i])}, ${(100 * d.part[i]).toFixed(0)} % of this column`);
  return parts.join(" · ");
}

function glyph(d, step, row, j) {
  const i = of(d, row, j);
  if (row === d.T) return step < 3 ? "?" : String(d.survivors[j]);
  if (row > d.T) return step < 4 ? "?" : sign(d.merged[j]);
  if (step < 2) return sign(d.tau[i]);
  if (step === 2) return d.inter[i] > 0 ? "▲" : d.inter[i] < 0 ? "▼" : "0";
  return d.kept[i] ? sign(d.tau[i]) : step === 3 ? "×" : "·";
}

function share(d, step, row, j) {
  const i = of(d, row, j);
  if (row === d.T) return step < 3 ? 0 : d.survivors[j] / d.T;
  if (row > d.T) return step < 4 ? 0 : d.merged[j] / (d.scale || 1);
  if (step === 0) return d.tau[i] / (d.scale || 1);
  if (step === 1) return d.strength[i];
  if (step < 4) return d.reach[i];
  return d.part[i] * Math.sign(d.tau[i]);
}

const look = {
  unpack: (columns) => ({ ...unpack(columns), strength: floats(columns, "strength") }),
  sentence, glyph, share, below: ["survivors", "merged value"],
  colours: (d, step, row) => (row === d.T ? [d.against, d.count] : row > d.T || step === 0 || step === 4 ? [d.negative, d.positive] : [d.against, d.along]),
  lost: (d, step, row, j) => step === 3 && row < d.T && !d.kept[of(d, row, j)],
  won: (d, step, row, j) => step >= 3 && row < d.T && d.winner[j] === row,
  side: { title: "kept of this tensor", from: 3, values: (d) => d.here, least: 1e-9, text: (kept) => `${(100 * kept).toFixed(1)} %` },
};

export default { render: (context) => show(context, look) };
