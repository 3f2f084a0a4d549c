// All that is known of one layer.

import { h, select } from "../dom.js";
import { formatOf, number, percent, words } from "../format.js";
import { curvesPanel, phases } from "../panels/curves.js";
import { distributionPanels } from "../panels/distribution.js";
import { layerHead } from "../panels/layer_head.js";
import { unitPanels } from "../panels/units.js";
import { ordered } from "../quantities.js";
import { category } from "../theme.js";

const TERMS = ["penalty", "penalty.share", "penalty.coefficient"];
const DRAWN = ["mean", "std", "rms", "zero_fraction", "dead_fraction"];
const ZEROS = [
  ["zero_fraction", "zeros", 0],
  ["dead_fraction", "dead units", 5],
];
const NO_CURVES = { steps: [], series: {} };

export function create(app) {
  const head = layerHead(app);
  const size = curvesPanel("Size of the activations", {
    note: "band: mean ± standard deviation",
    format: number,
  });
  const zeros = curvesPanel("Zeros and dead units", { format: percent, range: [0, 1] });
  const terms = [
    curvesPanel("Terms", { note: "logarithmic", wide: 4, log: true, format: number }),
    curvesPanel("Share of the loss", { note: "logarithmic", wide: 4, log: true, format: percent }),
    curvesPanel("Coefficients", { note: "logarithmic", wide: 4, log: true, format: number }),
  ];
  const distribution = distributionPanels();
  const units = unitPanels(app);
  const others = curvesPanel("Other statistics", { format: number });
  const otherTools = others.element.querySelector(".tools");
  const [unitMap, rateBars] = units.elements;
  const element = h(
    "div",
    { class: "page" },
    head.element,
    size.element,
    zeros.element,
    terms.map((one) => one.element),
    distribution.elements,
    unitMap,
    rateBars,
    others.element,
  );
  element.parts = { size, zeros, terms, distribution, units, others };

  /** The layer, and the place whose statistics are shown. */
  function chosen() {
    const layers = app.shown.flatMap(({ model }) => model.layers);
    const layer =
      layers.find((one) => one.path === app.state.get("layer")) ?? layers[0];
    const key = app.state.get("place");
    const place =
      layer?.places.find((one) => `${one.kind} ${one.path}` === key) ??
      layer?.places[0];
    return { layer, place };
  }

  async function load(training, layer, place) {
    const { store } = app;
    const own = training.model.layers.find((one) => one.path === layer.path);
    const groups = (training.model.statistics[place?.kind] ?? []).map(
      (name) => `${place.kind}.${name}`,
    );
    const curves = (run) =>
      Promise.all([
        place ? store.curves(run, groups, { path: place.path }) : {},
        store.curves(run, TERMS, { path: layer.path }),
      ]).then(([ofPlace, ofTerms]) => ({ ...ofPlace, ...ofTerms }));
    const validation = training.validation;
    const isValidated = validation && app.state.get("phase") === "validation";
    const tensorRun = isValidated ? validation : training.run;
    const [train, validated, values, rates, found] = await Promise.all([
      curves(training.run),
      validation ? curves(validation) : null,
      place ? store.values(tensorRun, place) : { steps: [], buckets: [] },
      place ? store.units(tensorRun, place) : { steps: [], rates: [], units: 0, positions: [] },
      store.findings(training.run),
    ]);
    return {
      training,
      name: training.name,
      layer: own,
      train,
      validation: validated,
      values,
      units: rates,
      zeros: courseOf((isValidated && validated) || train, place, "zero_fraction"),
      findings: found.findings.filter((one) => one.path === layer.path),
      damaged: found.damaged,
    };
  }

  function drawOthers(items, place, epoch) {
    const names = new Set(
      items.flatMap(({ training }) => training.model.statistics[place?.kind] ?? []),
    );
    const rest = ordered(names).filter((name) => !DRAWN.includes(name));
    const name = rest.includes(app.state.get("statistic"))
      ? app.state.get("statistic")
      : rest[0];
    const focused = otherTools.contains(document.activeElement);
    otherTools.replaceChildren(
      ...(rest.length
        ? [select("Statistic", rest.map((one) => [one, words(one)]), name,
            (statistic) => app.go({ statistic }))]
        : []),
    );
    if (focused) otherTools.querySelector("select")?.focus();
    others.element.querySelector(".note").textContent =
      items[0].training.model.definitions[name] ?? "";
    const shown = name === undefined ? [] : [[name, words(name), 2]];
    others.set(
      items.map((item) => statisticsItem(item, place, shown)),
      epoch,
      formatOf(name ?? ""),
    );
  }

  return {
    element,
    async update() {
      const { layer, place } = chosen();
      if (!layer) {
        head.empty();
        return;
      }
      const items = await app.load((training) => load(training, layer, place));
      element.hidden = !items.length;
      if (!items.length) return;
      const wanted = app.state.get("epoch");
      const epoch = wanted === "" ? null : Number(wanted);
      const hasValidation = items.some(
        (item) => courseOf(item.validation ?? {}, place, "mean").steps.length,
      );
      app.draw(
        () => head.set({ items, layer, place, epoch }),
        () => size.set(items.map((item) => sizeItem(item, place)), epoch),
        () => zeros.set(items.map((item) => statisticsItem(item, place, ZEROS)), epoch),
        ...TERMS.map((group, i) => () =>
          terms[i].set(items.map((item) => termsItem(item, group)), epoch),
        ),
        () => distribution.set(items, epoch),
        () => units.set(items, epoch, hasValidation),
        () => drawOthers(items, place, epoch),
      );
    },
  };
}

/** The course of a statistic at a place: `{steps, values}`. */
function courseOf(curves, place, statistic) {
  const of = curves[`${place?.kind}.${statistic}`];
  const values = of?.series[place?.path];
  return values ? { steps: of.steps, values } : { steps: [], values: [] };
}

function statisticsItem({ name, train, validation }, place, statistics) {
  const first = statistics.map(([id]) => train[`${place?.kind}.${id}`]).find(Boolean);
  const steps = first?.steps ?? [];
  const lines = statistics.flatMap(([id, title, color]) => {
    const group = `${place?.kind}.${id}`;
    return phases(steps, train[group], validation?.[group], place?.path, title, category(color));
  });
  return { name, steps, lines };
}

function sizeItem(item, place) {
  const lines = statisticsItem(item, place, [
    ["mean", "mean", 0],
    ["rms", "root mean square", 1],
  ]);
  const mean = courseOf(item.train, place, "mean");
  const std = courseOf(item.train, place, "std");
  if (mean.values.length && std.values.length === mean.values.length) {
    const edge = (sign) =>
      mean.values.map((value, i) =>
        value === null || std.values[i] === null ? null : value + sign * std.values[i],
      );
    lines.lines.unshift({
      name: "± standard deviation",
      color: category(0),
      values: edge(1),
      lower: edge(-1),
      area: 0.16,
    });
  }
  return lines;
}

function termsItem({ name, layer, train, validation }, group) {
  const curves = train[group] ?? NO_CURVES;
  const lines = (layer?.terms ?? []).flatMap((term, i) =>
    phases(
      curves.steps,
      curves,
      validation?.[group],
      `${layer.path}/${term.name}`,
      term.name,
      category(i),
    ),
  );
  return { name, steps: curves.steps, lines };
}
