// Which layer it is, what is penalized of it, and its numbers in an epoch.

import { h, select } from "../dom.js";
import { formatOf, number, percent, words } from "../format.js";
import { ordered } from "../quantities.js";
import { findingsList } from "./findings.js";
import { onSteps } from "./loss.js";
import { nothing } from "./pair.js";

const FIGURES = 9;

/** The first panel of the page of one layer. */
export function layerHead(app) {
  const element = h("section", { class: "panel span-12", "aria-label": "Layer" });

  function controls(layer, place, index, layers, epoch, lastEpoch) {
    const step = (by, text, label) => {
      const target = layers[index + by];
      return h(
        "button",
        {
          type: "button",
          "aria-label": label,
          title: label,
          disabled: !target,
          data: { control: label },
          on: { click: () => app.go({ layer: target.path, place: null }) },
        },
        text,
      );
    };
    const places = layer.places.map((one) => [`${one.kind} ${one.path}`, placeName(one)]);
    const chosen = select("Layer", layers.map((one) => [one.path, one.path]), layer.path,
      (path) => app.go({ layer: path, place: null }));
    chosen.dataset.control = "layer";
    const field = h("input", {
      type: "number",
      min: 0,
      max: lastEpoch,
      value: epoch ?? lastEpoch,
      "aria-label": "Epoch",
      data: { control: "epoch" },
      on: { change: () => app.go({ epoch: field.value === String(lastEpoch) ? null : field.value }) },
    });
    return h(
      "div",
      { class: "layer-head" },
      step(-1, "◀", "previous layer"),
      chosen,
      step(1, "▶", "next layer"),
      places.length > 1
        ? select("Measured", places, `${place.kind} ${place.path}`, (value) => app.go({ place: value }))
        : null,
      h("label", { class: "note" }, "epoch ", field),
      h("p", { class: "note" },
        [`layer ${index + 1} of ${layers.length}`, layer.class, layer.output_shape,
          layer.terms.length ? "" : "watched only"].filter(Boolean).join(" · ")),
    );
  }

  return {
    element,
    empty() {
      element.replaceChildren(nothing("Nothing is attached in this training."));
    },
    /** @param {Object} content `items`, `layer`, `place`, `epoch`. */
    set({ items, layer, place, epoch }) {
      const layers = items[0].training.model.layers;
      const index = layers.findIndex((one) => one.path === layer.path);
      const lastEpoch = Math.max(0, ...items.map((item) => item.training.step ?? 0));
      const focused = document.activeElement?.dataset?.control;
      element.replaceChildren(
        controls(layer, place, index, layers, epoch, lastEpoch),
        ...missing(items, layer),
        figures(items, place, epoch ?? lastEpoch),
        ...items.flatMap((item) => (item.layer?.terms.length ? [termTable(item, items, epoch ?? lastEpoch)] : [])),
        ...items.flatMap((item) => item.findings.length || item.damaged.length
          ? [items.length > 1 ? h("h3", {}, item.name) : "", ...findingsList(app, [item], true)]
          : []),
      );
      if (focused) element.querySelector(`[data-control="${focused}"]`)?.focus();
    },
  };
}

function placeName({ on, output }) {
  return output && output !== "0" ? `${on} ${output}` : on;
}

function missing(items, layer) {
  return items
    .filter((item) => !item.layer)
    .map((item) => h("p", { class: "warning" }, `${item.name} has no layer ${layer.path}.`));
}

function valueAt(curves, series, epoch) {
  if (!curves?.series[series]) return null;
  return onSteps([epoch], curves.steps, curves.series[series])[0];
}

function figures(items, place, epoch) {
  const statistics = ordered(items[0].training.model.statistics[place?.kind] ?? []);
  return h(
    "dl",
    { class: "figures-row" },
    statistics.slice(0, FIGURES).map((name) =>
      h(
        "div",
        { title: items[0].training.model.definitions[name] ?? null },
        h("dt", {}, words(name)),
        items.map((item, i) =>
          h("dd", { class: i ? "second" : "", title: item.name },
            formatOf(name)(valueAt(item.train[`${place.kind}.${name}`], place.path, epoch))),
        ),
      ),
    ),
  );
}

function termTable(item, items, epoch) {
  const { layer, train } = item;
  const cell = (group, term, format) =>
    h("td", { class: "number" }, format(valueAt(train[group], `${layer.path}/${term.name}`, epoch)));
  // Logs of 0.1.0 have no formulas, and neither do user-defined functions.
  const hasFormulas = layer.terms.some((term) => term.formula);
  const heads = ["term", "on", "penalty", ...(hasFormulas ? ["added to the loss"] : [])];
  const numbers = ["coefficient", "value", "share of the loss"];
  return h(
    "div",
    { class: "table" },
    items.length > 1 ? h("h3", {}, item.name) : null,
    h(
      "table",
      { class: "data terms" },
      h("thead", {}, h("tr", {},
        heads.map((name) => h("th", {}, h("span", {}, name))),
        numbers.map((name) => h("th", { class: "number" }, h("span", {}, name))))),
      h("tbody", {}, layer.terms.map((term) =>
        h("tr", {},
          h("td", {}, h("span", { class: "chip" }, term.name)),
          h("td", {}, term.on),
          h("td", { class: "penalty" }, term.penalty),
          hasFormulas ? h("td", { class: "penalty" }, term.formula || "–") : null,
          cell("penalty.coefficient", term, number),
          cell("penalty", term, number),
          cell("penalty.share", term, percent)))),
    ),
  );
}
