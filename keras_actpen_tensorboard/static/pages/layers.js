// All layers as a table, in model order or sorted.

import { sparkline } from "../charts/sparkline.js";
import { filterField, h, panel, select } from "../dom.js";
import { commonPrefix, count, formatOf, last, words } from "../format.js";
import { matches, ordered, rowValues } from "../quantities.js";
import { kindClass } from "../panels/findings.js";

const POINTS = 60;
const SHARE = "penalty.share";
const DEFAULT = [SHARE, "zero_fraction", "dead_fraction", "mean", "std", "rms"];

export function create(app) {
  const body = h("div", { class: "table" });
  const content = panel("Layers", { body });
  const note = content.querySelector(".note");
  const tools = content.querySelector(".tools");
  const field = filterField("filter layers", app.state.get("filter"), (filter) =>
    app.go({ filter }),
  );
  const element = h("div", { class: "page" }, content);
  let drawnTools = "";

  function kind() {
    const kinds = Object.keys(app.shown[0].model.statistics);
    const wanted = app.state.get("kind");
    return kinds.includes(wanted) ? wanted : (kinds[0] ?? "activation");
  }

  /** Columns that can be shown, and those that are. */
  function columns() {
    const { model } = app.shown[0];
    const all = ordered(model.statistics[kind()] ?? []);
    if (model.groups.includes(SHARE)) all.unshift(SHARE);
    const wanted = app.state.get("columns");
    const chosen = wanted ? wanted.split(",") : DEFAULT;
    return [all, all.filter((name) => chosen.includes(name))];
  }

  function drawTools() {
    const [all, chosen] = columns();
    const kinds = Object.keys(app.shown[0].model.statistics);
    if (document.activeElement !== field) field.value = app.state.get("filter");
    const key = JSON.stringify([all, kinds, kind(), chosen]);
    if (key === drawnTools) return;
    drawnTools = key;
    const wasOpen = tools.querySelector("details")?.open ?? false;
    const focused = document.activeElement?.dataset?.column;
    const toggle = (name) =>
      app.go({
        columns: (chosen.includes(name)
          ? chosen.filter((one) => one !== name)
          : [...chosen, name]
        ).join(","),
      });
    tools.replaceChildren(
      ...(kinds.length > 1
        ? [select("Measured", kinds.map((one) => [one, `${one}s`]), kind(),
            (value) => app.go({ kind: value }))]
        : []),
      h(
        "details",
        { class: "columns", open: wasOpen },
        h("summary", {}, "columns"),
        h(
          "div",
          {},
          all.map((name) =>
            h(
              "label",
              {},
              h("input", {
                type: "checkbox",
                checked: chosen.includes(name),
                data: { column: name },
                on: { change: () => toggle(name) },
              }),
              words(name),
            ),
          ),
        ),
      ),
      field,
    );
    if (focused) tools.querySelector(`[data-column="${focused}"]`)?.focus();
  }

  async function load(training) {
    const [, chosen] = columns();
    const groups = chosen.map((name) => groupOf(name, kind()));
    const [curves, found] = await Promise.all([
      app.store.curves(training.run, groups, { points: POINTS }),
      app.store.findings(training.run),
    ]);
    return { training, curves, latest: latestKinds(found.findings) };
  }

  function draw(items) {
    const [, chosen] = columns();
    const rows = items[0].training.model.layers.map((layer, index) => ({
      layer,
      index,
      cells: new Map(chosen.map((name) => [name, items.map((item) => cellOf(item, layer, name, kind()))])),
      findings: items.map((item) => item.latest.get(layer.path) ?? []),
    }));
    const prefix = commonPrefix(rows.map((row) => row.layer.path));
    const shown = sorted(
      rows.filter((row) => matches(row.layer.path, app.state.get("filter"))),
      app.state.get("sort"),
      app.state.get("order"),
    );
    note.textContent = [
      shown.length < rows.length
        ? `${shown.length} of ${count(rows.length, "layer")}`
        : count(rows.length, "layer"),
      prefix ? `below ${prefix}` : "",
      items.length > 1
        ? `upper values: ${items[0].training.name}, lower values: ${items[1].training.name}`
        : "last epoch, and the curve over all epochs",
    ].filter(Boolean).join(", ");
    const focused = document.activeElement?.dataset?.sort;
    body.replaceChildren(
      h(
        "table",
        { class: "data" },
        h("thead", {}, h("tr", {},
          heading("#", "index", "number"),
          heading("layer", "path"),
          heading("class, shape", "class"),
          heading("terms", "terms"),
          heading("findings", "findings"),
          chosen.map((name) => heading(words(name), name, "number", definition(name))),
        )),
        h("tbody", {}, shown.map((row) => rowElement(row, prefix, chosen))),
      ),
      ...(shown.length
        ? []
        : [h("p", { class: "nothing" }, "No layer matches this filter.")]),
    );
    if (focused) body.querySelector(`[data-sort="${CSS.escape(focused)}"]`)?.focus();
  }

  function definition(name) {
    return app.shown[0].model.definitions[name] ?? null;
  }

  function heading(text, key, className = "", title = null) {
    const isSorted = (app.state.get("sort") || "index") === key;
    const isDown = app.state.get("order") === "down";
    const next = isSorted ? !isDown : className === "number" && key !== "index";
    const arrow = isDown ? " ↓" : " ↑";
    return h(
      "th",
      {
        class: className,
        title,
        "aria-sort": isSorted ? (isDown ? "descending" : "ascending") : null,
      },
      h(
        "button",
        {
          type: "button",
          data: { sort: key },
          on: {
            click: () =>
              app.go({
                sort: key === "index" ? null : key,
                order: next ? "down" : null,
              }),
          },
        },
        text + (isSorted ? arrow : ""),
      ),
    );
  }

  function rowElement({ layer, index, cells, findings }, prefix, chosen) {
    return h(
      "tr",
      {},
      h("td", { class: "number" }, String(index + 1)),
      h("td", {}, app.link({ page: "layer", layer: layer.path }, layer.path.slice(prefix.length))),
      h("td", {}, layer.class, h("small", {}, layer.output_shape)),
      h("td", {}, layer.terms.length
        ? layer.terms.map((term) => h("span", { class: "chip" }, term.name))
        : h("span", { class: "note" }, "watched")),
      h("td", {}, findings.map((kinds) =>
        h("div", {}, kinds.map((one) => h("span", { class: kindClass(one) }, one, " "))))),
      chosen.map((name) =>
        h("td", { class: "number" }, cells.get(name).map(({ steps, values }, i) =>
          h("div", { class: "cell" },
            h("span", { class: i ? "note" : "" }, formatOf(name)(last(values))),
            sparkline(steps, values)))),
      ),
    );
  }

  return {
    element,
    async update() {
      drawTools();
      const items = await app.load(load);
      element.hidden = !items.length;
      if (items.length) draw(items);
    },
  };
}

function groupOf(name, kind) {
  return name === SHARE ? name : `${kind}.${name}`;
}

/** Course of a quantity at a layer of a training. */
function cellOf({ training, curves }, layer, name, kind) {
  const own = training.model.layers.find((one) => one.path === layer.path);
  const place = own?.places.find((one) => one.kind === kind);
  const names =
    name === SHARE
      ? (own?.terms ?? []).map((term) => `${own.path}/${term.name}`)
      : [place?.path].filter(Boolean);
  const of = curves[groupOf(name, kind)];
  return { steps: of?.steps ?? [], values: rowValues(of, { names }) };
}

/** Kinds of findings by path in the last epoch that has any. */
function latestKinds(findings) {
  const kinds = new Map();
  const lastEpochs = new Map();
  for (const { path, kind, epoch } of findings) {
    if ((lastEpochs.get(path) ?? epoch) !== epoch) continue;
    lastEpochs.set(path, epoch);
    kinds.set(path, [...new Set([...(kinds.get(path) ?? []), kind])]);
  }
  return kinds;
}

const KEYS = {
  index: (row) => row.index,
  path: (row) => row.layer.path,
  class: (row) => row.layer.class,
  terms: (row) => row.layer.terms.map((term) => term.name).join(),
  findings: (row) => row.findings.flat().join() || null,
};

/** Rows by a key; those without a value come last. */
function sorted(rows, key, order) {
  const value =
    KEYS[key || "index"] ?? ((row) => last(row.cells.get(key)?.[0].values));
  const sign = order === "down" ? -1 : 1;
  const known = (row) => {
    const of = value(row);
    return of !== null && of !== undefined && !Number.isNaN(of);
  };
  const compare = (a, b) =>
    typeof a === "string"
      ? a.localeCompare(b, undefined, { numeric: true })
      : a === b ? 0 : a - b;
  return [
    ...rows.filter(known).sort((a, b) => sign * compare(value(a), value(b))),
    ...rows.filter((row) => !known(row)),
  ];
}
