// A histogram.

import { axisStyle, chartFrame, tipRows, tipStyle } from "./chart.js";
import { count } from "../format.js";
import { roundAxis } from "../ticks.js";

/**
 * A chart of counted bars.
 *
 * @param {string} label What a screen reader says.
 */
export function barChart(label, height = 240) {
  const frame = chartFrame(label, height);
  return {
    element: frame.element,
    /**
     * @param {Object} content
     * @param {Array} content.bars `{left, right, count, color, name}`.
     * @param {function(number): string} content.tick Labels of the x axis.
     * @param {string} content.axis Name of the x axis.
     * @param {number} content.most Upper end of the y axis.
     * @param {string} content.noun What is counted.
     */
    set({ bars, tick, axis, most, noun }) {
      frame.set({
        grid: { left: 44, right: 16, top: 10, bottom: 40 },
        xAxis: {
          ...axisStyle(),
          type: "value",
          min: bars[0]?.left ?? 0,
          max: bars.at(-1)?.right ?? 1,
          interval: 1,
          name: axis,
          nameLocation: "middle",
          nameGap: 24,
          splitLine: { show: false },
          axisLabel: { ...axisStyle().axisLabel, formatter: tick },
        },
        yAxis: {
          ...axisStyle(),
          type: "value",
          ...roundAxis([0, Math.max(most, 4)]),
          axisLine: { show: false },
        },
        tooltip: {
          ...tipStyle(),
          trigger: "item",
          formatter: ({ dataIndex }) => {
            const bar = bars[dataIndex];
            return tipRows(bar.name, [
              [bar.color, count(bar.count, noun), ""],
            ]);
          },
        },
        series: [
          {
            type: "custom",
            name: noun,
            data: bars.map((bar) => [bar.left, bar.right, bar.count]),
            encode: { x: [0, 1], y: 2 },
            renderItem: ({ dataIndex }, api) => {
              const [x, y] = api.coord([api.value(0), api.value(2)]);
              const [end, base] = api.coord([api.value(1), 0]);
              return {
                type: "rect",
                shape: {
                  x: x + 1,
                  y,
                  width: Math.max(end - x - 2, 1),
                  height: base - y,
                  r: [2, 2, 0, 0],
                },
                style: { fill: bars[dataIndex].color },
              };
            },
          },
        ],
      });
    },
  };
}
