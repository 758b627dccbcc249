# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The family
#
# Many ways to merge have been published. Here all of those that need no data merge the same eight experts, by the same
# protocol, and are tested on the same images. What does each one reach, what does it cost, and where does it fail?
#
# [Open in Colab](https://colab.research.google.com/github/mergekit-nb/mergekit-nb/blob/main/notebooks/03_the_family.ipynb) ·
# the outputs below are saved, so you can read without running · about two minutes to run

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, install first; elsewhere this cell does nothing
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q 'mergekit-nb @ git+https://github.com/mergekit-nb/mergekit-nb'")

# %%
import warnings

import pandas as pd

import mergekit_nb as mk
from mergekit_nb import plots
from mergekit_nb.compare import failures, shown, table
from mergekit_nb.methods import CoreSpace, Dare, Knots, Lines, Ties, Tsv

pd.set_option("display.max_colwidth", None)
zoo = mk.zoo.load()
print(*zoo.tasks)

# %% [markdown]
# ## 1. Who is who
#
# Each name is a line of `mk.METHODS`. They differ in what they take the task vectors for:
#
# * **means** add them up, with one factor for all, or one for each layer or tensor;
# * **pruning** drops or cuts single entries, then adds up or elects;
# * **choices** give each entry to those who count there: the largest, the most, those it matters to;
# * **spheres** treat lengths and directions apart;
# * **spectra** look at whole matrices, by their singular vectors or frequencies;
# * **patches** do not end with one model: each task keeps something of its own, masks or low-rank matrices.

# %%
families = {
    "means": ["average", "task_arithmetic", "model_stock", "lines"],
    "pruning": ["ties", "dare", "breadcrumbs", "della", "dppa", "cabs", "nearswap", "arcee_fusion"],
    "choices": ["pcb", "sce", "consensus", "magmax", "ram"],
    "spheres": ["multi_slerp", "karcher"],
    "spectra": ["tsv", "iso_c", "iso_cts", "wudi", "knots", "core_space", "fr"],
    "patches": ["emr", "tall_masks", "tsv_compress"],
}
everyone = mk.methods.taking(len(zoo.experts))
family = {name: kind for kind, names in families.items() for name in names if name in everyone}
print(
    f"{len(everyone)} methods merge {len(zoo.experts)} experts; not sorted yet: {sorted(set(everyone) - set(family))}"
)

# %% [markdown]
# Methods compose. `Dare() | Ties()` prunes first, then merges; `Ties() | Lines()` merges first, then scales the result by depth;
# `Knots() | Ties()` merges in another basis. Five compositions join in:

# %%
composed = [Dare() | Ties(), Ties() | Lines(), Tsv() | Lines(), Knots() | Ties(), CoreSpace() | Tsv()]
family |= {method.label: "compositions" for method in composed}
print(*(method.label for method in composed), sep="\n")

# %% [markdown]
# ## 2. One call
#
# `mk.compare` merges, chooses one number on *validation* images (the scale; of LiNeS, β; from the same eight values for
# everybody), and tests. All other options keep their defaults; where a paper and its code differ, the method's docstring says
# which is followed. What has no such number is run as it is.
#
# To be quick, only some images of each task are used here. The README's table is the same call without limits
# (`python benchmarks/readme.py --measure` writes it to `benchmarks/zoo.csv`).

# %%
images, choosing = 200, 25  # of each task: to test on, to choose on
with warnings.catch_warnings(record=True) as noted:  # what a method has to say about its own setting, once
    board = mk.compare([*everyone, *composed], zoo, limit=images, tune_limit=choosing)
print(*{str(note.message): None for note in noted}, sep="\n")
shown(board).set_index("method").drop(columns=list(zoo.tasks))

# %% [markdown]
# Numbers are accuracies. The colour is how far a method came from the base model (0 %, grey) to that task's own expert
# (100 %, orange). **Blue is worse than not merging at all.**

# %%
plots.accuracy_map(board, family)

# %% [markdown]
# Read it by columns, too. How much accuracy did fine-tuning buy on each task, and how many of the single models fall below the base
# there?

# %%
grid = board.pivot(index="method", columns="task", values="accuracy")[list(zoo.tasks)]
bought = grid.loc["individual"] - grid.loc["base"]
single = [m for m in board["method"].unique() if m not in ("base", "individual", *families["patches"])]
losing = (grid.loc[single] < grid.loc["base"]).mean()
pd.DataFrame({"fine-tuning bought": bought, "single models below the base": losing}).sort_values(
    "fine-tuning bought"
).round(3).T

# %% [markdown]
# What it costs. Whatever ends with one model costs one model, so the second column says nothing about those; it is what the patches
# pay. Seconds are of this machine and of a small model: matrix methods grow faster than the others.

# %%
plots.leaderboard(board, family)

# %% [markdown]
# ## 3. What can be said, and what cannot
#
# Two methods whose intervals meet are not told apart here. (They saw the same images, so a test by pairs would tell more; the
# table does not try.) How many single models can be told from the plain
# average?

# %%
wide = table(board)
average, rest = wide.loc["average"], wide.loc[[method for method in single if method != "average"]]
told = {
    "surely better than the average": rest.index[rest["low"] > average["high"]],
    "not told from it": rest.index[(rest["low"] <= average["high"]) & (rest["high"] >= average["low"])],
    "surely worse": rest.index[rest["high"] < average["low"]],
}
for words, names in told.items():
    print(f"{words} ({len(names)}): {', '.join(names)}")

# %% [markdown]
# What does hold? Each line is computed from the table above.

# %%
patches = families["patches"]
best = wide.loc[single, "mean"].idxmax()
reached = (grid.loc[single] >= grid.loc["individual"]).sum(axis=1)
claims = {
    "Whatever keeps patches is better than every single model": wide.loc[patches, "mean"].min()
    > wide.loc[best, "mean"],
    "No single model's interval meets the experts'": wide.loc[single, "high"].max() < wide.loc["individual", "low"],
    "Averaging is already better than the base": wide.loc["average", "mean"] > wide.loc["base", "mean"],
    "The best single model looks at spectra": bool(set(best.split(" | ")) & set(families["spectra"])),
    "Most single models are not told from the average": len(told["not told from it"]) > len(rest) / 2,
    "No single model reaches the experts on more than two tasks": reached.max() <= 2,
}
pd.Series(claims, name="holds").to_frame()

# %% [markdown]
# ## 4. Where each one fails
#
# For each method: the task on which it loses most against that task's own expert, and the tasks on which it is right less often than
# the base model that nobody fine-tuned. *Surely* means that the two intervals do not meet.

# %%
failed = failures(board)
said = failed.assign(**{column: failed[column].map(", ".join) for column in ("below", "surely")})
said.assign(loss=said["loss"].map("{:.1%}".format)).rename(
    columns={"below": "below the base", "surely": "surely below"}
)

# %% [markdown]
# Which tasks are the hard ones, counted over all methods?

# %%
below = pd.Series([task for tasks in failed.loc[single, "below"] for task in tasks]).value_counts()
worst = failed.loc[single, "worst"].value_counts()
hard = pd.DataFrame({"worst task of": worst, "below the base in": below}).reindex(list(zoo.tasks)).fillna(0).astype(int)
clean = [m for m in single if not failed.loc[m, "below"]]
print(f"single models that are nowhere below the base: {', '.join(clean) or 'none'}")
hard

# %% [markdown]
# ## 5. Compositions
#
# What did the second part add to the first, and how sure is that? Both saw the same images, so the differences are surer than
# the intervals suggest; they are small all the same.

# %%
pairs = {
    "dare | ties": "ties",
    "ties | lines": "ties",
    "tsv | lines": "tsv",
    "knots | ties": "ties",
    "core_space | tsv": "tsv",
}
rows = [
    (whole, part, wide.loc[whole, "mean"], wide.loc[whole, "mean"] - wide.loc[part, "mean"])
    for whole, part in pairs.items()
]
pd.DataFrame(rows, columns=["composition", "against", "mean", "difference"]).set_index("composition").round(3)

# %% [markdown]
# The last line is no accident. Core Space turns every matrix into a basis that holds all experts. TSV looks at singular vectors only, so
# it finds the same ones there: with experts of full rank, as ours, the composition is TSV again, at a higher price. TIES looks at single
# entries, and those are others in another basis.

# %%
turned = mk.merge(CoreSpace() | Tsv(), zoo.base, zoo.experts).vector
straight = mk.merge(Tsv(), zoo.base, zoo.experts).vector
name = "visual.transformer.resblocks.1.mlp.c_fc.weight"
gap = (turned[name] - straight[name]).float().norm() / straight[name].float().norm()
assert gap < 0.02
print(f"relative difference of the two merges in {name}: {gap:.4f}")

# %% [markdown]
# ## 6. A walk from one expert to another
#
# Merging two models is a walk along the line between them. What does one task lose while the other gains?

# %%
first, second = "mnist", "emoji"
two = {task: zoo.tasks[task] for task in (first, second)}
steps = [i / 8 for i in range(9)]


def along(branches=None, label=""):
    path = mk.interpolate(zoo.experts[first], zoo.experts[second], steps, branches=branches)
    parts = [mk.evaluate(model, two, limit=images).assign(x=x) for x, model in path.items()]
    return pd.concat(parts).assign(task=lambda rows: rows["task"] + label)


plain = along()
plots.score_along_path(plain)

# %% [markdown]
# Branches may have numbers of their own. Here the attention stays the first expert's, and only the rest walks. So the end is not the
# second expert: compare the two ends of its lines.

# %%
kept = along({"*.attn.*": 0.0}, ", attention stays")
plots.score_along_path(pd.concat([plain, kept]))

# %% [markdown]
# ## 7. Your own
#
# Choose a method, something before it, something after it. The sliders are made from the method's own fields. Accuracy is measured on
# validation images while you move them.

# %%
from mergekit_nb.widgets import Tune

tune = Tune(zoo, method="tsv", limit=25)
tune

# %% [markdown]
# The next cell does by code what the sliders do by hand, and reads what was found.

# %%
tune.state.method = Tsv(scale=0.7)
tune.state.method = Tsv() | Lines(beta=0.3)
tune.job.wait()
tune.history()[["method", "mean", "low", "high"]].round(3)

# %% [markdown]
# ## 8. Your turn
#
# **A warm-up.** Which scale makes task arithmetic the same as the average of `tasks` experts?


# %%
def same_as_average(tasks):
    return ...  # TODO


# %%
from mergekit_nb.notebooks.exercises_family import check_method, check_scale

check_scale(same_as_average)

# %% [markdown]
# **A contest.** Find a method, or a composition, that ends with one model and beats TSV's default on validation images. Use the panel
# above; then write it here.

# %%
mine = ...  # TODO, such as mk.methods.Dare(drop=0.5) | mk.methods.Ties(density=0.3)

# %%
check_method(mine, zoo, rival="tsv")

# %% [markdown]
# <details><summary>A hint for the warm-up</summary>
#
# Task arithmetic is base + scale · Σ τ. Write the mean of the experts in the same way: base + …
#
# </details>
# <details><summary>A hint for the contest</summary>
#
# LiNeS after it lets early layers, which all tasks share, move less than late ones, or more. Pruning before it makes task
# vectors shorter or rarer.
#
# </details>
# <details><summary>The answer to the warm-up</summary>
#
# `return 1 / tasks`
#
# </details>

# %% [markdown]
# ## What you saw
#
# * Keeping a little for each task, a mask or a low-rank patch, is worth more than any way of making one model.
# * Most single models are not told from the plain average by this many images.
# * Each of them fails somewhere: section 4 says on which task, and by how much.
# * A composition is as good as what its second part can still see: TSV sees through a change of basis, TIES does not.
