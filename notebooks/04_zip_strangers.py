# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Zipping strangers
#
# Experts that were fine-tuned from one base can be averaged. Networks that never shared a parent cannot: feature 7 of one has nothing
# to do with feature 7 of the other. [ZipIt!](https://arxiv.org/abs/2305.03053) (Stoica et al. 2024) looks for features that are alike,
# wherever they are, and makes them one. Here you watch it work, find where it stops working, and stop there.
#
# [Open in Colab](https://colab.research.google.com/github/mergekit-nb/mergekit-nb/blob/main/notebooks/04_zip_strangers.ipynb) ·
# the outputs below are saved, so you can read without running · about a minute to run

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, install first; elsewhere this cell does nothing
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q 'mergekit-nb @ git+https://github.com/mergekit-nb/mergekit-nb'")

# %%
import pandas as pd
import torch

import mergekit_nb as mk
from mergekit_nb import analysis, plots
from mergekit_nb.align.repair import reset
from mergekit_nb.maths.matching import zip_features
from mergekit_nb.models.axes import derive
from mergekit_nb.models.moments import joint_moments

zoo = mk.zoo.load("strangers")
print(zoo.pairs)

# %% [markdown]
# ## 1. Two strangers
#
# Two small residual networks, each with its own random initialisation. They share out the ten digits by lot: each was trained on its own
# five, and never saw the others. Both turn a picture into a vector, and the class whose text embedding lies nearest wins.

# %%
pair = "mnist"
nets, tasks, batches = zoo.of(pair), zoo.tasks_of(pair), zoo.batches(pair)
a, b = nets.values()
plots.picture_sheet({name: task.split("test")[0] for name, task in tasks.items()})

# %% [markdown]
# How good are they? `joint` asks for the right one of all ten classes. The other columns ask each network's own five only.
# The **ensemble** runs both networks, and each speaks of its own classes: that is the best to hope for. It costs two networks.


# %%
def board(scores):  # a row for each method
    return scores.pivot(index="method", columns="task", values="accuracy").loc[scores["method"].unique()].round(3)


scores = mk.joints({"ensemble": [a, b], **{f"{name} alone": net for name, net in nets.items()}}, tasks, scale=zoo.scale)
board(scores)

# %% [markdown]
# Now the plain average, as for experts of one base. Batch norm's statistics were measured on networks that are gone, so they are
# measured again, on 256 pictures without labels. Ten classes, so guessing is 10 %, or 20 % where the task is told:

# %%
average = mk.zipit([a, b], batches, matching="identity")
board(mk.joints({"average": average}, tasks, scale=zoo.scale))

# %% [markdown]
# ## 2. Which features are alike?
#
# What can be reordered without anybody noticing? The package finds out by watching one forward pass: a **space** is a set of features that some weights
# write and others read. Permute the features of a space, in all of these, and the network computes the same.

# %%
axes = derive(a, batches[0])
pd.DataFrame(
    [(s.name, s.width, len(s.ports), s.boundary) for s in axes.spaces],
    columns=["space", "features", "tensors", "boundary"],
)

# %% [markdown]
# Both networks look at the same pictures, and for each pair of features we ask how correlated they are. Orange rises and falls together. Top right are
# the pairs of one feature from each network, top left and bottom right the pairs within a network.

# %%
space = "layer1"
names = [f"{name} {k}" for name in nets for k in range(axes.space(space).width)]
correlation = joint_moments([a, b], batches, axes, [space])[space].correlation()
nobody = pd.DataFrame(columns=["a", "b", "kind"])
plots.matched_features(
    pd.DataFrame(correlation.numpy(), names, names), nobody, f"Correlation of the features of {space}"
)

# %% [markdown]
# **Permuting** (Git Re-Basin's activation matching) gives each feature of the first network a partner in the second, one to one. **Zipping** takes the most
# similar pair anywhere, again and again, until as many are left as one network has. Two features of the *same* network may become one if they say the
# same: circles. The two knobs: β, how much of that is allowed; α, how reluctantly a group takes in another feature (1 is not at all). Their
# values here were chosen on the validation pictures of another pair, `fashion-1`.

# %%
ALPHA, BETA = 1.0, 1.0
found = zip_features(correlation, 2, ALPHA, BETA)
plots.matched_features(
    pd.DataFrame(correlation.numpy(), names, names), analysis.matched(found), f"What is zipped in {space}"
)

# %% [markdown]
# The groups become two matrices. **M** (merge) takes the mean over a group, **U** (unmerge) gives every member its group's mean back. A weight that writes the
# space is multiplied by M, one that reads it by U; then the two networks are averaged. That is all. `mk.zipit` does it for every space, with the groups
# that you found:

# %%
zipped = mk.zipit([a, b], batches, ALPHA, BETA)
print("same groups:", zipped.groups[space] == found.groups)
print(
    "M:",
    *found.merge.shape,
    "  U:",
    *found.unmerge.shape,
    "  M U is the identity:",
    torch.allclose(found.merge @ found.unmerge, torch.eye(16).double()),
)

# %%
permuted = mk.zipit([a, b], batches, matching="permute")
merges = {"average": average, "permute": permuted, "zip": zipped}
board(pd.concat([scores, mk.joints(merges, tasks, scale=zoo.scale)]))

# %% [markdown]
# One network, at the cost of one network, and it knows all ten digits, if not well. What is batch norm's share in that? The same zip with the old statistics:

# %%
stale = mk.zipit([a, b], batches, ALPHA, BETA, reset=False)
board(mk.joints({"zip": zipped, "zip, old statistics": stale}, tasks, scale=zoo.scale))

# %% [markdown]
# ## 3. Stop in time
#
# Every space that is zipped costs something, and late features say which class it is, where strangers have nothing in common. How alike is each feature's
# best partner in the other network, space by space?

# %%
moments = joint_moments([a, b], batches, axes)
across = {s.name: moments[s.name].correlation()[: s.width, s.width :].amax(1) for s in axes.spaces}
pd.DataFrame({name: [float(best.mean())] for name, best in across.items()}, index=["mean best correlation"]).round(2)

# %% [markdown]
# So zip the early part only. The result is a trunk that runs once, and from the boundary on one **head** for each network. Where it can be cut:

# %%
zipped.boundaries

# %%
half = mk.zipit([a, b], batches, ALPHA, BETA, stop_at="layer2")
heads = half(batches[0])
print(type(half).__name__, "with", len(heads), "outputs of", tuple(heads[0].shape))

# %% [markdown]
# More trunk is cheaper, more head is better. Here is the exchange rate. A point's boundary shows when the mouse is on it.

# %%
curve = mk.tradeoff(nets, tasks, batches, alpha=ALPHA, beta=BETA, scale=zoo.scale)
curve = curve[curve["task"] == "joint"]
plots.accuracy_against_flops(curve)

# %%
curve.set_index(["method", "boundary"])[["accuracy", "low", "high", "flops"]].round(3)

# %% [markdown]
# Move the boundary yourself, look into a layer, click a group to see what excites its features. The panel measures on validation pictures,
# since it has sliders to choose by; the table above is of test pictures.

# %%
from mergekit_nb.widgets import ZipWalk

walk = ZipWalk(nets, tasks, batches, alpha=ALPHA, beta=BETA, scale=zoo.scale)
walk

# %% [markdown]
# ## 4. Is it always so?
#
# One pair proves little. The same on all pairs of the zoo but the one that α and β were chosen on: clothes, which are harder to tell apart than digits.
# First with the task told, so that a network chooses among its own classes; the mean over the tasks of a pair.


# %%
def compared(pair):
    nets, tasks, batches = list(zoo.of(pair).values()), zoo.tasks_of(pair), zoo.batches(pair)
    models = {"ensemble": nets, "zip to layer1": mk.zipit(nets, batches, ALPHA, BETA, stop_at="layer1")}
    for method, matching in {"zip": "zip", "permute": "permute", "average": "identity"}.items():
        models[method] = mk.zipit(nets, batches, ALPHA, BETA, matching=matching)
    return mk.joints(models, tasks, scale=zoo.scale).assign(pair=pair)


def by_pair(rows):
    wide = rows.groupby(["method", "pair"])["accuracy"].mean().unstack().loc[rows["method"].unique()]
    return wide.assign(mean=wide.mean(axis=1), deviation=wide.std(axis=1)).round(3)


everything = pd.concat([compared(pair) for pair in zoo.pairs if pair != "fashion-1"])
jointly = everything["task"] == "joint"
by_pair(everything[~jointly])

# %% [markdown]
# In the mean the order is as it was: ensemble, partial zip, zip, permute, average. Pair by pair it is not: on `fashion-4` permuting is as good as
# zipping. Now jointly, the right one of all ten:

# %%
by_pair(everything[jointly])

# %%
plots.accuracy_by_task(everything[jointly].drop(columns="task").rename(columns={"pair": "task"}))

# %% [markdown]
# The order of the means holds, but with the task told it holds far more clearly. On `fashion-3`, `fashion-4` and the triple, permuting is jointly a little better than
# zipping, and up to `layer1` (the README's table) permuting is as good as zipping; on `fashion-4` the partial zip is worse than the full one. Two reasons show. The layers are narrow: 16 features have to do the work of 32. And joint accuracy asks
# networks that never met to agree on who is surer. A network for pullovers has never seen a coat; even the ensemble, which zips nothing, loses more than a
# fifth of the clothes to that.

# %% [markdown]
# ## 5. Why the average fails: a wall between two valleys
#
# Walk in a straight line from one network to the other, and measure the joint cross-entropy on the way. Between strangers stands a wall. **Aligning** the
# second network first, that is permuting its features into the order of the first's, changes nothing about what it computes. It changes where it lies.
# [Git Re-Basin](https://arxiv.org/abs/2209.04836) does that by the weights alone, or by the activations.

# %%
aligned = {
    "as they are": b,
    "aligned by weights": mk.align(b, to=a),
    "aligned by activations": mk.align(b, to=a, batches=batches),
}
same = (aligned["aligned by weights"](batches[0]) - b(batches[0])).abs().max()
print(f"largest change of an output by aligning: {same:.1e}")


# %%
def walked(end, steps=9):
    for x, weights in mk.interpolate(a, end, torch.linspace(0, 1, steps).tolist()).items():
        model = zoo.tasks[next(iter(tasks))].model()
        model.load_state_dict(weights)
        row = mk.joint(reset(model, batches), tasks, scale=zoo.scale)
        yield row[row["task"] == "joint"].assign(x=x)


way = pd.concat([pd.concat(walked(end)).assign(task=name) for name, end in aligned.items()])
plots.score_along_path(way, score="loss")

# %% [markdown]
# Aligned by activations there is no wall left: on the way, networks know more than at either end. Weights alone do not find that order here. The networks are narrow,
# and were trained on different things, so that even matching features have different weights.

# %% [markdown]
# ## 6. Three strangers
#
# The same with three networks, of four, three and three classes. The authors' code then loses features: where the rule against merging within a network
# leaves no pair, it drops some. Here that mode is called `official`; the default, `guarded`, never does.

# %%
three, tasks3, batches3 = list(zoo.of("triple").values()), zoo.tasks_of("triple"), zoo.batches("triple")
kept = {}
for mode in ("guarded", "official"):
    of = mk.zipit(three, batches3, 0.3, 0.125, mode=mode)
    score = mk.joint(of, tasks3, scale=zoo.scale)["accuracy"].iloc[0]
    kept[mode] = {"joint accuracy": score, "features lost": sum(len(z.lost) for z in of.zips.values())}
pd.DataFrame(kept).T.round(3)

# %% [markdown]
# ## 7. Rooting: teach instead of match
#
# [GAN Cocktail](https://arxiv.org/abs/2106.03847) brings two generators into one valley in another way. It **roots** the second onto the first: start from the first's
# weights, and learn from what the second generates. No data, only samples. Here are two small generators, trained in this cell. The first draws zeros and ones, on
# conditions 0 and 1; the second draws trousers and bags, on conditions 2 and 3.

# %%
from mergekit_nb.models import vae

clip8 = mk.zoo.load().tasks


def pictures_of(task, wanted):
    pictures, labels = clip8[task].split("validation")
    pictures = torch.nn.functional.avg_pool2d(pictures[:, :1] / 255, 2)
    mine = torch.isin(labels, torch.tensor(list(wanted)))
    return pictures[mine], torch.tensor([wanted[label] for label in labels[mine].tolist()])


digits = vae.train(*pictures_of("mnist", {0: 0, 1: 1}), conditions=4, seed=0)
clothes = vae.train(*pictures_of("fashion", {1: 2, 8: 3}), conditions=4, seed=1)


# %%
def samples(conditions):
    """What `mk.root` asks for at each step: inputs, and what the model makes of them."""

    def draw(model, step):
        inputs = vae.latents(128, seed=step), torch.tensor(conditions).repeat(128 // len(conditions))
        return inputs, model(*inputs)

    return draw


rooted = mk.root(clothes, onto=digits, sampler=samples([2, 3]), steps=600, rate=2e-3)


def mean_of(one, other):
    model = vae.Generator(4)
    model.load_state_dict(mk.blend({"one": one, "other": other}, [0.5, 0.5]))
    return model


# %% [markdown]
# The recipe ends with a little training of the average, on samples of both.


# %%
def of_both(_, step):
    (latents, half), made = samples([0, 1])(digits, step)
    (_, rest), also = samples([2, 3])(clothes, step)
    return (latents.repeat(2, 1), torch.cat([half, rest])), torch.cat([made, also])


models = {
    "digits": digits,
    "clothes": clothes,
    "average": mean_of(digits, clothes),
    "rooted, then average": mean_of(digits, rooted),
    "and trained": mk.root(digits, onto=mean_of(digits, rooted), sampler=of_both, steps=200),
}
with torch.no_grad():
    drawn = {
        name: model(vae.latents(4, seed=9).repeat(4, 1), torch.arange(4).repeat_interleave(4))
        for name, model in models.items()
    }
plots.picture_sheet({name: (255 * of).byte() for name, of in drawn.items()})

# %% [markdown]
# In each row first zeros and ones, then trousers and bags. How far are they from those of the two generators, at the same latents? Mean squared difference of a pixel:

# %%
inputs, wanted = of_both(None, 10**6)
with torch.no_grad():
    error = {name: (model(*inputs) - wanted).square().flatten(1).mean(1) for name, model in models.items()}
pd.DataFrame(
    {name: {"digits": float(e[:128].mean()), "clothes": float(e[128:].mean())} for name, e in error.items()}
).T.round(4)

# %% [markdown]
# ## 8. Your turn
#
# Turn groups into matrices. `groups` is a list such as `[(0, 3), (1, 2, 4), (5,)]`: features 0 and 3 become merged feature 0, and so on. Return M, "merged
# feature", the mean over a group, and U, "feature merged", which gives every member its group's value back. Replace the `...`.


# %%
def maps(groups, features):
    M = torch.zeros(len(groups), features)
    U = torch.zeros(features, len(groups))
    for merged, group in enumerate(groups):
        M[merged, list(group)] = ...  # TODO
        U[list(group), merged] = ...  # TODO
    return M, U


# %%
from mergekit_nb.notebooks.exercise_maps import check

check(maps)

# %% [markdown]
# <details><summary>A hint</summary>
#
# `M[merged, list(group)]` is the part of a row that a group fills. Its entries add up to 1.
#
# </details>
# <details><summary>The answer</summary>
#
# `M[merged, list(group)] = 1 / len(group)` and `U[list(group), merged] = 1`
#
# </details>

# %% [markdown]
# ## What you saw
#
# * Networks without a common parent compute with features in different places. Their average knows next to nothing.
# * ZipIt! makes alike features one, across networks and within: M takes the mean of a group, U hands it back. Permuting allows only one partner each.
# * Batch norm's statistics must be measured again. Without that, even the zip is lost.
# * Zip less and get more: the boundary trades cost for accuracy, between one network and the ensemble.
# * Rooting needs training, but no data: start in the other's valley, learn from samples, then average.
