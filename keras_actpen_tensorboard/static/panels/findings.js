// What is wrong, in words, each a link to its layer and epoch.

import { h, panel } from "../dom.js";
import { count } from "../format.js";

const MOST = 100;

/** Findings of consecutive epochs together, the latest first. */
function spells(findings) {
  const open = new Map();
  const all = [];
  for (const finding of findings) {
    const key = JSON.stringify([finding.kind, finding.path, finding.term]);
    const spell = open.get(key);
    if (spell && spell.first - finding.epoch === 1) spell.first = finding.epoch;
    else if (!spell || spell.first !== finding.epoch) {
      const begun = { ...finding, first: finding.epoch, last: finding.epoch };
      open.set(key, begun);
      all.push(begun);
    }
  }
  return all;
}

/** Messages by path and epoch. */
export function byCell(findings) {
  const cells = new Map();
  for (const { path, epoch, message } of findings) {
    const key = `${epoch} ${path}`;
    cells.set(key, [...(cells.get(key) ?? []), message]);
  }
  return (path, epoch) => cells.get(`${epoch} ${path}`) ?? [];
}

/** A list of findings: `{training, findings, damaged}` of each training. */
export function findingsList(app, items, isOneLayer = false) {
  const rows = items
    .flatMap(({ training, findings }) =>
      spells(findings).map((spell) => ({ training, ...spell })),
    )
    .sort((a, b) => b.last - a.last);
  const list = h(
    "ul",
    { class: "findings" },
    rows.slice(0, MOST).map((row) =>
      h(
        "li",
        {},
        h("span", { class: kindClass(row.kind) }, row.kind),
        h(
          "span",
          {},
          app.link(
            { page: "layer", layer: row.path, epoch: row.last, run: row.training.run },
            isOneLayer ? `epoch ${row.last}` : row.path || "the training",
          ),
          " ",
          row.term ? `${row.term}: ${row.message}` : row.message,
          items.length > 1 && !isOneLayer
            ? h("span", { class: "chip" }, row.training.name)
            : null,
        ),
        h("span", { class: "when" }, when(row)),
      ),
    ),
  );
  const damaged = items.flatMap((item) => item.damaged ?? []);
  return [
    ...damaged.map((text) => h("p", { class: "warning" }, text)),
    rows.length ? list : h("p", { class: "nothing" }, "No findings."),
    rows.length > MOST
      ? h("p", { class: "note" }, `and ${rows.length - MOST} earlier findings`)
      : null,
  ].filter(Boolean);
}

/** The panel of the overview. */
export function findingsPanel(app) {
  const body = h("div", { class: "scroll" });
  const note = h("p", { class: "note" }, "latest first");
  return {
    element: panel("Findings", { note, body, wide: 5 }),
    set(items) {
      const all = items.flatMap((item) => spells(item.findings));
      note.textContent = all.length
        ? `${count(all.length, "finding")}, latest first`
        : "";
      body.replaceChildren(...findingsList(app, items));
    },
  };
}

export function kindClass(kind) {
  return `kind kind-${/^[a-z_]+$/.test(kind) ? kind : "other"}`;
}

function when({ first, last }) {
  return first === last ? `epoch ${last}` : `epochs ${first} to ${last}`;
}
