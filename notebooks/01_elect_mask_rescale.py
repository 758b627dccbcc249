# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Elect, mask, rescale
#
# [EMR-Merging](https://arxiv.org/abs/2405.17461) (Huang et al. 2024) turns several fine-tuned models into one shared vector, and for each
# task one bit a weight and one number. Here you do it by hand, then let sliders do it, then ask what it costs and
# where it fails.
#
# [Open in Colab](https://colab.research.google.com/github/mergekit-nb/mergekit-nb/blob/main/notebooks/01_elect_mask_rescale.ipynb) ·
# the outputs below are saved, so you can read without running · about a minute to run

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
from mergekit_nb import analysis, plots
from mergekit_nb.maths.elect import elect, mask, masked, rescale

zoo = mk.zoo.load()
print(*zoo.tasks)

# %% [markdown]
# ## 1. Single weights
#
# A **task vector** is what fine-tuning changed: expert minus base. We take one tensor. It has one task vector for each task.

# %%
name = "visual.transformer.resblocks.1.mlp.c_fc.weight"
taus = mk.TaskVectors.of(zoo.base, zoo.experts).at(name)
print("task, *shape:", *taus.shape)

# %% [markdown]
# Ten of its weights, drawn with seed 0. Each row is an expert, each column a weight. Orange went up in fine-tuning, blue
# went down. In most columns the experts disagree.

# %%
ten = torch.randperm(taus[0].numel(), generator=torch.Generator().manual_seed(0))[:10]
columns = [f"#{i}" for i in ten.tolist()]
few = pd.DataFrame(taus.flatten(1)[:, ten].numpy(), index=zoo.tasks, columns=columns)
highest = few.abs().max(axis=None)
plots.weight_grid(few, "Task vectors τ", highest=highest)

# %% [markdown]
# **Elect.** The experts vote: the sign of their sum wins. The elected weight takes that sign and the *largest* magnitude
# among those who voted for it. Compare the last row with the columns above it.

# %%
sign, unified = elect(taus)
few.loc["elected"] = unified.flatten()[ten].numpy()
plots.weight_grid(few, "Task vectors τ, and the unified vector elected from them", highest=highest)

# %% [markdown]
# **Mask.** Where an expert's own sign is the elected one, it keeps the elected weight. Elsewhere it keeps its base weight:
# an empty cell. Keep or drop is one bit.

# %%
keep = mask(taus, sign)
share = torch.where(keep, unified, torch.nan)
few = pd.DataFrame(share.flatten(1)[:, ten].numpy(), index=zoo.tasks, columns=columns)
plots.weight_grid(few, "Mask: M ⊙ τ<sub>uni</sub>", highest=highest)

# %% [markdown]
# **Rescale.** A kept weight has the largest magnitude among all who voted for it, so a share is too long. One number λ for
# each task makes its mean magnitude what it was before.

# %%
before = taus.abs().flatten(1).mean(1)
after = masked(unified, keep).abs().flatten(1).mean(1)
scale = rescale(before, after).numpy()
pd.DataFrame({"mean |τ|": before.numpy(), "mean |M ⊙ τ_uni|": after.numpy(), "λ": scale}, index=zoo.tasks)

# %%
plots.weight_grid(few.mul(scale, axis=0), "Rescale: λ M ⊙ τ<sub>uni</sub>", highest=highest)

# %% [markdown]
# That is the whole method. `mk.merge` does it for every tensor. Its unified vector and masks are the ones you made:

# %%
merged = mk.merge("emr", zoo.base, zoo.experts)
mine = unified.to(merged.vector[name].dtype)
print("same vector:", torch.equal(merged.vector[name], mine))
print("same masks: ", all(torch.equal(merged.patches[task].mask[name], keep[t]) for t, task in enumerate(zoo.tasks)))

# %% [markdown]
# One thing differs: λ is one number for the whole model, not one for each tensor. It is the sum over tensors of mean |τ|,
# divided by the same sum for the share.

# %%
plots.density_and_rescaler(analysis.densities(merged))

# %% [markdown]
# ## 2. A layer
#
# How many weights does a task keep, layer by layer? For comparison: eight task vectors of pure noise.

# %%
noise = torch.randn(8, 100_000, generator=torch.Generator().manual_seed(0))
print(f"noise keeps {mask(noise, elect(noise).sign).float().mean():.0%}")
plots.mask_density(analysis.densities(merged))

# %% [markdown]
# How long are the vectors? Bars are the experts. The open diamond is the share after the mask: mostly too long. The dot is the
# share after λ. One λ serves all layers, so a single layer may be a little off.

# %%
plots.magnitude_alignment(mk.magnitudes(zoo.base, zoo.experts, merged))

# %% [markdown]
# ## 3. The whole model, with sliders
#
# Step through elect, mask and rescale. Pick a layer. Click a weight. *Accuracy* measures the models you see, on test images.

# %%
from mergekit_nb.widgets import EmrWalk

walk = EmrWalk(zoo.base, zoo.experts, tasks=zoo.tasks)
walk

# %% [markdown]
# What the sliders say can be read, and set, from the next cell.

# %%
walk.state.step = 2
walk.state.as_dict()

# %% [markdown]
# ## 4. Why averaging fails
#
# The plain mean of the experts is one model for all tasks. First: do the experts pull the same way? A cosine of 1 would be the
# same direction, 0 is unrelated.

# %%
average = mk.merge("average", zoo.base, zoo.experts)
plots.cosine_matrix(mk.similarity(zoo.experts, base=zoo.base))

# %% [markdown]
# Is it the same in every layer? This panel and the walk above share one state: move the layer here, and it moves there.

# %%
from mergekit_nb.widgets import Similarity

Similarity(state=walk.state)

# %% [markdown]
# The mean moves many weights against an expert's will. This is the share of weights for which mean and expert have opposite
# signs. One half would be a coin toss.

# %%
plots.sign_conflict(mk.similarity(average, zoo.experts, by="layer"))

# %% [markdown]
# And what is averaged cancels. The mean of eight unrelated vectors of one length has 1/√8 of that length.

# %%
lengths = mk.magnitudes(zoo.base, zoo.experts, average)
mean = lengths.groupby("kind")["mean_abs"].mean()
print(f"merged / expert = {mean['merged'] / mean['expert']:.2f}      1/√8 = {8**-0.5:.2f}")
plots.magnitude_alignment(lengths)

# %% [markdown]
# Now the accuracy. `base` is the model before fine-tuning, `individual` is each task's own expert. Task arithmetic and TIES
# have a scale; it was chosen on validation images, never on test. To be quick, 500 test images a task.

# %%
board = mk.compare(["average", "task_arithmetic", "ties", "emr"], zoo, tune_limit=50, limit=500)
plots.accuracy_by_task(board)

# %%
plots.means(board).set_index("method").round(3)

# %% [markdown]
# What is each step of EMR worth? `elect` is base + τ_uni, one model for all tasks. `elect + mask` gives each task its bits. With λ it
# is EMR.

# %%
unscaled = replace(merged, patches={task: replace(patch, scale=1.0) for task, patch in merged.patches.items()})
parts = {"elect": replace(merged, patches={}), "elect + mask": unscaled}
parts = [mk.evaluate(model, zoo.tasks, limit=500).assign(method=step) for step, model in parts.items()]
steps = pd.concat([board, *parts]).set_index("method")
steps = steps.loc[["base", "elect", "elect + mask", "emr", "individual"]].reset_index()
plots.accuracy_by_task(steps)

# %%
plots.means(steps).set_index("method").round(3)

# %% [markdown]
# ## 5. What the mask costs
#
# EMR keeps the base and the unified vector, which makes two models, and one bit a weight for each task. A weight has 16 bits
# here. From how many tasks on is that less than one model a task?

# %%
model, one_mask = average.nbytes["shared"], merged.nbytes["patches"]["mnist"]
tasks = pd.RangeIndex(1, 9, name="tasks")
megabytes = {"a model a task": tasks * model / 1e6, "EMR": (2 * model + tasks * one_mask) / 1e6}
pd.DataFrame(megabytes, index=tasks).round(2).T

# %% [markdown]
# What does a megabyte buy? Single-model merges are at the left, the eight experts at the right.

# %%
plots.bytes_against_accuracy(board)

# %% [markdown]
# ## 6. Where the rescaler helps, and where it does not
#
# The paper says (Eq. 5) that λ brings the shares nearer to their task vectors, in squared distance, averaged over tasks. Two
# tasks with two weights are enough to see that this is not true in general.

# %%
zero = {"w": torch.zeros(2)}
two = {"a": {"w": torch.tensor([1.0, -1.0])}, "b": {"w": torch.tensor([1.0, 2.0])}}
tiny = mk.merge("emr", zero, two, rescale="global")
print("unified:", tiny.vector["w"].tolist())
print({task: (patch.mask["w"].tolist(), patch.scale) for task, patch in tiny.patches.items()})

# %% [markdown]
# Task a lost its second weight to the vote, so its share is (1, 0). λ = 2 makes up for the lost length by stretching the
# weight that was already right: (2, 0).

# %%
distance = analysis.distances(zero, two, tiny).assign(step=["base", "+ mask", "+ rescale"] * 2)
distance = distance.pivot(index="step", columns="task", values="distance").loc[["base", "+ mask", "+ rescale"]]
distance.assign(mean=distance.mean(axis=1))

# %% [markdown]
# With noise it helps, but it does not go as near as a scale could: the last row takes, for each task, the best of 151 scales.

# %%
noise = {f"task {t}": {"w": row} for t, row in enumerate(noise)}
zero = {"w": torch.zeros(100_000)}
blend = mk.merge("emr", zero, noise, rescale="global")
distance = analysis.distances(zero, noise, blend).assign(step=["base", "+ mask", "+ rescale"] * 8)
distance = distance.groupby("step", sort=False)["distance"].mean()
curve = analysis.distances(zero, noise, blend, torch.linspace(0, 1.5, 151).tolist())
distance["best scale"] = curve.groupby("task")["distance"].min().mean()
distance.round().to_frame()

# %% [markdown]
# And the zoo? The distance is a parabola in the scale. 0 is the base, 1 the mask alone, the mark is λ.

# %%
curve = analysis.distances(zoo.base, zoo.experts, merged, torch.linspace(0, 1.2, 121).tolist())
rescalers = {task: patch.scale for task, patch in merged.patches.items()}
plots.distance_by_scale(curve, rescalers)

# %% [markdown]
# Nearer is not the aim, accuracy is. `nearest` uses the scale at the bottom of each parabola. Read along the rows: λ lifts the mean,
# but not every task, and the nearest model is not the most accurate one.

# %%
bottom = curve.loc[curve.groupby("task")["distance"].idxmin()].set_index("task")["scale"]
nearest = replace(merged, patches={task: replace(patch, scale=bottom[task]) for task, patch in merged.patches.items()})
rows = pd.concat([steps, mk.evaluate(nearest, zoo.tasks, limit=500).assign(method="nearest")])
by_task = rows.pivot(index="method", columns="task", values="accuracy")
by_task.loc[["elect + mask", "emr", "nearest"], list(zoo.tasks)].assign(mean=lambda table: table.mean(axis=1)).round(3)

# %% [markdown]
# ## 7. Your turn
#
# λ makes mean magnitudes equal. Which number s makes the squared distance ‖τ − s · kept‖² smallest? `tau` and `kept` are flat
# tensors; replace the `...`. It takes one line.


# %%
def best_scale(tau, kept):
    return ...  # TODO


# %%
from mergekit_nb.notebooks.exercises import check

check(best_scale)

# %% [markdown]
# <details><summary>A hint</summary>
#
# Write ‖τ − s·k‖² = ⟨τ,τ⟩ − 2s⟨τ,k⟩ + s²⟨k,k⟩ and set its derivative in s to zero.
#
# </details>
# <details><summary>The answer</summary>
#
# `return (tau @ kept) / (kept @ kept)`
#
# </details>

# %% [markdown]
# ## What you saw
#
# * Elect: one sign and one magnitude for each weight. Mask: one bit for each weight and task. Rescale: one number for each task.
# * Averaging lets experts cancel each other; the mask is what keeps them apart.
# * EMR costs two models and one bit a weight for each task.
# * The rescaler makes lengths right. Here that helped most tasks. It does not always come nearer, and nearer is not always better.
