// A training at a glance.

import { h } from "../dom.js";
import { count, last, number, percent } from "../format.js";
import { compositionPanel } from "../panels/composition.js";
import { findingsPanel } from "../panels/findings.js";
import { layerMapPanels } from "../panels/layer_map.js";
import { lossPanel } from "../panels/loss.js";

const GROUPS = ["metric", "Overview", "penalty", "penalty.share"];
const ZEROS = "activation.zero_fraction";

export function create(app) {
  const figures = h("section", { class: "panel figures span-12", "aria-label": "Key figures" });
  const findings = findingsPanel(app);
  const loss = lossPanel();
  const composition = compositionPanel(app);
  const maps = layerMapPanels(app);
  const element = h(
    "div",
    { class: "page" },
    figures,
    findings.element,
    loss.element,
    composition.element,
    maps.elements,
  );
  element.parts = { loss, composition, maps };

  async function load(training) {
    const { store } = app;
    const group = maps.group();
    const run = training.run;
    const validation = training.validation;
    const [train, validated, zeros, trainMap, validationMap, found] =
      await Promise.all([
        store.curves(run, GROUPS),
        validation ? store.curves(validation, GROUPS) : null,
        group === ZEROS ? null : store.curves(run, [ZEROS], { points: 1 }),
        group ? store.curves(run, [group]) : null,
        group && validation ? store.curves(validation, [group]) : null,
        store.findings(run),
      ]);
    return {
      training,
      name: training.name,
      train,
      validation: validated,
      zeros: (zeros ?? trainMap)[ZEROS],
      trainMap: trainMap?.[group],
      validationMap: validationMap?.[group],
      ...found,
    };
  }

  return {
    element,
    async update() {
      const items = await app.load(load);
      element.hidden = !items.length;
      if (!items.length) return;
      app.draw(
        () => figures.replaceChildren(...keyFigures(items)),
        () => findings.set(items),
        () => loss.set(items),
        () => composition.set(items),
        () => maps.set(items),
      );
    },
  };
}

function keyFigures(items) {
  const [{ training }] = items;
  const { model } = training;
  const penalized = model.layers.filter((layer) => layer.terms.length).length;
  const rows = items.map(figuresOf);
  const names = [...new Set(rows.flatMap((row) => [...row.keys()]))];
  return [
    h(
      "div",
      { class: "title" },
      h("h1", {}, items.map((item) => item.name).join(" and ")),
      h(
        "p",
        { class: "note" },
        [
          `keras_actpen ${model.version}`,
          model.model,
          `${count(model.layers.length, "layer")}, ${penalized} penalized`,
        ]
          .filter(Boolean)
          .join(" · "),
      ),
    ),
    h(
      "dl",
      {},
      names.map((name) =>
        h(
          "div",
          {},
          h("dt", {}, name),
          rows.map((row, i) =>
            h(
              "dd",
              { class: i ? "second" : "", title: items[i].name },
              row.get(name) ?? "–",
            ),
          ),
        ),
      ),
    ),
  ];
}

/** Figures of a training by name, in order. */
function figuresOf(item) {
  const { train, validation } = item;
  const figures = new Map();
  const of = (curves, group, name) => last(curves?.[group]?.series[name]);
  const epochs = train.metric.steps.length;
  figures.set("epochs", number(epochs));
  figures.set("loss", number(of(train, "metric", "loss")));
  const hasTerms = of(train, "Overview", "penalty_total") !== null;
  if (hasTerms) {
    figures.set("task loss", number(of(train, "Overview", "task_loss")));
    figures.set("penalties, share of the loss", percent(of(train, "Overview", "penalty_share")));
  }
  const [phase, seen] = validation ? ["validation", validation] : ["training", train];
  const metrics = Object.keys(seen.metric.series).filter(
    (name) => !["loss", "learning_rate"].includes(name),
  );
  for (const name of [...(validation ? ["loss"] : []), ...metrics.slice(0, 2)]) {
    figures.set(`${phase} ${name}`, number(of(seen, "metric", name)));
  }
  const zeros = Object.values(item.zeros?.series ?? {})
    .map(last)
    .filter(Number.isFinite);
  if (zeros.length) {
    const mean = zeros.reduce((sum, value) => sum + value, 0) / zeros.length;
    figures.set("zeros, mean of layers", percent(mean));
  }
  const lastStep = train.metric.steps.at(-1);
  const now = new Set(
    item.findings.filter((f) => f.epoch === lastStep).map((f) => f.path),
  );
  figures.set("layers with findings now", number(now.size));
  return figures;
}
