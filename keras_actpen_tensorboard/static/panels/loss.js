// The loss and the task loss, training and validation.

import { lineChart } from "../charts/line_chart.js";
import { legend } from "../charts/legend.js";
import { panel } from "../dom.js";
import { extent, number } from "../format.js";
import { pair } from "./pair.js";
import { category } from "../theme.js";
import { withZero } from "../ticks.js";

const CURVES = [
  ["loss", "metric", "loss", 0],
  ["task loss", "Overview", "task_loss", 1],
];

/** The panel of the overview. */
export function lossPanel() {
  const charts = pair(lineChart, "Loss by epoch");
  let items = [];
  const switches = legend(() => draw());

  function linesOf(item) {
    return [
      ["", item.train],
      [", validation", item.validation],
    ].flatMap(([suffix, curves]) =>
      CURVES.flatMap(([name, group, series, color]) => {
        const values = curves?.[group]?.series[series];
        if (!values) return [];
        return {
          name: name + suffix,
          color: category(color),
          dashed: suffix !== "",
          // A validation may be missing in some epochs.
          values: onSteps(item.train.metric.steps, curves[group].steps, values),
        };
      }),
    );
  }

  function draw() {
    const lines = items.map(linesOf);
    const entries = new Map(lines.flat().map((line) => [line.name, line]));
    switches.set([...entries.values()]);
    const shown = lines.map((of) => of.filter((line) => switches.shows(line.name)));
    const range = extent(shown.flat().flatMap((line) => line.values));
    charts.set(
      items.map((item, i) => ({ ...item, lines: shown[i] })),
      (chart, item) =>
        chart.set({
          steps: item.train.metric.steps,
          lines: item.lines,
          format: number,
          range: range && withZero(range),
        }),
    );
  }

  return {
    element: panel("Loss", {
      note: "with the penalties, and without (task loss)",
      body: [switches.element, charts.element],
      wide: 7,
    }),
    charts: charts.charts,
    set(next) {
      items = next;
      draw();
    },
  };
}

/** Values on other steps, `null` where there is none. */
export function onSteps(steps, from, values) {
  const at = new Map(from.map((step, index) => [step, values[index]]));
  return steps.map((step) => at.get(step) ?? null);
}
