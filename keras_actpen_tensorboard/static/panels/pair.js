// The same chart for every training that is shown, side by side.

import { h } from "../dom.js";

/** @param {function(string): Object} make Makes a chart, given its label. */
export function pair(make, label) {
  const element = h("div", { class: "pair" });
  const slots = [];
  return {
    element,
    charts: () => slots.map(({ chart }) => chart),
    /**
     * @param {Array} items One per training, with its `name`.
     * @param {function(Object, Object): void} fill Fills a chart of an item.
     */
    set(items, fill) {
      while (slots.length > items.length) slots.pop().element.remove();
      items.forEach((item, index) => {
        if (!slots[index]) {
          const chart = make(label);
          const title = h("h3", {});
          slots.push({ chart, title, element: h("div", {}, title, chart.element) });
          element.append(slots[index].element);
        }
        const { title, chart } = slots[index];
        title.textContent = item.name;
        title.hidden = items.length === 1;
        fill(chart, item);
      });
    },
  };
}

/** A message where there is nothing to draw. */
export function nothing(text) {
  return h("p", { class: "nothing" }, text);
}
