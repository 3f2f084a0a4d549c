// What to do where nothing is logged.

import { h } from "../dom.js";

const EXAMPLE = `from keras_actpen import PenaltyMonitor, attach_penalty

model = attach_penalty(model, "dense_4", l2=0.01)
model.fit(x, y, validation_data=val, callbacks=[PenaltyMonitor("logs")])`;

/** The page of an empty log. */
export function emptyLog() {
  return h(
    "section",
    { class: "panel empty" },
    h("h1", {}, "No activations are logged here yet"),
    h(
      "p",
      {},
      "This tab shows what PenaltyMonitor of keras_actpen writes. Penalize or watch layers of your model and train it with the callback:",
    ),
    h("pre", {}, EXAMPLE),
    h(
      "p",
      {},
      "Then start TensorBoard on the same directory. A training shows up here within seconds after it has begun.",
    ),
    h("pre", {}, "tensorboard --logdir logs"),
  );
}
