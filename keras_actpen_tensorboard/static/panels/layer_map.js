// Layers by epochs, one map per training, and what differs between two.

import { colorStrip, divergingScale, sequentialScale } from "../charts/color_scale.js";
import { heatMap } from "../charts/heat_map.js";
import { filterField, h, panel, segments, select } from "../dom.js";
import { commonPrefix, count, extent, formatOf } from "../format.js";
import {
  commonRows,
  isShareGroup,
  matches,
  quantityOptions,
  rowsOf,
  rowValues,
  statisticOf,
} from "../quantities.js";
import { byCell } from "./findings.js";
import { nothing, pair } from "./pair.js";

/** The panels of the overview: the map, and the difference of two. */
export function layerMapPanels(app) {
  const maps = pair(heatMap, "Layers by epochs");
  const difference = heatMap("Difference of two trainings, layers by epochs");
  const strip = h("div", {});
  const gap = h("div", {});
  const content = panel("Layers by epochs", { body: [gap, maps.element, strip] });
  const note = content.querySelector(".note");
  const tools = content.querySelector(".tools");
  const differenceStrip = h("div", {});
  const differencePanel = panel("Difference", {
    body: [difference.element, differenceStrip],
  });
  const field = filterField("filter layers", app.state.get("filter"), (filter) =>
    app.go({ filter }),
  );
  let drawnTools = "";

  /** The group that is shown. */
  function group() {
    const options = quantityOptions(app.shown.map(({ model }) => model));
    const groups = options.flatMap(([, of]) => of.map(([name]) => name));
    const wanted = app.state.get("quantity", "activation.zero_fraction");
    return groups.includes(wanted) ? wanted : groups[0];
  }

  function drawTools(chosen, hasValidation) {
    const key = JSON.stringify([app.shown.map((t) => t.run), chosen, hasValidation,
      app.state.get("scale"), app.state.get("phase"), app.shown.map((t) => t.model.groups.length)]);
    if (document.activeElement !== field) field.value = app.state.get("filter");
    if (key === drawnTools) return;
    drawnTools = key;
    const focused = [...tools.querySelectorAll("select,button,input")].indexOf(
      document.activeElement,
    );
    tools.replaceChildren(
      ...(hasValidation
        ? [segments(
            "Phase",
            [["train", "training"], ["validation", "validation"]],
            app.state.get("phase", "train"),
            (phase) => app.go({ phase: phase === "train" ? null : phase }),
          )]
        : []),
      select(
        "Statistic",
        quantityOptions(app.shown.map(({ model }) => model)),
        chosen,
        (quantity) => app.go({ quantity }),
      ),
      segments(
        "Colors",
        [["linear", "linear"], ["log", "log"]],
        app.state.get("scale", "linear"),
        (scale) => app.go({ scale: scale === "linear" ? null : scale }),
      ),
      field,
    );
    tools.querySelectorAll("select,button,input")[focused]?.focus();
  }

  function set(items) {
    const chosen = group();
    const models = items.map(({ training }) => training.model);
    const phase = app.state.get("phase", "train");
    const log = app.state.get("scale") === "log";
    const filter = app.state.get("filter");
    const all = chosen ? commonRows(models, chosen) : [];
    const rows = all.filter((row) => matches(row.key, filter));
    const prefix = commonPrefix(all.map((row) => row.key));
    const hasValidation = items.some((item) => item.validationMap?.steps.length);
    drawTools(chosen, hasValidation);
    const format = formatOf(statisticOf(chosen ?? ""));
    const definition = models[0]?.definitions[statisticOf(chosen ?? "")] ?? "";
    note.textContent = [
      count(rows.length, chosen === "penalty.coefficient" ? "term" : "layer") +
        (rows.length < all.length ? ` of ${all.length}` : ""),
      prefix ? `below ${prefix}` : "",
      "in model order",
    ].filter(Boolean).join(", ") + `. ${definition}`;
    const grids = items.map((item) => {
      const curves =
        phase === "validation" && item.validationMap ? item.validationMap : item.trainMap;
      return {
        ...item,
        steps: curves?.steps ?? [],
        values: rows.map((row) => {
          const own = rowsOf(item.training.model, chosen).find((r) => r.key === row.key);
          return rowValues(curves, own ?? row);
        }),
      };
    });
    const isEmpty = !rows.length || grids.every((grid) => !grid.steps.length);
    gap.replaceChildren(
      ...(isEmpty
        ? [nothing(rows.length ? "Nothing is logged yet." : "No layer matches this filter.")]
        : []),
    );
    maps.element.hidden = strip.hidden = isEmpty;
    const numbers = grids.flatMap((grid) => grid.values.flat());
    const scale = scaleFor(numbers, chosen, log);
    strip.replaceChildren(
      colorStrip(scale, format, numbers.some((v) => v !== null && !Number.isFinite(v))),
    );
    const labels = rows.map((row) => row.key.slice(prefix.length));
    maps.set(grids, (map, grid) => {
      const messages = byCell(grid.findings);
      map.set({
        labels,
        steps: grid.steps,
        values: grid.values,
        scale,
        describe: (row, column) => [
          rows[row].key,
          `epoch ${grid.steps[column]}: ${format(grid.values[row][column])}`,
          ...messages(rows[row].path, grid.steps[column]),
        ],
        marks: (row, column) =>
          messages(rows[row].path, grid.steps[column]).length > 0,
        onPick: (row, column) =>
          app.go(
            { page: "layer", layer: rows[row].path, epoch: grid.steps[column],
              run: grid.training.run },
            true,
          ),
      });
    });
    differencePanel.hidden = grids.length < 2 || isEmpty;
    if (!differencePanel.hidden) drawDifference(grids, rows, labels, format, chosen);
  }

  function drawDifference([first, second], rows, labels, format) {
    const title = `${second.name} minus ${first.name}`;
    differencePanel.querySelector(".note").textContent = `${title}, in the epochs of both`;
    const inSecond = new Map(second.steps.map((step, i) => [step, i]));
    const columns = first.steps.flatMap((step, i) =>
      inSecond.has(step) ? [[step, i, inSecond.get(step)]] : [],
    );
    const values = rows.map((_, row) =>
      columns.map(([, a, b]) => {
        const [from, to] = [first.values[row][a], second.values[row][b]];
        return from === null || to === null ? null : to - from;
      }),
    );
    const scale = divergingScale(extent(values.flat()));
    difference.set({
      labels,
      steps: columns.map(([step]) => step),
      values,
      scale,
      describe: (row, column) => [
        rows[row].key,
        `epoch ${columns[column][0]}: ${format(values[row][column])}`,
        title,
      ],
      onPick: (row, column) =>
        app.go({ page: "layer", layer: rows[row].path, epoch: columns[column][0] }, true),
    });
    differenceStrip.replaceChildren(colorStrip(scale, format));
  }

  return { elements: [content, differencePanel], group, set, maps: maps.charts, difference };
}

/** Shares begin at 0; a log scale at the smallest value above 0. */
function scaleFor(values, group, log) {
  const range = extent(log ? values.filter((value) => value > 0) : values);
  if (range && !log && range[0] > 0) range[0] = 0;
  if (range && !log && isShareGroup(group) && range[1] > 0.5) range[1] = 1;
  return sequentialScale(range, log);
}
