// What the loss is made of: penalty terms, stacked.

import { lineChart } from "../charts/line_chart.js";
import { legend } from "../charts/legend.js";
import { panel, segments } from "../dom.js";
import { last, number, percent } from "../format.js";
import { pair } from "./pair.js";
import { category, ink } from "../theme.js";

// More bands than this cannot be told apart.
const MOST = 8;

/** The panel of the overview. */
export function compositionPanel(app) {
  const charts = pair((label) => lineChart(label, 260), "Share of each term");
  const switches = legend(() => draw());
  const content = panel("What the loss is made of", {
    body: [switches.element, charts.element],
  });
  const note = content.querySelector(".note");
  const tools = content.querySelector(".tools");
  let items = [];

  function draw() {
    const isValue = app.state.get("terms") === "value";
    const phase = app.state.get("phase", "train");
    const group = isValue ? "penalty" : "penalty.share";
    const curvesOf = (item) => (item[phase] ?? item.train)[group];
    const hasValidation = items.some((item) => item.validation?.[group]);
    const isOpen = app.state.get("others") === "open";
    const ranked = rank(items.map(curvesOf));
    const single = ranked.length > MOST + 1 ? ranked.slice(0, MOST) : ranked;
    const rest = ranked.slice(single.length);
    const others = `${rest.length} others`;
    const toggle = () => app.go({ others: isOpen ? null : "open" });
    const sums = items.map((item) => {
      const curves = curvesOf(item);
      return curves.steps.map((_, i) =>
        Object.values(curves.series).reduce((sum, of) => sum + (of[i] || 0), 0),
      );
    });
    const most = Math.max(0, ...sums.flat().filter(Number.isFinite));
    // A small share would be invisible on an axis up to 100 %.
    const end = !isValue && most > 0.4 ? 1 : null;
    switches.set([
      ...single.map((name, i) => ({ name, color: category(i), filled: true })),
      ...(rest.length
        ? [{
            name: isOpen ? `${others} – hide` : `${others} – show`,
            color: ink().other,
            filled: true,
            onOpen: toggle,
          }]
        : []),
      ...(end ? [{ name: "task", color: ink().rest, filled: true }] : []),
    ]);
    note.textContent = isValue
      ? "coefficient times value of each penalty term"
      : end
        ? "each penalty term's share of the loss"
        : `each penalty term's share of the loss; the task, ${percent(1 - last(sums[0] ?? [0]))} in the last epoch, fills the rest up to 100 %`;
    tools.replaceChildren(
      ...(hasValidation
        ? [segments(
            "Phase",
            [["train", "training"], ["validation", "validation"]],
            phase,
            (value) => app.go({ phase: value === "train" ? null : value }),
          )]
        : []),
      segments(
        "Terms as",
        [["share", "share"], ["value", "value"]],
        isValue ? "value" : "share",
        (value) => app.go({ terms: value === "share" ? null : value }),
      ),
    );
    charts.set(items, (chart, item) => {
      const curves = curvesOf(item);
      const lines = single
        .filter((name) => switches.shows(name) && curves.series[name])
        .map((name) => band(name, category(ranked.indexOf(name)), curves.series[name]));
      if (rest.length && isOpen) {
        rest.forEach((name, i) => {
          const values = curves.series[name];
          if (values) lines.push(band(name, ink().other, values, i % 2 ? 0.85 : 0.5));
        });
      } else if (rest.length) {
        const sum = curves.steps.map((_, i) =>
          rest.reduce((all, name) => all + (curves.series[name]?.[i] || 0), 0),
        );
        lines.push(band(others, ink().other, sum));
      }
      if (end && switches.shows("task")) {
        const sum = sums[items.indexOf(item)];
        lines.push({ ...band("task", ink().rest, sum.map((of) => Math.max(1 - of, 0)), 1), width: 0 });
      }
      chart.set({
        steps: curves.steps,
        lines,
        format: isValue ? number : percent,
        range: [0, end ?? (most || 1)],
      });
    });
  }

  return {
    element: content,
    charts: charts.charts,
    set(next) {
      items = next.filter((item) => item.train["penalty.share"]?.steps.length);
      content.hidden = !items.length;
      if (items.length) draw();
    },
  };
}

function band(name, color, values, area = 0.78) {
  return { name, color, values, area, stack: true, width: 1 };
}

/** Names of all terms, the largest first. */
function rank(curves) {
  const sizes = new Map();
  for (const { series } of curves) {
    for (const [name, values] of Object.entries(series)) {
      const size = Math.abs(last(values) ?? 0) || 0;
      sizes.set(name, Math.max(sizes.get(name) ?? 0, size));
    }
  }
  return [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a));
}
