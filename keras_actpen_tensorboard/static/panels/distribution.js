// How the values of a layer are distributed, epoch after epoch.

import { lineChart } from "../charts/line_chart.js";
import { legend } from "../charts/legend.js";
import { ridgeChart } from "../charts/ridge_chart.js";
import { h, panel } from "../dom.js";
import { quantile } from "../distribution.js";
import { extent, number } from "../format.js";
import { onSteps } from "./loss.js";
import { nothing, pair } from "./pair.js";
import { category, faint } from "../theme.js";
import { withZero } from "../ticks.js";

// Outermost first: later ones are drawn on top.
const BANDS = [
  ["1 to 99 %", 0.01, 0.99, 0.16],
  ["5 to 95 %", 0.05, 0.95, 0.26],
  ["25 to 75 %", 0.25, 0.75, 0.42],
];

// What the ridges show; a single value far out would flatten the rest.
const TAILS = [0.001, 0.999];

/** The two panels: ridges and percentiles. */
export function distributionPanels() {
  const ridges = pair(ridgeChart, "Distribution of the values by epoch");
  const bands = pair((label) => lineChart(label, 310), "Percentiles by epoch");
  const switches = legend(() => draw());
  let items = [];
  let epoch = null;
  const none = h("div", {});
  const ridgePanel = panel("Distribution", {
    note: "values other than 0 by epoch, all but the outermost 0.1 %",
    wide: 6,
    body: [none, ridges.element],
  });
  const bandPanel = panel("Percentiles", {
    note: "of all values, zeros included",
    wide: 6,
    body: [switches.element, bands.element],
  });

  function draw() {
    const filled = items.filter((item) => item.values.steps.length);
    const isEmpty = !filled.length;
    none.replaceChildren(
      ...(isEmpty
        ? [nothing("No histogram is logged: histogram_freq is 0, or no epoch has ended.")]
        : []),
    );
    ridges.element.hidden = isEmpty;
    bandPanel.hidden = isEmpty;
    if (isEmpty) return;
    const edges = filled.flatMap(({ values }) =>
      values.buckets.flatMap((rows) =>
        rows.length ? TAILS.map((q) => quantile(rows, 0, q)) : [],
      ),
    );
    const range = withZero(extent(edges) ?? [0, 1]);
    ridges.set(filled, (chart, { values }) =>
      chart.set({ ...values, color: category(5), range }),
    );
    const color = category(1);
    const lines = filled.map((item) => bandLines(item, color));
    switches.set(
      lines[0].map((line) => ({
        ...line,
        color: line.lower ? faint(line.color, 2 * line.area) : line.color,
        filled: Boolean(line.lower),
      })),
    );
    const shown = lines.map((of) => of.filter((line) => switches.shows(line.name)));
    const seen = extent(shown.flat().flatMap((line) => [...line.values, ...(line.lower ?? [])]));
    bands.set(
      filled.map((item, i) => ({ ...item, lines: shown[i] })),
      (chart, item) =>
        chart.set({
          steps: item.values.steps,
          lines: item.lines,
          format: number,
          mark: epoch,
          range: seen && withZero(seen),
        }),
    );
  }

  return {
    elements: [ridgePanel, bandPanel],
    ridges: ridges.charts,
    bands: bands.charts,
    /**
     * @param {Array} next `{name, values, zeros}` of each training: histograms
     *     and the curves of `zero_fraction`, as `{steps, values}`.
     * @param {number|null} nextEpoch
     */
    set(next, nextEpoch) {
      items = next;
      epoch = nextEpoch;
      draw();
    },
  };
}

/** The bands and the median of a training. */
function bandLines({ values, zeros }, color) {
  const shares = onSteps(values.steps, zeros.steps, zeros.values);
  const at = (q) =>
    values.buckets.map((rows, i) => quantile(rows, shares[i] ?? 0, q));
  return [
    ...BANDS.map(([name, low, high, area]) => ({
      name,
      color,
      area,
      lower: at(low),
      values: at(high),
    })),
    { name: "median", color: category(5), values: at(0.5) },
  ];
}
