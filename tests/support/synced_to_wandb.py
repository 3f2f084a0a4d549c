"""Trains under wandb, offline, and prints the keys that wandb has recorded.

    python synced_to_wandb.py DIRECTORY IMPORT CALLBACK BEFORE AFTER

The last four are README's code: for the terms only a callback and where it
is from, for all else what stands before `wandb.init()` and after `fit`.
"""

import glob
import json
import os
import sys

import tensorboard.summary
import wandb
from models import QUICK, data, sequential
from wandb.proto import wandb_internal_pb2

from keras_actpen import PenaltyMonitor, attach_penalty

# The log format of LevelDB, after a header of wandb's own.
HEADER, BLOCK, RECORD = 7, 32768, 7
ENDS = (1, 4)  # a whole record, or the last part of one
NAMES = {"tensorboard": tensorboard, "wandb": wandb}


def records(path):
    """Records of a .wandb file."""
    with open(path, "rb") as file:
        content = file.read()
    spec, parts = HEADER, b""
    while spec + RECORD <= len(content):
        if BLOCK - spec % BLOCK < RECORD:
            spec += BLOCK - spec % BLOCK
            continue
        size = int.from_bytes(content[spec + 4 : spec + 6], "little")
        kind = content[spec + 6]
        spec += RECORD
        parts += content[spec : spec + size]
        spec += size
        if kind in ENDS:
            yield wandb_internal_pb2.Record.FromString(parts)
            parts = b""


def fit(*callbacks):
    x, y = data()
    model = attach_penalty(sequential(), "dense_4", l2=0.01)
    model.compile("sgd", "mse", **QUICK)
    model.fit(
        x, y, validation_data=(x, y), epochs=2, verbose=0, callbacks=callbacks
    )


def terms_only(where, callback):
    exec(where, NAMES)
    with wandb.init(project="p", mode="offline"):
        fit(PenaltyMonitor(None), eval(callback, NAMES))


def everything(before, after):
    eval(before, NAMES)
    with wandb.init(project="p", mode="offline"):
        fit(PenaltyMonitor("logs", images=True))
        eval(after, NAMES)
        eval(after.replace("train", "validation"), NAMES)


def main():
    directory, *code = sys.argv[1:]
    os.chdir(directory)
    terms_only(*code[:2])
    everything(*code[2:])
    wandb.teardown()  # which waits until the files are whole
    keys = {
        item.key or "/".join(item.nested_key)
        for path in glob.glob("wandb/offline-run-*/*.wandb")
        for record in records(path)
        for item in record.history.item
    }
    print(json.dumps(sorted(keys)))


if __name__ == "__main__":
    main()
