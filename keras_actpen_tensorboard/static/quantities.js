// What a map of layers by epochs can show, and its rows.

import { isShare, words } from "./format.js";

const PENALTIES = ["penalty.share", "penalty", "penalty.coefficient"];
// What people look for comes first.
const ORDER = [
  "zero_fraction", "dead_fraction", "l0", "mean", "std", "rms", "min", "max",
  "nonfinite",
];

/** Statistics of a kind, the most wanted first. */
export function ordered(statistics) {
  const place = (name) => (ORDER.indexOf(name) + 1 || ORDER.length + 1);
  return [...statistics].sort(
    (a, b) => place(a) - place(b) || a.localeCompare(b),
  );
}

/** Choices for `select`: `[heading, [[group, text], ...]]`. */
export function quantityOptions(models) {
  const kinds = new Map();
  const groups = new Set();
  for (const model of models) {
    for (const group of model.groups) groups.add(group);
    for (const [kind, statistics] of Object.entries(model.statistics)) {
      kinds.set(kind, new Set([...(kinds.get(kind) ?? []), ...statistics]));
    }
  }
  const options = [...kinds].map(([kind, statistics]) => [
    `${kind}s`,
    ordered(statistics).map((name) => [`${kind}.${name}`, words(name)]),
  ]);
  const penalties = PENALTIES.filter((group) => groups.has(group));
  if (penalties.length) {
    options.push(["penalties", penalties.map((one) => [one, words(one)])]);
  }
  return options;
}

/** The statistic of a group: `activation.mean` is `mean`. */
export function statisticOf(group) {
  return PENALTIES.includes(group) ? group : group.split(".").slice(1).join(".");
}

/** Whether a group goes from 0 to 1. */
export function isShareGroup(group) {
  return isShare(statisticOf(group));
}

/**
 * Rows of a map in model order: `{key, path, names}`, with the names of the
 * curves that add up to the row.
 */
export function rowsOf(model, group) {
  return model.layers.flatMap((layer) => {
    const names = layer.terms.map((term) => `${layer.path}/${term.name}`);
    if (group === "penalty.coefficient") {
      return names.map((name) => ({ key: name, path: layer.path, names: [name] }));
    }
    if (PENALTIES.includes(group)) {
      return names.length ? [{ key: layer.path, path: layer.path, names }] : [];
    }
    return layer.places
      .filter((place) => place.kind === group.split(".")[0])
      .map((place) => ({
        key: place.path,
        path: layer.path,
        names: [place.path],
      }));
  });
}

/** Rows of all models: those of the first, then what only others have. */
export function commonRows(models, group) {
  const rows = new Map();
  for (const model of models) {
    for (const row of rowsOf(model, group)) {
      if (!rows.has(row.key)) rows.set(row.key, row);
    }
  }
  return [...rows.values()];
}

/** Values of a row at all steps, `null` where nothing is known. */
export function rowValues(curves, row) {
  const parts = row.names.map((name) => curves?.series[name]).filter(Boolean);
  if (!parts.length) return (curves?.steps ?? []).map(() => null);
  return curves.steps.map((_, index) =>
    parts.reduce((sum, values) => {
      const value = values[index];
      if (sum === null || value === null) return sum ?? value;
      return sum + value;
    }, null),
  );
}

/** Whether a name has all the words that are looked for. */
export function matches(name, filter) {
  const lower = name.toLowerCase();
  return filter
    .toLowerCase()
    .split(/\s+/)
    .every((word) => lower.includes(word));
}
