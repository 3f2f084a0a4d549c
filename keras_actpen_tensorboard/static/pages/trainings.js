// All trainings: one number of theirs against another.

import { pointColor, scatterChart } from "../charts/scatter_chart.js";
import { colorStrip, sequentialScale } from "../charts/color_scale.js";
import { h, panel, select } from "../dom.js";
import { count, extent, formatOf, number, words } from "../format.js";
import { ordered } from "../quantities.js";
import { nothing } from "../panels/pair.js";

const AXES = ["x", "y"];

export function create(app) {
  const chart = scatterChart("Trainings as points", (point) => open(point.run));
  const strip = h("div", {});
  const content = panel("Trainings", {
    note: "last epoch of each; a click opens one",
    body: [chart.element, strip],
  });
  const tools = content.querySelector(".tools");
  tools.classList.add("below");
  const body = h("div", { class: "table" });
  const table = panel("Numbers", { note: "of the last epoch", body });
  const element = h("div", { class: "page" }, content, table);
  element.parts = { chart };

  function open(run) {
    app.go({ page: "overview", run, with: null }, true);
  }

  /** What a training can be asked for: `{key, label, group}`. */
  function measures(path) {
    const { model, validation } = app.shown[0];
    const list = [];
    for (const metric of model.metrics) {
      if (validation) list.push({ key: `validation:metric/${metric}`, label: `validation ${metric}`, group: "metrics" });
      list.push({ key: `train:metric/${metric}`, label: `training ${metric}`, group: "metrics" });
    }
    for (const name of ["task_loss", "penalty_total", "penalty_share"]) {
      if (model.groups.includes("Overview")) {
        list.push({ key: `train:Overview/${name}`, label: words(name), group: "loss" });
      }
    }
    for (const place of model.layers.find((one) => one.path === path)?.places ?? []) {
      for (const name of ordered(model.statistics[place.kind] ?? [])) {
        list.push({
          key: `train:${place.kind}.${name}/${place.path}`,
          label: place.kind === "activation" ? words(name) : `${words(name)} (${place.kind})`,
          group: `layer ${path}`,
        });
      }
    }
    return list;
  }

  /** Penalty terms: `{name, path}`, with the path of the layer. */
  function allTerms() {
    return app.shown[0].model.layers.flatMap((layer) =>
      layer.terms.map((term) => ({
        name: `${layer.path}/${term.name}`,
        path: layer.path,
      })),
    );
  }

  /** The term whose coefficient is the color, and the layer that is seen. */
  async function subject() {
    const terms = allTerms();
    const tags = terms.map(({ name }) => `penalty.coefficient/${name}`);
    const term =
      terms.find(({ name }) => name === app.state.get("color")) ??
      widest(await app.store.finals(tags), terms);
    const { layers } = app.shown[0].model;
    const layer =
      layers.find((one) => one.path === app.state.get("layer")) ??
      layers.find((one) => one.path === term?.path) ??
      layers[0];
    return [term?.name, layer?.path];
  }

  function chosen(list, path) {
    const pick = (key, ...wishes) =>
      [app.state.get(key), ...wishes].find((one) => list.some((m) => m.key === one)) ??
      list[0]?.key;
    const metric = app.shown[0].model.metrics.find((name) => !["loss", "learning_rate"].includes(name)) ?? "loss";
    return {
      x: pick("x", `train:activation.zero_fraction/${path}`, "train:Overview/penalty_share"),
      y: pick("y", `validation:metric/${metric}`, `train:metric/${metric}`),
    };
  }

  function drawTools(list, axes, color, path) {
    const focused = document.activeElement?.dataset?.control;
    const groups = [...new Set(list.map((one) => one.group))].map((group) => [
      group,
      list.filter((one) => one.group === group).map(({ key, label }) => [key, label]),
    ]);
    const control = (id, text, element_) => {
      element_.dataset.control = id;
      return h("label", {}, text, element_);
    };
    const { layers } = app.shown[0].model;
    const terms = allTerms();
    tools.replaceChildren(
      control("layer", "layer", select("Layer", layers.map((one) => [one.path, one.path]),
        path, (layer) => app.go({ layer, x: null, y: null }))),
      ...AXES.map((axis) =>
        control(axis, axis, select(`${axis} axis`, groups, axes[axis], (value) => app.go({ [axis]: value })))),
      ...(terms.length
        ? [control("color", "color", select("Color", terms.map(({ name }) => [name, `coefficient of ${name}`]),
            color, (value) => app.go({ color: value })))]
        : []),
    );
    if (focused) tools.querySelector(`[data-control="${focused}"]`)?.focus();
  }

  function drawTable(points, list, axes, color) {
    const label = (key) => list.find((one) => one.key === key)?.label ?? key;
    const numbers = [label(axes.x), label(axes.y), ...(color ? [`coefficient of ${color}`] : [])];
    body.replaceChildren(
      h("table", { class: "data" },
        h("thead", {}, h("tr", {},
          h("th", {}, h("span", {}, "training")),
          h("th", { class: "number" }, h("span", {}, "epochs")),
          numbers.map((name) => h("th", { class: "number" }, h("span", {}, name))))),
        h("tbody", {}, points.map((point) =>
          h("tr", {},
            h("td", {},
              h("i", { class: "swatch", style: { background: pointColor(point.position), marginRight: "8px" } }),
              app.link({ page: "overview", run: point.run, with: null }, point.name)),
            h("td", { class: "number" }, point.step === null ? "–" : String(point.step + 1)),
            h("td", { class: "number" }, formatFor(axes.x)(point.x)),
            h("td", { class: "number" }, formatFor(axes.y)(point.y)),
            color ? h("td", { class: "number" }, number(point.coefficient)) : null)))),
    );
  }

  return {
    element,
    async update() {
      const [color, path] = await subject();
      const list = measures(path);
      const axes = chosen(list, path);
      drawTools(list, axes, color, path);
      const tags = [axes.x, axes.y].map((key) => key?.slice(key.indexOf(":") + 1));
      if (color) tags.push(`penalty.coefficient/${color}`);
      const finals = await app.store.finals(tags.filter(Boolean));
      const points = app.store.trainings.map((training) => ({
        ...training,
        x: valueOf(finals, training, axes.x),
        y: valueOf(finals, training, axes.y),
        coefficient: finals[training.run]?.[`penalty.coefficient/${color}`] ?? null,
      }));
      const values = points.map((point) => point.coefficient).filter((one) => one > 0);
      const range = extent(values);
      const log = range !== null && range[1] / range[0] > 10;
      const scale = sequentialScale(range, log);
      for (const point of points) {
        point.position =
          point.coefficient === null || !range ? null : range[0] === range[1] ? 0.5 : scale.position(point.coefficient);
        point.rows = [axes.x, axes.y].map((key) => [
          pointColor(point.position),
          list.find((one) => one.key === key)?.label ?? "",
          formatFor(key)(key === axes.x ? point.x : point.y),
        ]);
        if (color) {
          point.rows.push([pointColor(point.position), `coefficient of ${color}`, number(point.coefficient)]);
        }
      }
      const drawn = points.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y));
      const label = (key) => list.find((one) => one.key === key)?.label ?? "";
      const axis = (key) => ({ name: label(key), format: formatFor(key) });
      chart.set({ points: drawn, x: axis(axes.x), y: axis(axes.y) });
      const left = points.length - drawn.length;
      strip.replaceChildren(
        range ? h("div", {}, colorStrip(scale, number)) : "",
        drawn.length ? "" : nothing("No training has both numbers yet."),
      );
      content.querySelector("header .note").textContent =
        `last epoch of each of ${count(drawn.length, "training")}; a click opens one` +
        (left ? `; ${count(left, "training")} without these numbers` : "");
      drawTable([...drawn, ...points.filter((one) => !drawn.includes(one))], list, axes, color);
    },
  };
}

function valueOf(finals, training, key) {
  if (!key) return null;
  const [phase, tag] = [key.slice(0, key.indexOf(":")), key.slice(key.indexOf(":") + 1)];
  const run = phase === "validation" ? training.validation : training.run;
  return finals[run]?.[tag] ?? null;
}

function formatFor(key) {
  const [group, ...rest] = (key ?? "").slice((key ?? "").indexOf(":") + 1).split("/");
  if (group === "Overview") return formatOf(rest[0]);
  return formatOf(group.split(".").slice(1).join("."));
}

/** The term whose coefficients differ most among the trainings. */
function widest(finals, terms) {
  const ratio = ({ name }) => {
    const range = extent(
      Object.values(finals).map((of) => of[`penalty.coefficient/${name}`] ?? null),
    );
    return range && range[0] > 0 ? range[1] / range[0] : 1;
  };
  return [...terms].sort((a, b) => ratio(b) - ratio(a))[0];
}
