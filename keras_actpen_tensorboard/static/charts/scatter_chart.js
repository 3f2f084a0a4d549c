// Trainings as points: one number of theirs against another.

import { axisStyle, chartFrame, tipRows, tipStyle } from "./chart.js";
import { extent } from "../format.js";
import { ink, sequential } from "../theme.js";
import { roundAxis } from "../ticks.js";

/**
 * A chart of points that can be clicked.
 *
 * @param {string} label What a screen reader says.
 * @param {function(Object): void} onPick Called with the point.
 */
export function scatterChart(label, onPick, height = 420) {
  let shown = [];
  const frame = chartFrame(label, height, ({ dataIndex }) => onPick(shown[dataIndex]));
  return {
    element: frame.element,
    /**
     * @param {Object} content
     * @param {Array} content.points `{name, x, y, position, rows}`, with a
     *     position on the color scale or `null`, and rows of the tooltip.
     * @param {Object} content.x `{name, format}`.
     * @param {Object} content.y The same.
     */
    set({ points, x, y }) {
      shown = points;
      frame.set({
        grid: { left: 16, right: 32, top: 28, bottom: 28, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
        xAxis: axis(x, points.map((point) => point.x), "middle"),
        yAxis: axis(y, points.map((point) => point.y), "end"),
        tooltip: {
          ...tipStyle(),
          trigger: "item",
          formatter: ({ dataIndex }) =>
            tipRows(shown[dataIndex].name, shown[dataIndex].rows),
        },
        series: [
          {
            type: "scatter",
            name: "trainings",
            symbolSize: 14,
            cursor: "pointer",
            data: points.map((point) => ({
              value: [point.x, point.y],
              itemStyle: { color: pointColor(point.position) },
              label: {
                show: points.length <= 12,
                position: "top",
                formatter: () => point.name,
                color: ink().muted,
                fontSize: 11,
              },
            })),
            itemStyle: { borderColor: ink().muted, borderWidth: 1 },
          },
        ],
      });
    },
  };
}

/** Color of a training by the position of its coefficient. */
export function pointColor(position) {
  if (position === null) return ink().other;
  return `rgb(${sequential(position).join(",")})`;
}

function axis({ name, format }, values, place) {
  const [low, high] = extent(values) ?? [0, 1];
  const margin = (high - low || Math.abs(low) || 1) * 0.08;
  // No share of less than nothing where none is.
  const least = low < 0 ? low - margin : Math.max(low - margin, 0);
  return {
    ...axisStyle(),
    type: "value",
    ...roundAxis([least, high + margin], 5),
    name,
    nameLocation: place,
    nameGap: place === "end" ? 10 : 26,
    nameTextStyle: {
      color: ink().muted,
      fontSize: 12,
      align: place === "end" ? "left" : "center",
    },
    axisLabel: { ...axisStyle().axisLabel, formatter: format },
  };
}
