"""What PenaltyMonitor writes of a real training, read by the tab."""

import base64

import event_logs
import keras
import numpy as np
import pytest

from keras_actpen import PenaltyMonitor, attach_penalty

EPOCHS = 3
TRAIN, VALIDATION = "actpen/train", "actpen/validation"
PLACE = {"kind": "activation", "path": "hidden"}


@pytest.fixture
def trained(tmp_path, client_of):
    """A client of the log of a training, and that log."""
    model = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Dense(6, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="logits"),
        ]
    )
    model.compile("sgd", "mse", metrics=["mae"])
    model = attach_penalty(model, "hidden", l1=0.5, l2=0.1)
    model = attach_penalty(model, "logits", l2=0.01)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(64, 4)), random.normal(size=(64, 3))
    model.fit(
        x,
        y,
        epochs=EPOCHS,
        validation_data=(x, y),
        verbose=0,
        callbacks=[
            PenaltyMonitor(
                tmp_path,
                alerts={"dominating": 0.01},
                on_finding=None,
                validation_statistics=True,
            )
        ],
    )
    return client_of(tmp_path), event_logs.read(tmp_path)


@pytest.mark.filterwarnings("ignore:.*of the loss")
def test_a_real_training(trained):
    client, log = trained
    (training,) = client.ask("trainings")["trainings"]
    assert (training["run"], training["step"]) == (TRAIN, EPOCHS - 1)
    assert training["validation"] == VALIDATION
    model = client.ask("training", run=TRAIN)
    hidden, logits = model["layers"]
    assert (hidden["path"], logits["path"]) == ("hidden", "logits")
    assert (hidden["class"], hidden["output_shape"]) == ("Dense", "(None, 6)")
    assert [(t["name"], t["coefficient"]) for t in hidden["terms"]] == [
        ("l1", 0.5),
        ("l2", 0.1),
    ]
    assert hidden["places"][0] == {"on": "output", "output": "0", **PLACE}
    for run in (TRAIN, VALIDATION):
        for statistic in model["statistics"]["activation"]:
            group = f"activation.{statistic}"
            curves = client.ask("curves", run=run, group=group)["groups"]
            assert curves[group]["series"] == {
                path: [float(v) for v in log[run][f"{group}/{path}"].values]
                for path in ("hidden", "logits")
                if f"{group}/{path}" in log[run]
            }
        assert_tensors(client, log, run)
    found = client.ask("findings", run=TRAIN)
    assert found["damaged"] == []
    shares = {
        epoch: float(l1 + l2)
        for epoch, (l1, l2) in enumerate(
            zip(
                log[TRAIN]["penalty.share/hidden/l1"].values,
                log[TRAIN]["penalty.share/hidden/l2"].values,
                strict=True,
            )
        )
    }
    values = {
        one["epoch"]: one["value"]
        for one in found["findings"]
        if (one["kind"], one["path"]) == ("dominating", "hidden")
    }
    assert values == pytest.approx(shares, rel=1e-5)


def assert_tensors(client, log, run):
    """Units and histograms agree with the curves and the stock page."""
    units = client.ask("units", run=run, **PLACE)
    assert units["steps"] == list(range(EPOCHS))
    rates = np.frombuffer(base64.b64decode(units["rates"]), "<f2")
    rates = rates.reshape(EPOCHS, 6).astype(float)
    zeros = log[run]["activation.zero_fraction/hidden"].values
    np.testing.assert_allclose(1 - rates.mean(axis=1), zeros, atol=1e-3)
    # Whole positions fired.
    positions = np.array(units["positions"])[:, None]
    np.testing.assert_allclose(
        rates * positions, np.round(rates * positions), atol=0.1
    )
    values = client.ask("values", run=run, **PLACE)
    stock = log[run].get("activation.values/hidden")
    if stock is not None:
        np.testing.assert_array_equal(values["buckets"], np.array(stock.values))
