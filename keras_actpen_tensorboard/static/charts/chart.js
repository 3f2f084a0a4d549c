// What all charts of ECharts have in common.

import { init } from "../echarts.js";
import { h } from "../dom.js";
import { ink } from "../theme.js";

const FONT =
  'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

/**
 * An element with a chart in it, which follows the element's size.
 *
 * @param {string} label What a screen reader says.
 * @param {number} height In pixels.
 * @param {function(Object): void} [onClick] Called with what is clicked.
 */
export function chartFrame(label, height, onClick = () => {}) {
  const element = h("div", {
    class: "chart",
    role: "img",
    "aria-label": label,
    style: { height: `${height}px` },
  });
  let chart = null;
  let option = null;
  const draw = () => {
    if (!option || !element.clientWidth) return;
    if (!chart) {
      chart = init(element, null, { renderer: "canvas" });
      chart.on("click", onClick);
      chart.setOption(option, { notMerge: true });
    }
    chart.resize();
  };
  new ResizeObserver(draw).observe(element);
  return {
    element,
    /** Show an option of ECharts instead of what is shown. */
    set(next) {
      option = {
        animation: false,
        textStyle: { fontFamily: FONT, color: ink().text },
        ...next,
      };
      if (chart) chart.setOption(option, { notMerge: true });
      else draw();
    },
  };
}

/** The frame of the axes, in our colors. */
export function axisStyle() {
  return {
    axisLine: { lineStyle: { color: ink().axis } },
    axisTick: { show: false },
    axisLabel: { color: ink().muted, fontSize: 11, hideOverlap: true },
    splitLine: { lineStyle: { color: ink().line } },
    nameTextStyle: { color: ink().muted, fontSize: 11 },
  };
}

/** The look of tooltips. */
export function tipStyle() {
  return {
    confine: true,
    backgroundColor: "transparent",
    borderWidth: 0,
    padding: 0,
    extraCssText: "box-shadow: none",
    transitionDuration: 0,
  };
}

/** Rows of a tooltip: color, name, value. */
export function tipRows(title, rows) {
  return h(
    "div",
    { class: "tip-card" },
    h("strong", {}, title),
    h(
      "table",
      {},
      rows.map(([color, name, value]) =>
        h(
          "tr",
          {},
          h("td", {}, h("i", { class: "swatch", style: { background: color } })),
          h("td", {}, name),
          h("td", { class: "number" }, value),
        ),
      ),
    ),
  );
}
