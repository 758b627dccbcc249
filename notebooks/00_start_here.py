# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Start here
#
# Eight small models, each trained for one task, become one model that serves them all.
# Five minutes, no GPU, no network.
#
# [Open in Colab](https://colab.research.google.com/github/mergekit-nb/mergekit-nb/blob/main/notebooks/00_start_here.ipynb) ·
# the outputs below are saved, so you can read without running · about 20 seconds to run

# %%
import sys

if "google.colab" in sys.modules:  # on Colab, install first; elsewhere this cell does nothing
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q 'mergekit-nb @ git+https://github.com/mergekit-nb/mergekit-nb'")

# %% [markdown]
# **The models.** One base, a small CLIP, and one expert for each of eight tasks, fine-tuned from that base. All of them are
# shipped with the package. Here is what they look at.

# %%
import mergekit_nb as mk
from mergekit_nb import plots

zoo = mk.zoo.load()
plots.picture_sheet({name: task.split("test")[0] for name, task in zoo.tasks.items()})

# %% [markdown]
# **The merge.** [EMR-Merging](https://arxiv.org/abs/2405.17461) keeps one shared vector, and for each task one bit a weight and one number. No training, no data.

# %%
merged = mk.merge("emr", zoo.base, zoo.experts)
megabytes = merged.nbytes["shared"] / 1e6, merged.nbytes["patches"]["mnist"] / 1e6
print("shared: {:.2f} MB, and for each task: {:.2f} MB".format(*megabytes))

# %% [markdown]
# **The result.** `base` is the model before fine-tuning, `individual` is each task's own expert: eight models. `average` is the plain mean of the
# experts: one model.

# %%
scores = mk.compare(["average", "emr"], zoo)
plots.accuracy_by_task(scores)

# %% [markdown]
# The same in numbers, with 95 % intervals of the mean over tasks and with the size on disk.

# %%
plots.means(scores).merge(scores.groupby("method")["bytes"].first().reset_index()).round(3)

# %% [markdown]
# **The weights of one task** are a plain state dict. Put them into the model, or save the whole merge.

# %%
model = merged.apply_(zoo.model(), "mnist")
pixels, labels = zoo.tasks["mnist"].split("test")
guess = (model.encode_image(zoo.tasks["mnist"].preprocess(pixels[:8])) @ zoo.tasks["mnist"].head.T).argmax(1)
{"guess": guess.tolist(), "label": labels[:8].tolist()}

# %% [markdown]
# **Where to go**
#
# * [01_elect_mask_rescale](01_elect_mask_rescale.ipynb): how EMR does it, weight by weight, with sliders.
# * Your own models: `mk.merge("emr", "base.safetensors", {"cars": "cars/", "pets": "pets/"})`, then `merged.save("out/")`.
# * The command line: `mergekit-nb demo`, `mergekit-nb merge --help`.
# * The methods there are: `mk.METHODS`.
