// A panel of curves of one layer, training and validation.

import { lineChart } from "../charts/line_chart.js";
import { legend } from "../charts/legend.js";
import { panel } from "../dom.js";
import { extent } from "../format.js";
import { onSteps } from "./loss.js";
import { pair } from "./pair.js";
import { withZero } from "../ticks.js";

/**
 * @param {string} title
 * @param {Object} options `note`, `wide`, `log`, `range` (of the values), and
 *     `format`.
 */
export function curvesPanel(title, { note = "", wide = 6, log = false, format, range = null }) {
  const charts = pair((label) => lineChart(label, 220), title);
  const switches = legend(() => draw());
  const element = panel(title, { note, wide, body: [switches.element, charts.element] });
  let items = [];
  let mark = null;
  let writes = format;

  function draw() {
    const entries = new Map();
    for (const { lines } of items) {
      for (const line of lines) {
        if (!entries.has(line.name)) entries.set(line.name, line);
      }
    }
    switches.set([...entries.values()].map((line) => ({ ...line, filled: !!line.lower })));
    const shown = items.map((item) => ({
      ...item,
      lines: item.lines.filter((line) => switches.shows(line.name)),
    }));
    const numbers = shown.flatMap(({ lines }) =>
      lines.flatMap((line) => [...line.values, ...(line.lower ?? [])]),
    );
    const seen = extent(log ? numbers.filter((value) => value > 0) : numbers);
    charts.set(shown, (chart, { steps, lines }) =>
      chart.set({ steps, lines, format: writes, log, mark, range: range ?? (seen && !log ? withZero(seen) : seen) }),
    );
  }

  return {
    element,
    charts: charts.charts,
    /**
     * @param {Array} next `{name, steps, lines}` of each training.
     * @param {number|null} epoch Where a line is drawn.
     * @param {function(number): string} [nextFormat]
     */
    set(next, epoch, nextFormat = format) {
      items = next;
      mark = epoch;
      writes = nextFormat;
      element.hidden = !items.some(({ lines }) => lines.length);
      if (!element.hidden) draw();
    },
  };
}

/**
 * Lines of a training and, dashed, of its validation.
 *
 * @param {number[]} steps Those of the training.
 * @param {Object} train Curves of one group: `{steps, series}`.
 * @param {Object|null} validation The same.
 * @param {string} series Name in them.
 * @param {string} name
 * @param {string} color
 */
export function phases(steps, train, validation, series, name, color) {
  return [
    [train, name, false],
    [validation, `${name}, validation`, true],
  ].flatMap(([curves, title, dashed]) => {
    const values = curves?.series[series];
    if (!values) return [];
    return { name: title, color, dashed, values: onSteps(steps, curves.steps, values) };
  });
}
