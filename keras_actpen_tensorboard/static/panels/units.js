// The firing rate of every unit: by epoch, and how the rates are spread.

import { barChart } from "../charts/bar_chart.js";
import { colorStrip, sequentialScale } from "../charts/color_scale.js";
import { heatMap } from "../charts/heat_map.js";
import { h, panel, segments } from "../dom.js";
import { count, extent, percent } from "../format.js";
import { lowestDecade, rateBars } from "../distribution.js";
import { nothing, pair } from "./pair.js";
import { category, ink } from "../theme.js";

/** The two panels: units by epochs, and the histogram of the rates. */
export function unitPanels(app) {
  const maps = pair(heatMap, "Firing rate of every unit by epoch");
  const bars = pair((label) => barChart(label, 260), "Histogram of firing rates");
  const strip = h("div", {});
  const none = h("div", {});
  const mapPanel = panel("Firing rate of every unit", { body: [none, maps.element, strip] });
  const tools = mapPanel.querySelector(".tools");
  const note = mapPanel.querySelector(".note");
  const barPanel = panel("Firing rates, log10", { wide: 6, body: [bars.element] });

  function drawTools(hasValidation) {
    const focused = [...tools.querySelectorAll("button")].indexOf(document.activeElement);
    const choice = (label, key, options, otherwise) =>
      segments(label, options, app.state.get(key, otherwise), (value) =>
        app.go({ [key]: value === otherwise ? null : value }),
      );
    tools.replaceChildren(
      ...(hasValidation
        ? [choice("Phase", "phase", [["train", "training"], ["validation", "validation"]], "train")]
        : []),
      choice("Order of the units", "units", [["own", "in layer order"], ["rate", "by last rate"]], "own"),
      choice("Colors", "unit_scale", [["linear", "linear"], ["log", "log"]], "linear"),
    );
    tools.querySelectorAll("button")[focused]?.focus();
  }

  function drawMaps(items) {
    const log = app.state.get("unit_scale") === "log";
    const isSorted = app.state.get("units") === "rate";
    const all = items.flatMap(({ units }) => units.rates.flatMap((of) => extent(of.filter((r) => !log || r > 0)) ?? []));
    const seen = extent(all) ?? [0.01, 1];
    const scale = sequentialScale([log ? seen[0] : 0, log ? seen[1] : seen[1] > 0.5 ? 1 : seen[1] || 1], log);
    strip.replaceChildren(colorStrip(scale, percent));
    maps.set(items, (map, { units }) => {
      const order = Array.from({ length: units.units }, (_, unit) => unit);
      const latest = units.rates.at(-1);
      if (isSorted) order.sort((a, b) => latest[b] - latest[a] || a - b);
      map.set({
        labels: order.map(String),
        steps: units.steps,
        values: order.map((unit) => units.rates.map((rates) => rates[unit])),
        scale,
        height: Math.min(Math.max(units.units * 12, 60), 440),
        describe: (row, column) => [
          `unit ${order[row]}`,
          `epoch ${units.steps[column]}: ${percent(units.rates[column][order[row]])}`,
          ...(units.positions[column] ? [`of ${units.positions[column]} positions`] : []),
        ],
      });
    });
    const most = Math.max(...items.map(({ units }) => units.units));
    note.textContent = `share of the positions in which a unit is not 0; ${count(most, "unit")}${
      most > 440 ? ", several units per row of pixels as their mean" : ""
    }`;
  }

  function drawBars(items, epoch) {
    const chosen = items.map(({ units }) => {
      const at = units.steps.findLastIndex((step) => step <= (epoch ?? Infinity));
      return at < 0 ? units.steps.length - 1 : at;
    });
    const rates = items.map(({ units }, i) => units.rates[chosen[i]]);
    const low = lowestDecade(rates);
    const counted = rates.map((of) => rateBars(of, low));
    const most = Math.max(1, ...counted.flat().map((bar) => bar.count));
    barPanel.querySelector(".note").textContent = items
      .map(({ units }, i) => {
        const never = counted[i][0].count;
        const positions = units.positions[chosen[i]];
        return `epoch ${units.steps[chosen[i]]}: ${never} of ${count(units.units, "unit")} never fired${positions ? ` in ${positions} positions` : ""}`;
      })
      .join("; ");
    bars.set(
      items.map((item, i) => ({ ...item, bars: counted[i] })),
      (chart, item) =>
        chart.set({
          bars: item.bars.map((bar, i) => ({
            ...bar,
            color: i ? category(0) : ink().other,
            name: i ? `rate ${percent(10 ** bar.left)} to ${percent(10 ** bar.right)}` : "never fired",
          })),
          tick: (value) => (value === low - 1 ? "never" : value < low ? "" : percent(10 ** value)),
          axis: "firing rate",
          most,
          noun: "unit",
        }),
    );
  }

  return {
    elements: [mapPanel, barPanel],
    maps: maps.charts,
    bars: bars.charts,
    /**
     * @param {Array} items `{name, units}` of each training.
     * @param {number|null} epoch
     * @param {boolean} hasValidation
     */
    set(items, epoch, hasValidation) {
      const filled = items.filter((item) => item.units.steps.length);
      const isEmpty = !filled.length;
      none.replaceChildren(
        ...(isEmpty
          ? [nothing("No firing rates are logged: the log is of keras_actpen 0.1.0, no epoch has ended, or the units of this layer are not told apart.")]
          : []),
      );
      maps.element.hidden = strip.hidden = barPanel.hidden = isEmpty;
      if (isEmpty) {
        tools.replaceChildren();
        note.textContent = "";
        return;
      }
      drawTools(hasValidation);
      drawMaps(filled);
      drawBars(filled, epoch);
    },
  };
}
