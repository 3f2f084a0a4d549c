// Distributions epoch after epoch, one ridge each.

import { axisStyle, chartFrame, tipRows, tipStyle } from "./chart.js";
import { number } from "../format.js";
import { faint, ink } from "../theme.js";
import { roundAxis } from "../ticks.js";

// More ridges than this cannot be told apart.
const MOST = 24;
// Of the distance between two ridges.
const HEIGHT = 2.6;

/**
 * A chart of histograms; each ridge has its own height.
 *
 * @param {string} label What a screen reader says.
 */
export function ridgeChart(label, height = 340) {
  const frame = chartFrame(label, height);
  return {
    element: frame.element,
    /**
     * @param {Object} content
     * @param {number[]} content.steps The epochs.
     * @param {Array} content.buckets For each a list of `[left, right, count]`.
     * @param {string} content.color
     * @param {number[]} content.range Lowest and highest value.
     */
    set({ steps, buckets, color, range }) {
      const chosen = evenly(steps.length, MOST);
      const ridges = chosen.map((index) => ({
        epoch: steps[index],
        rows: buckets[index],
        top: Math.max(...buckets[index].map(density), 0),
        total: buckets[index].reduce((sum, [, , n]) => sum + n, 0),
      }));
      const axis = roundAxis(range, 6);
      frame.set({
        grid: { left: 44, right: 16, top: 52, bottom: 24 },
        xAxis: {
          ...axisStyle(),
          type: "value",
          ...axis,
          axisLine: { onZero: false, lineStyle: { color: ink().axis } },
          axisLabel: { ...axisStyle().axisLabel, formatter: number },
        },
        yAxis: {
          ...axisStyle(),
          type: "value",
          inverse: true,
          min: -0.2,
          max: Math.max(ridges.length - 1, 0.2),
          interval: 1,
          splitLine: { show: false },
          axisLine: { show: false },
          axisLabel: { show: false },
        },
        tooltip: {
          ...tipStyle(),
          trigger: "item",
          formatter: ({ dataIndex }) => describe(ridges[dataIndex], color),
        },
        series: [
          {
            type: "custom",
            name: "distribution",
            clip: false,
            // Behind, so that later ones cover earlier ones.
            data: ridges.map((_, index) => [axis.min, index]),
            renderItem: (_, api) => ridge(api, ridges, api.value(1), color, [axis.min, axis.max]),
          },
        ],
      });
    },
  };
}

function ridge(api, ridges, index, color, range) {
  const { rows, top, epoch } = ridges[index];
  const [, base] = api.coord([0, index]);
  const [, next] = api.coord([0, index + 1]);
  const height = Math.min(HEIGHT * (next - base), 46);
  const x = (value) => api.coord([value, 0])[0];
  const seen = rows.filter(([from, to]) => to > range[0] && from < range[1]);
  const points = seen.map((row) => [
    x((row[0] + row[1]) / 2),
    base - (top ? (density(row) / top) * height : 0),
  ]);
  const outline = seen.length
    ? [[x(seen[0][0]), base], ...points, [x(seen.at(-1)[1]), base]]
    : [];
  const age = ridges.length > 1 ? index / (ridges.length - 1) : 1;
  const [left] = api.coord([api.value(0), 0]);
  const isLabeled = ridges.length <= 14 || index % 2 === (ridges.length - 1) % 2;
  return {
    type: "group",
    children: [
      {
        type: "polygon",
        shape: { points: outline },
        style: {
          fill: faint(color, 0.35 + 0.6 * age),
          stroke: ink().card,
          lineWidth: 1,
        },
      },
      {
        type: "text",
        silent: true,
        style: {
          text: isLabeled ? String(epoch) : "",
          x: left - 8,
          y: base,
          align: "right",
          verticalAlign: "middle",
          fill: ink().muted,
          fontSize: 11,
        },
      },
    ],
  };
}

function describe({ epoch, rows, total, top }, color) {
  const mode = rows.find((row) => density(row) === top);
  return tipRows(`epoch ${epoch}`, [
    [color, "values other than 0", number(total)],
    [color, "from", number(rows[0]?.[0])],
    [color, "most at", number(mode && (mode[0] + mode[1]) / 2)],
    [color, "to", number(rows.at(-1)?.[1])],
  ]);
}

function density([left, right, n]) {
  return right > left ? n / (right - left) : n;
}

/** So many indices, evenly, the first and last with them. */
function evenly(length, most) {
  if (length <= most) return Array.from({ length }, (_, i) => i);
  return Array.from({ length: most }, (_, i) =>
    Math.round((i * (length - 1)) / (most - 1)),
  );
}
