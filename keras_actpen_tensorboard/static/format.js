// Numbers and names, as short as they can be.

const SHARES = new Set([
  "zero_fraction",
  "dead_fraction",
  "dormant_fraction",
  "saturated_fraction",
  "penalty.share",
  "penalty_share",
]);
const WORDS = {
  zero_fraction: "zeros",
  dead_fraction: "dead units",
  dormant_fraction: "dormant units",
  saturated_fraction: "saturated",
  nonfinite: "NaN and infinite",
  l0: "units that fire",
  "penalty.share": "share of the loss",
  "penalty.coefficient": "coefficient",
  penalty: "penalty",
  penalty_share: "penalties, share of the loss",
  penalty_total: "penalties",
  task_loss: "task loss",
};

/** Three digits: `0.0123`, `1.2e-5`, `1.23M`. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (Number.isInteger(value) && size < 1e6) return sign(String(value));
  if (size >= 1e5 || size < 1e-3) {
    return sign(
      value.toExponential(1).replace("e+", "e").replace(".0e", "e"),
    );
  }
  return sign(String(Number(value.toPrecision(3))));
}

/** `84 %`, `1.2 %`, `0.031 %`. */
export function percent(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) {
    return number(value);
  }
  const of100 = 100 * value;
  const size = Math.abs(of100);
  if (size >= 10 || size === 0) return `${sign(of100.toFixed(0))} %`;
  return `${sign(String(Number(of100.toPrecision(2))))} %`;
}

function sign(text) {
  return text.replace(/^-/, "−");
}

/** How values of a statistic or group are written. */
export function formatOf(statistic) {
  return isShare(statistic) ? percent : number;
}

/** Whether a statistic goes from 0 to 1. */
export function isShare(statistic) {
  return SHARES.has(statistic);
}

/** A statistic in words. */
export function words(statistic) {
  return WORDS[statistic] ?? statistic.replaceAll("_", " ");
}

/** The directories that all paths have in common, with their slash. */
export function commonPrefix(paths) {
  if (paths.length < 2) return "";
  const first = paths[0].split("/");
  let depth = 0;
  while (
    depth < first.length - 1 &&
    paths.every((path) => path.split("/")[depth] === first[depth]) &&
    paths.every((path) => path.split("/").length > depth + 1)
  ) {
    depth += 1;
  }
  return depth ? `${first.slice(0, depth).join("/")}/` : "";
}

/** `1 layer`, `2 layers`. */
export function count(number_, noun) {
  return `${number_} ${noun}${number_ === 1 ? "" : "s"}`;
}

/** The last value that is there. */
export function last(values) {
  for (let index = (values?.length ?? 0) - 1; index >= 0; index -= 1) {
    if (values[index] !== null && values[index] !== undefined) {
      return values[index];
    }
  }
  return null;
}

/** Lowest and highest finite value, or `null`. */
export function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null || !Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : null;
}
