// Numbers from histograms and firing rates.

/**
 * A quantile of all values, zeros included.
 *
 * @param {Array<number[]>} rows `[left, right, count]`, ascending, without
 *     the exact zeros.
 * @param {number} zeroShare Share of exact zeros among all values.
 * @param {number} q From 0 to 1.
 */
export function quantile(rows, zeroShare, q) {
  const others = rows.reduce((sum, [, , n]) => sum + n, 0);
  if (!others || zeroShare >= 1) return 0;
  let left = (q * others) / (1 - zeroShare);
  let zeros = (zeroShare * others) / (1 - zeroShare);
  for (const [from, to, n] of rows.flatMap(splitAtZero)) {
    if (from >= 0 && zeros) {
      if (left <= zeros) return 0;
      left -= zeros;
      zeros = 0;
    }
    if (left <= n) return n ? from + ((to - from) * left) / n : from;
    left -= n;
  }
  return zeros ? 0 : rows.at(-1)[1];
}

function splitAtZero([from, to, n]) {
  if (from >= 0 || to <= 0) return [[from, to, n]];
  const below = (n * -from) / (to - from);
  return [
    [from, 0, below],
    [0, to, n - below],
  ];
}

const PER_DECADE = 4;

/**
 * Bars of the histogram of log10 of firing rates.
 *
 * @param {Float32Array} rates
 * @param {number} low The decade at which the bars begin, such as -5.
 * @returns `{left, right, count}`; the first bar, a decade before the others,
 *     counts the units that never fired.
 */
export function rateBars(rates, low) {
  const bars = [{ left: low - 1, right: low - 1 + 1 / PER_DECADE, count: 0 }];
  for (let i = 0; i < -low * PER_DECADE; i += 1) {
    const left = low + i / PER_DECADE;
    bars.push({ left, right: left + 1 / PER_DECADE, count: 0 });
  }
  for (const rate of rates) {
    if (rate > 0) {
      const index = Math.floor((Math.log10(rate) - low) * PER_DECADE);
      bars[Math.min(Math.max(index, 0), bars.length - 2) + 1].count += 1;
    } else if (rate === 0) bars[0].count += 1;
  }
  return bars;
}

/** The decade below the lowest rate above 0, -2 at most. */
export function lowestDecade(all) {
  let lowest = 1;
  for (const rates of all) {
    for (const rate of rates) if (rate > 0 && rate < lowest) lowest = rate;
  }
  return Math.min(Math.floor(Math.log10(lowest) + 1e-6), -2);
}
