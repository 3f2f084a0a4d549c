"""A penalty inside the blocks of a KerasHub BERT classifier, padding left out.

It is on the widest activations there are, those of the feed-forward Dense in
each block, which one glob names. KerasHub hands the padding on as an argument,
`padding_mask`; positions that it marks are not counted, so the penalty of a
batch does not change with the padding behind it.
"""

from pydoc_data.topics import topics

import keras
import keras_hub
import numpy as np

from benchmarks.examples import command_line
from keras_actpen import attach_penalty, penalty_terms
from keras_actpen.penalties import L2

DENSE = "*/feedforward_intermediate_dense"
FULL = {"epochs": 5, "samples": 1000}
QUICK = {"epochs": 2, "samples": 96}


def build() -> keras.Model:
    """A tiny BERT classifier, compiled."""
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=128,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=64,
        name="bert_backbone",
    )
    model = keras_hub.models.BertTextClassifier(backbone, num_classes=2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss)
    return model


def texts(samples: int, length: int) -> tuple[dict, np.ndarray]:
    """Lines of Python's manual, padded; is there a blank at the start?"""
    lines = [s for s in "\n".join(topics.values()).splitlines() if s][:samples]
    ids = np.zeros((samples, length), "int32")
    for row, line in zip(ids, lines, strict=True):
        codes = [min(ord(character), 127) for character in line[:32]]
        row[: len(codes)] = codes
    y = np.array([line[0] == " " for line in lines], "int32")
    mask = (ids > 0).astype("int32")
    segments = np.zeros_like(ids)
    return {
        "token_ids": ids,
        "padding_mask": mask,
        "segment_ids": segments,
    }, y


def run(epochs: int, samples: int) -> command_line.Rows:
    """Train with and without the penalty."""
    x, y = texts(samples, length=32)
    longer, _ = texts(samples, length=64)
    measuring = attach_penalty(build(), DENSE, L2(1.0, reduction="mean"))
    rows = {}
    for title, coefficient in {"plain": 0.0, "L2": 0.1}.items():
        model = build()
        if coefficient:
            penalty = L2(coefficient, reduction="mean")
            model = attach_penalty(model, DENSE, penalty)
        # KerasHub makes a dataset of them, which Keras does not shuffle.
        history = model.fit(
            *(x, y), batch_size=32, epochs=epochs, shuffle=False, verbose=0
        )
        measuring.set_weights(model.get_weights())
        square = sum(penalty_terms(measuring, x, verbose=0).values())
        padded = sum(penalty_terms(measuring, longer, verbose=0).values())
        rows[title] = {
            "mean square in the blocks": square,
            "the same with more padding": padded,
            "loss": history.history["loss"][-1],
        }
    return rows


if __name__ == "__main__":
    command_line.main(run, "A penalty inside the blocks of BERT.", FULL, QUICK)
