// A curve as small as a word.

import { svg } from "../dom.js";
import { extent } from "../format.js";

const WIDTH = 54;
const HEIGHT = 18;

/**
 * @param {number[]} steps
 * @param {Array<number|null>} values
 */
export function sparkline(steps, values) {
  const drawn = svg("svg", {
    class: "sparkline",
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    width: WIDTH,
    height: HEIGHT,
    "aria-hidden": "true",
  });
  const range = extent(values);
  if (!range) return drawn;
  const [low, high] = range;
  const first = steps[0];
  const length = steps.at(-1) - first || 1;
  const points = steps.flatMap((step, index) => {
    const value = values[index];
    if (value === null || !Number.isFinite(value)) return [];
    const x = 1 + ((WIDTH - 2) * (step - first)) / length;
    const y =
      high > low
        ? HEIGHT - 2 - ((HEIGHT - 4) * (value - low)) / (high - low)
        : HEIGHT / 2;
    return [`${x.toFixed(1)},${y.toFixed(1)}`];
  });
  drawn.append(svg("polyline", { points: points.join(" ") }));
  return drawn;
}
