// From values to colors, and the strip that says so.

import { h } from "../dom.js";
import { diverging, ink, rgb, sequential } from "../theme.js";

/**
 * A scale from low to high.
 *
 * @param {number[]|null} range `null` if there is no value.
 * @param {boolean} log Whether equal ratios are equal distances.
 */
export function sequentialScale(range, log = false) {
  const [low, high] = range ?? [0, 1];
  const position = log
    ? (value) =>
        value > 0
          ? (Math.log(value) - Math.log(low)) /
            (Math.log(high) - Math.log(low) || 1)
          : 0
    : (value) => (value - low) / (high - low || 1);
  return { low, high, position, color: sequential };
}

/** A scale from minus the highest to the highest magnitude. */
export function divergingScale(range) {
  const most = range ? Math.max(Math.abs(range[0]), Math.abs(range[1])) : 1;
  return {
    low: -most,
    high: most,
    position: (value) => 0.5 + value / (2 * (most || 1)),
    color: diverging,
  };
}

/** `[r, g, b]` of a value; there are colors for none and for NaN. */
export function colorOf(scale, value) {
  if (value === null || value === undefined) return rgb(ink().missing);
  if (!Number.isFinite(value)) return rgb(ink().bad);
  return scale.color(scale.position(value));
}

/** The strip of colors with its ends. */
export function colorStrip(scale, format, hasBad = false) {
  const stops = Array.from({ length: 11 }, (_, i) => {
    const [r, g, b] = scale.color(i / 10);
    return `rgb(${r},${g},${b})`;
  });
  return h(
    "div",
    { class: "strip" },
    h("span", {}, format(scale.low)),
    h("i", { style: { background: `linear-gradient(90deg,${stops})` } }),
    h("span", {}, format(scale.high)),
    !hasBad ? null :
      h(
        "span",
        { class: "bad" },
        h("i", { class: "swatch", style: { background: ink().bad } }),
        "NaN or infinite",
      ),
  );
}
