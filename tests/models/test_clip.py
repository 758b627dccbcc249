"""The small CLIP: words to ids, prompts to heads, pixels to floats."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from mergekit_nb.models.clip import BYTES, Tokenizer, build, heads, preprocess

TOKENIZER = Tokenizer(("an", "icon", "of", "bell"), context=8)
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 8, "vocab_size": TOKENIZER.size, "width": 32, "heads": 2, "layers": 1},
    "quick_gelu": False,
}


def test_known_words_are_one_token_and_unknown_ones_their_bytes():
    # start = 256 + 4 words = 260, end = 261; "An" -> 256, "ox" -> 111 120, "!" -> 33
    assert TOKENIZER(["An ox!"]).tolist() == [[260, 256, 111, 120, 33, 261, 0, 0]]


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_every_text_starts_ends_and_fits(texts):
    ids = TOKENIZER(texts)
    assert ids.shape == (len(texts), TOKENIZER.context)
    assert ids.min() >= 0
    assert (ids[:, 0] == TOKENIZER.size - 2).all()
    assert ((ids == TOKENIZER.size - 1).sum(dim=1) == 1).all()


def test_a_vocabulary_is_learnt_by_frequency_and_survives_the_disk(tmp_path):
    learnt = Tokenizer.learn(["a bell", "a key", "a bell of b"], words=2, context=8)
    assert learnt.words == ("a", "bell")
    learnt.save(tmp_path / "vocab.json")
    assert Tokenizer.load(tmp_path / "vocab.json") == learnt
    assert learnt.size == BYTES + 2 + 2


def test_heads_are_unit_rows_one_per_class_and_differ():
    torch.manual_seed(0)
    head = heads(build(CONFIG).eval(), TOKENIZER, "an icon of {}", ["bell", "key", "ox"])
    assert head.shape == (3, 16)
    assert head.dtype == torch.float32
    assert_close(head.norm(dim=1), torch.ones(3))
    assert torch.pdist(head).min() > 1e-3


def test_a_prompt_gives_the_same_head_whatever_else_is_in_the_batch():
    torch.manual_seed(0)
    model = build(CONFIG).eval()
    together = heads(model, TOKENIZER, "an icon of {}", ["bell", "key"])
    alone = heads(model, TOKENIZER, "an icon of {}", ["key"])
    assert_close(together[1:], alone)


def test_preprocessing_keeps_the_shape_and_centres_the_pixels():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 32, 32)
    ready = preprocess(images)
    assert ready.shape == images.shape
    assert ready.dtype == torch.float32
    assert_close(ready[0], -ready[1])
