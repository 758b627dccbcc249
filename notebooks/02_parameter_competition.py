# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Parameters compete
#
# [PCB-Merging](https://arxiv.org/abs/2410.02396) (Du et al. 2024) lets every weight of every expert compete: within its own
# expert, and with the other experts. The losers are dropped, the winners averaged. Here you do it by hand, then let sliders do
# it, then search its coefficients, and then ask whether it was worth it.
#
# [Open in Colab](https://colab.research.google.com/github/mergekit-nb/mergekit-nb/blob/main/notebooks/02_parameter_competition.ipynb) ·
# the outputs below are saved, so you can read without running · about a minute and a half to run

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, install first; elsewhere this cell does nothing
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q 'mergekit-nb @ git+https://github.com/mergekit-nb/mergekit-nb'")

# %%
from dataclasses import replace

import pandas as pd
import torch

import mergekit_nb as mk
from mergekit_nb import plots
from mergekit_nb.maths import compete
from mergekit_nb.methods.pcb import RELEASED_Q, Pcb
from mergekit_nb.weights.site import layers

zoo = mk.zoo.load()
print(*zoo.tasks)

# %% [markdown]
# ## 1. Single weights
#
# A **task vector** is what fine-tuning changed: expert minus base. PCB-Merging ranks the weights of the *whole model*, so we lay
# each task vector out as one long row, layer after layer.

# %%
vectors = mk.TaskVectors.of(zoo.base, zoo.experts)
parts = [(layer, name) for layer, names in layers(vectors.names).items() for name in names]
taus = torch.cat([vectors.at(name).flatten(1) for _, name in parts], dim=1)
print("task, weight:", *taus.shape)

# %% [markdown]
# Ten weights of the third block, drawn with seed 0. Orange went up in fine-tuning, blue went down.

# %%
name = "visual.transformer.resblocks.2.mlp.c_fc.weight"
start = sum(vectors.site(other).size for _, other in parts[: [n for _, n in parts].index(name)])
ten = start + torch.randperm(vectors.site(name).size, generator=torch.Generator().manual_seed(0))[:10]
columns = [f"#{i - start}" for i in ten.tolist()]
few = pd.DataFrame(taus[:, ten].numpy(), index=zoo.tasks, columns=columns)
plots.weight_grid(few, "Task vectors τ")

# %% [markdown]
# **Intra-balance.** Within a task, a large change matters more. Magnitudes are put between 0 (the task's smallest) and 1 (its
# largest), and an entry counts exp(T · unit²): between 1 and e⁸ with eight tasks. A very few outliers are clipped first.

# %%
low, high = compete.clip_range(taus, q=RELEASED_Q["A"])
intra = compete.intra_balance(taus, low, high)
few = pd.DataFrame(intra[:, ten].numpy(), index=zoo.tasks, columns=columns)
plots.score_grid(few, "Intra-balance: 1 is the least, e⁸ ≈ 2981 the most")

# %% [markdown]
# Most weights are far from the loudest of their task. How loud are they over the whole model?

# %%
shares = torch.tensor([0.1, 0.5, 0.9, 0.99, 0.999])
loud = torch.stack([row.sort().values[(shares * len(row)).long()] for row in intra])
pd.DataFrame(loud.numpy(), index=zoo.tasks, columns=[f"{share:.1%} are below" for share in shares]).round(2)

# %% [markdown]
# **Inter-balance.** Between tasks, an entry counts more when the others pull the same way: tanh(τᵢ · Σ τⱼ). It is negative where
# an expert stands against the sum. The products are tiny, so this table is in millionths.

# %%
inter = compete.inter_balance(taus, "A")
few = pd.DataFrame(1e6 * inter[:, ten].numpy(), index=zoo.tasks, columns=columns)
plots.score_grid(few, "Inter-balance, in millionths", "+.1f")

# %% [markdown]
# **Drop.** The score is the product of both. Each task keeps its highest 10 %, and here that means: of the whole model, not of
# this tensor. Empty cells are dropped. What is left is shown as a multiple of the task's threshold.

# %%
scores = intra * inter
cut, top = compete.cut_range(scores, ratio=0.1)
kept = compete.drop(scores, cut, top)
times = torch.where(kept, scores / cut[:, None], torch.nan)
few = pd.DataFrame(times[:, ten].numpy(), index=zoo.tasks, columns=columns)
plots.score_grid(few, "Survivors, score as a multiple of the task's threshold", ".1f")

# %% [markdown]
# **Rescale and fuse.** A survivor's weight runs from 0 at the threshold to 1 at the task's highest score. The merged change is λ
# times the weighted mean. With a single survivor there is nothing to average: its change is taken whole, however small its
# weight.

# %%
weights = compete.rescale(scores, kept, cut, top)
merged = compete.fuse(compete.clip(taus, low, high), weights, torch.full((8,), 1.2))
few = pd.DataFrame(taus[:, ten].where(kept[:, ten], torch.nan).numpy(), index=zoo.tasks, columns=columns)
few.loc["merged, λ = 1.2"] = merged[ten].numpy()
plots.weight_grid(few, "Survivors, and what they are merged to")

# %% [markdown]
# That is the whole method. `mk.merge` streams it, tensor by tensor, and finds the same ranges and thresholds:

# %%
pcb = mk.merge("pcb", zoo.base, zoo.experts)
mine = dict(zip(parts, merged.split([vectors.site(name).size for _, name in parts]), strict=True))
print("same vector:", all(torch.equal(pcb.vector[name].flatten(), part) for (_, name), part in mine.items()))

# %% [markdown]
# ## 2. Layer by layer: what is dropped, and who wins
#
# One threshold for the whole model is not one for each layer. Every task keeps 10 % in all, but where?

# %%
sizes = pd.DataFrame([(layer, vectors.site(name).size) for layer, name in parts]).groupby(0, sort=False)[1].sum()
inside = kept.split(sizes.tolist(), dim=1)
survive = pd.DataFrame([part.float().mean(1).numpy() for part in inside], index=sizes.index, columns=zoo.tasks)
plots.share_by_layer(survive, "What survives: share of a task's entries, ratio 0.1")

# %% [markdown]
# The first layers lose nearly everything: their weights changed less in fine-tuning. Now the other way round: for each weight,
# which task has the largest say? A weight that every task drops stays as in the base.

# %%
winner = torch.where(kept.any(0), weights.argmax(0), 8)
won = [torch.bincount(part, minlength=9) / len(part) for part in winner.split(sizes.tolist())]
won = pd.DataFrame([part.numpy() for part in won], index=sizes.index, columns=[*zoo.tasks, "nobody"])
plots.share_by_layer(won, "Who wins: share of a layer's entries")

# %% [markdown]
# How many tasks share a weight in the end? It is less of an average than it sounds: of the weights that anyone keeps, half have a
# single survivor.

# %%
survivors = torch.bincount(kept.sum(0), minlength=9) / kept.shape[1]
pd.DataFrame({"share of all weights": survivors.numpy()}, index=pd.RangeIndex(9, name="tasks that keep it")).T.round(4)

# %% [markdown]
# ## 3. The whole model, with sliders
#
# Step through it. Pick a layer, another variant, another ratio. Click a weight. *Accuracy* measures what each step would leave if the
# method ended there. *Search* looks for λ while you watch.

# %%
from mergekit_nb.widgets import Competition

panel = Competition(zoo.base, zoo.experts, tasks=zoo.tasks)
panel.state.step = "drop"
panel

# %% [markdown]
# What the sliders say can be read, and set, from the next cell.

# %%
panel.state.layer = "block 1"
panel.state.as_dict()

# %% [markdown]
# What is each step worth? The panel's numbers, averaged over tasks. `survivors, plain mean` drops but does not weigh. Each of the
# three merges lies within the others' intervals: here no step by itself makes the difference.

# %%
panel.accuracy.measure()
panel.accuracy.job.wait()
steps = plots.means(panel.accuracy.table().rename(columns={"variant": "method"}))
steps.set_index("method").round(3)

# %% [markdown]
# ## 4. Five forms of one method
#
# The paper prints softmaxes; the authors released four programs that do something else, each a little differently. They clip
# more (B), measure agreement otherwise (C, D), and the paper's own form never scores anybody below zero. Of what A keeps, how
# much do they keep too?

# %%
survivors = {}
for variant in "ABCD":
    low, high = compete.clip_range(taus, RELEASED_Q[variant])
    scores = compete.intra_balance(taus, low, high) * compete.inter_balance(taus, variant, low, high)
    survivors[variant] = compete.drop(scores, *compete.cut_range(scores, ratio=0.1))
agree = {variant: (survivors["A"] & rows).sum(1) / survivors["A"].sum(1) for variant, rows in survivors.items()}
pd.DataFrame({variant: shares.numpy() for variant, shares in agree.items()}, index=zoo.tasks).round(3)

# %% [markdown]
# ## 5. The search for λ
#
# λ stretches the merged vector. How much does it matter? A merge with λ = 1 can be stretched, so one merge is enough for the
# whole curve. Validation images, 50 of each task.

# %%
one = mk.merge("pcb", zoo.base, zoo.experts, scale=1.0)
scores = {}
for scale in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5):
    stretched = replace(one, vector={name: scale * vector for name, vector in one.vector.items()})
    scores[scale] = mk.evaluate(stretched, zoo.tasks, split="validation", limit=50)["accuracy"].mean()
plots.search_history(pd.DataFrame({"scale": scores.keys(), "score": scores.values()}))

# %% [markdown]
# A plateau, then a cliff. `mk.search` finds the plateau without a grid, and it takes several numbers at once. The panel's button runs
# it live. CMA-ES is the optimiser the paper names (the authors' code ran COBYLA instead, and for language models on *test*
# examples). Without the panel: `mk.search("pcb", zoo.base, zoo.experts, zoo.tasks, {"scale": (0.5, 3)}, budget=12, limit=50)`.

# %%
if panel.search.found is None:  # nobody has pressed the button
    panel.search.search(budget=12)
panel.search.job.wait()
plots.search_history(panel.search.history)

# %% [markdown]
# Later trials are darker. The test images were looked at once, when it had ended: for the λ it started from and for the one it
# chose.

# %%
print(panel.search.found.optimizer, panel.search.found.options)
panel.search.tested.round(3)

# %% [markdown]
# ## 6. Was it worth it?
#
# Every method with a scale gets it from validation images; the other forms of PCB-Merging run with λ = 1. To be quick, 300 test images a
# task.

# %%
forms = [Pcb(variant=variant, scale=1.0) for variant in ("C", "D", "paper")]
board = mk.compare(["average", "task_arithmetic", "ties", "pcb", *forms], zoo, tune_limit=50, limit=300)
plots.accuracy_by_task(board[~board["method"].str.contains("variant")])

# %%
means = plots.means(board).set_index("method")
means.join(board.groupby("method")["options"].first()).round(3)

# %% [markdown]
# The honest reading: how far is PCB-Merging from each of the others, and do the intervals overlap? All methods see the same images, so a
# difference is a little surer than two overlapping intervals suggest; but where they overlap, this zoo does not show that one is better.

# %%
ours = means.loc["pcb"]
others = means.drop(index="pcb")
overlap = (others["low"] <= ours["high"]) & (others["high"] >= ours["low"])
pd.DataFrame({"pcb is ahead by": ours["accuracy"] - others["accuracy"], "intervals overlap": overlap}).round(3)

# %% [markdown]
# And task by task, against the plain average: a mean can hide that some tasks pay for others.

# %%
wide = board.pivot(index="task", columns="method", values="accuracy").loc[list(zoo.tasks)]
gain = (wide["pcb"] - wide["average"]).sort_values().to_frame("pcb − average")
gain.T.round(3)

# %% [markdown]
# ## 7. Your turn
#
# One weight, four tasks. `tau`, `score`, `cut` and `top` are flat tensors with one number a task. Drop, rescale and fuse: what is the
# merged change, before λ? Mind the case that every task is dropped: then the answer is 0. Replace the `...`; two lines are enough.


# %%
def merged_weight(tau, score, cut, top):
    return ...  # TODO


# %%
from mergekit_nb.notebooks.exercises_competition import check

check(merged_weight)

# %% [markdown]
# <details><summary>A hint</summary>
#
# The weight is (score − cut) / (top − cut), but never below 0: `clamp(min=0)`. Then a weighted mean. Where all weights are 0 you
# would divide 0 by 0.
#
# </details>
# <details><summary>The answer</summary>
#
# `w = ((score - cut) / (top - cut)).clamp(min=0)`
#
# `return (w * tau).sum() / w.sum().clamp(min=1e-12)`
#
# </details>
#
# For the panel: which ratio leaves half of the weights of block 2 to nobody? And is there a ratio at which dropping beats the plain mean
# by more than the intervals are wide?

# %% [markdown]
# ## What you saw
#
# * Intra-balance: large changes count more within their task. Inter-balance: those who agree with the sum count more. Drop: one
#   threshold for each task and the whole model. Rescale and fuse: a weighted mean, times λ.
# * More than half of the weights are kept by nobody, and half of the others by a single task: little is left to be averaged.
# * The first layers stay almost as in the base.
# * λ has a plateau and a cliff. Choose it on validation images, never on test images.
# * On this zoo PCB-Merging is ahead of the base, and not told apart from the average, task arithmetic or TIES.
# * One model for all tasks is one model for all tasks: compare with what a mask for each task buys, in notebook 01.
