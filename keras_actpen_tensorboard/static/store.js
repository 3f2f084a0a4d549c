// The log, asked for what is new and kept here.

/** What the server says that it cannot show. */
class LogError extends Error {}

const WORDS = { NaN, Infinity, "-Infinity": -Infinity };

async function ask(route, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) {
      if (one !== null && one !== undefined) query.append(key, one);
    }
  }
  const response = await fetch(
    new URL(`./data/${route}?${query}`, import.meta.url),
  );
  if (!response.ok) {
    throw new LogError(`TensorBoard answered ${response.status}.`);
  }
  const content = await response.json();
  if (content.error) throw new LogError(content.error);
  return content;
}

/** Numbers that JSON has no words for. */
function decode(value) {
  return typeof value === "string" ? WORDS[value] : value;
}

const halves = new Float32Array(65536).map((_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
});

function decodeHalves(text, units, rows) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return Array.from({ length: rows }, (_, row) =>
    Float32Array.from({ length: units }, (_, unit) => {
      const at = 2 * (row * units + unit);
      return halves[bytes[at] | (bytes[at + 1] << 8)];
    }),
  );
}

/** Everything before a step, then what has been asked for from it on. */
function joined(before, after, from) {
  const kept = before.filter(([step]) => step < from);
  return [...kept, ...after];
}

export class Store {
  constructor() {
    this.trainings = [];
    this.entries = new Map();
    this.polls = 0;
    this.changes = new Map();
  }

  /** Ask which trainings there are; whether anything is new. */
  async poll() {
    const { trainings } = await ask("trainings");
    this.trainings = trainings;
    this.polls += 1;
    let isNew = trainings.length !== this.changes.size;
    const changes = new Map();
    for (const training of trainings) {
      const key = JSON.stringify(training);
      const before = this.changes.get(training.run);
      const changed = before?.key !== key;
      changes.set(training.run, {
        key,
        since: changed ? this.polls : before.since,
      });
      // Ask again at the next poll: an epoch may be half loaded.
      if (this.polls - changes.get(training.run).since <= 1) isNew = true;
    }
    this.changes = changes;
    return isNew;
  }

  /** The training of a run, or `undefined`. */
  find(run) {
    return this.trainings.find((training) => training.run === run);
  }

  version(run) {
    const training = this.trainings.find(
      (one) => one.run === run || one.validation === run,
    );
    const change = this.changes.get(training?.run);
    return change && `${change.since} ${this.polls > change.since}`;
  }

  /**
   * What is kept under a key, brought up to date.
   *
   * @param {string} run
   * @param {string} key
   * @param {function(Object=): Promise<Object>} load Gets what is kept.
   */
  async fresh(run, key, load) {
    const id = `${run}\n${key}`;
    const entry = this.entries.get(id) ?? {};
    const version = this.version(run);
    if (entry.version === version && entry.value) return entry.value;
    if (entry.pending?.version === version) return entry.pending.promise;
    const promise = load(entry.value);
    entry.pending = { version, promise };
    this.entries.set(id, entry);
    try {
      entry.value = await promise;
      entry.version = version;
    } finally {
      if (entry.pending?.promise === promise) entry.pending = undefined;
    }
    return entry.value;
  }

  /** What is attached in a training. */
  training(run) {
    return this.fresh(run, "training", async () => {
      const model = await ask("training", { run });
      for (const layer of model.layers) {
        for (const term of layer.terms) {
          term.coefficient = decode(term.coefficient);
        }
      }
      return model;
    });
  }

  /**
   * Curves by group: `{group: {steps, series: {name: values}}}`.
   *
   * @param {string} run
   * @param {string[]} groups
   * @param {Object} [options] `path`: one layer alone; `points`: how many.
   */
  curves(run, groups, { path = null, points = null } = {}) {
    const key = JSON.stringify(["curves", groups, path, points]);
    return this.fresh(run, key, async (before) => {
      // Thinned out, the old points are others when there are more.
      const after = points ? 0 : lastStep(before);
      const parameters = { run, group: groups, path, points, after };
      const answer = await ask("curves", parameters);
      const found = {};
      for (const [group, curves] of Object.entries(answer.groups)) {
        for (const name of Object.keys(curves.series)) {
          curves.series[name] = curves.series[name].map(decode);
        }
        found[group] = after
          ? joinCurves(before[group], curves, after)
          : curves;
      }
      return found;
    });
  }

  /** Histograms: `{steps, buckets}`. */
  values(run, { kind, path }, points = 300) {
    return this.fresh(run, `values ${kind} ${path} ${points}`, async () => {
      const answer = await ask("values", { run, kind, path, points });
      return {
        steps: answer.steps,
        buckets: answer.buckets.map((rows) =>
          rows.map((row) => row.map(decode)),
        ),
      };
    });
  }

  /** Firing rates: `{steps, units, rates, positions}`. */
  units(run, { kind, path }, points = 400) {
    return this.fresh(run, `units ${kind} ${path}`, async (before) => {
      const isWhole = before && before.steps.length < points;
      const after = isWhole ? (before.steps.at(-1) ?? 0) : 0;
      const answer = await ask("units", { run, kind, path, points, after });
      const { steps, units } = answer;
      const rates = decodeHalves(answer.rates, units, steps.length);
      const rows = steps.map((step, i) => [step, rates[i], answer.positions[i]]);
      const all =
        after && before.units === units
          ? joined(before.rows, rows, after)
          : rows;
      return {
        rows: all,
        units,
        steps: all.map(([step]) => step),
        rates: all.map(([, of]) => of),
        positions: all.map(([, , of]) => of),
      };
    });
  }

  /** Findings, latest first: `{findings, damaged}`. */
  findings(run) {
    return this.fresh(run, "findings", async (before) => {
      const after = before?.findings[0]?.epoch ?? 0;
      const answer = await ask("findings", { run, after });
      for (const finding of answer.findings) {
        finding.value = decode(finding.value);
      }
      const old = (before?.findings ?? []).filter((f) => f.epoch < after);
      return {
        findings: [...answer.findings, ...old],
        damaged: [...answer.damaged, ...(before?.damaged ?? [])].filter(
          (message, i, all) => all.indexOf(message) === i,
        ),
      };
    });
  }

  /** Last values of some curves by run and tag. */
  async finals(tags) {
    const { finals } = await ask("finals", { tag: tags });
    for (const values of Object.values(finals)) {
      for (const tag of Object.keys(values)) values[tag] = decode(values[tag]);
    }
    return finals;
  }
}

function lastStep(curves) {
  const steps = Object.values(curves ?? {}).map((one) => one.steps.at(-1) ?? 0);
  return steps.length ? Math.min(...steps) : 0;
}

function joinCurves(before, after, from) {
  const names = new Set([
    ...Object.keys(before.series),
    ...Object.keys(after.series),
  ]);
  const kept = before.steps.filter((step) => step < from).length;
  const series = {};
  for (const name of names) {
    const blank = (length) => Array(length).fill(null);
    series[name] = [
      ...(before.series[name]?.slice(0, kept) ?? blank(kept)),
      ...(after.series[name] ?? blank(after.steps.length)),
    ];
  }
  return { steps: [...before.steps.slice(0, kept), ...after.steps], series };
}
