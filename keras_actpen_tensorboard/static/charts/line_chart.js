// Curves over epochs: lines, stacked areas, bands.

import { axisStyle, chartFrame, tipRows, tipStyle } from "./chart.js";
import { faint, ink } from "../theme.js";
import { decades, niceStep, roundAxis } from "../ticks.js";

const LABEL_WIDTH = 46;

/**
 * A chart of curves.
 *
 * @param {string} label What a screen reader says.
 * @param {number} height In pixels.
 */
export function lineChart(label, height = 240) {
  const frame = chartFrame(label, height);
  return {
    element: frame.element,
    /**
     * @param {Object} content
     * @param {number[]} content.steps The epochs.
     * @param {Array} content.lines `{name, color, values}` and of these:
     *     `dashed`, `width`, `area` (opacity of the area below), `stack`
     *     (stacked on what is before it), `lower` (the line is the upper edge
     *     of a band from there, with the opacity `area`).
     * @param {function(number): string} content.format
     * @param {boolean} [content.log] Whether the axis is logarithmic.
     * @param {number[]|null} [content.range] Lowest and highest value.
     * @param {number|null} [content.mark] An epoch to point at.
     */
    set({ steps, lines, format, log = false, range = null, mark = null }) {
      const shown = lines.map((line) => ({
        ...line,
        values: line.values.map((value) => drawable(value, log)),
      }));
      // Read at each drawing: a second chart beside it takes half the width.
      const every = () =>
        niceStep((steps.length * LABEL_WIDTH) / frame.element.clientWidth);
      frame.set({
        grid: { left: 8, right: 16, top: 10, bottom: 24, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
        xAxis: {
          ...axisStyle(),
          type: "category",
          boundaryGap: false,
          data: steps.map(String),
          name: "epoch",
          nameLocation: "middle",
          nameGap: 24,
          splitLine: { show: false },
          axisLabel: { ...axisStyle().axisLabel, interval: (index) => index % every() === 0 },
        },
        yAxis: {
          ...axisStyle(),
          type: log ? "log" : "value",
          ...(log ? decades(range) : roundAxis(range)),
          axisLine: { show: false },
          axisLabel: { ...axisStyle().axisLabel, formatter: format },
        },
        tooltip: {
          ...tipStyle(),
          trigger: "axis",
          axisPointer: { lineStyle: { color: ink().axis, type: "solid" } },
          formatter: ([{ dataIndex }]) =>
            tipRows(
              `epoch ${steps[dataIndex]}`,
              lines.map(({ name, color, values }) => [
                color,
                name,
                format(values[dataIndex]),
              ]),
            ),
        },
        series: [
          ...shown.flatMap((line) => seriesOf(line, steps.length)),
          ...markOf(steps.indexOf(mark)),
        ],
      });
    },
  };
}

function seriesOf(line, points) {
  const common = {
    type: "line",
    name: line.name,
    symbol: "circle",
    // A single epoch makes no line.
    showSymbol: points === 1,
    symbolSize: 5,
    lineStyle: {
      color: line.color,
      width: line.width ?? 2,
      type: line.dashed ? [5, 4] : "solid",
    },
    itemStyle: { color: line.color },
    emphasis: { disabled: true },
    connectNulls: true,
  };
  if (line.lower) {
    const stack = `band ${line.name}`;
    return [
      {
        ...common,
        name: `${line.name} (lower)`,
        stack,
        stackStrategy: "all",
        data: line.lower,
        lineStyle: { width: 0 },
        showSymbol: false,
        tooltip: { show: false },
      },
      {
        ...common,
        stack,
        stackStrategy: "all",
        data: line.values.map((high, i) =>
          high === null || line.lower[i] === null ? null : high - line.lower[i],
        ),
        lineStyle: { width: 0 },
        showSymbol: false,
        areaStyle: { color: faint(line.color, line.area ?? 0.2) },
      },
    ];
  }
  return [
    {
      ...common,
      data: line.values,
      stack: line.stack ? "all" : undefined,
      areaStyle: line.area
        ? { color: line.color, opacity: line.area }
        : undefined,
    },
  ];
}

/** An upright line. */
function markOf(index) {
  if (index < 0) return [];
  return [
    {
      type: "custom",
      name: "epoch",
      silent: true,
      tooltip: { show: false },
      encode: { x: 0, y: -1 },
      data: [[index]],
      renderItem: ({ coordSys }, api) => {
        const x = api.coord([api.value(0), 1])[0];
        const { y, height } = coordSys;
        return {
          type: "line",
          shape: { x1: x, x2: x, y1: y, y2: y + height },
          style: { stroke: ink().muted, lineDash: [3, 3] },
        };
      },
    },
  ];
}

/** What can be drawn: neither NaN nor infinity, nor 0 on a log axis. */
function drawable(value, log) {
  if (value === null || !Number.isFinite(value)) return null;
  return log && value <= 0 ? null : value;
}
