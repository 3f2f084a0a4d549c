// Round ends and distances of axes.

/**
 * An axis from below the lowest to above the highest value.
 *
 * @param {number[]|null} range Lowest and highest value.
 * @param {number} [parts] About how many there shall be.
 * @returns {{min: number, max: number, interval: number}}
 */
export function roundAxis(range, parts = 4) {
  let [low, high] = range ?? [0, 1];
  if (low === high) {
    low = Math.min(low, 0);
    high = Math.max(high, 0) || 1;
  }
  const raw = (high - low) / parts;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const interval = [1, 2, 2.5, 5, 10].find((f) => f * unit >= raw * 0.999) * unit;
  return {
    min: round(Math.floor(low / interval + 1e-9) * interval),
    max: round(Math.ceil(high / interval - 1e-9) * interval),
    interval: round(interval),
  };
}

/** The next of 1, 2, 5, 10, 20, ... */
export function niceStep(least) {
  for (let unit = 1; ; unit *= 10) {
    for (const factor of [1, 2, 5]) {
      if (factor * unit >= least) return factor * unit;
    }
  }
}

/** An axis of whole decades. */
export function decades(range) {
  const [low, high] = (range ?? [0.1, 1]).map(Math.log10);
  const first = Math.floor(low + 1e-9);
  return { min: 10 ** first, max: 10 ** Math.max(Math.ceil(high - 1e-9), first + 1) };
}

/** With 0 if that is not far off. */
export function withZero([low, high]) {
  return [
    low > 0 && low < (high - low) * 2 ? 0 : low,
    high < 0 && high > (low - high) * 2 ? 0 : high,
  ];
}

function round(value) {
  return Number(value.toPrecision(12));
}
