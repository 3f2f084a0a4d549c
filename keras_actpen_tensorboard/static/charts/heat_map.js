// Rows by epochs as colored cells that the mouse and the keyboard reach.

import { cellAt, paint, rectOf } from "./heat_map_drawing.js";
import { h, hideTip, showTip } from "../dom.js";

/**
 * A heat map whose cells the mouse and the arrow keys reach.
 *
 * @param {string} label What a screen reader says.
 */
export function heatMap(label) {
  const canvas = h("canvas", {
    tabindex: 0,
    role: "application",
    "aria-label": `${label}. Arrow keys move from cell to cell.`,
  });
  const cursor = h("div", { class: "cell-cursor", hidden: true });
  const said = h("div", { class: "said", "aria-live": "polite" });
  const element = h("div", { class: "heat-map" }, canvas, cursor, said);
  let content = null;
  let box = null;
  let at = null;

  const draw = () => {
    if (content && element.clientWidth) box = paint(canvas, content);
    if (at) point(at);
  };
  new ResizeObserver(draw).observe(element);

  function point(cell) {
    at = cell;
    cursor.hidden = !cell;
    if (!cell) return;
    const { x, y, width, height } = rectOf(box, ...cell);
    Object.assign(cursor.style, {
      left: `${x}px`,
      top: `${y}px`,
      width: `${width}px`,
      height: `${height}px`,
    });
  }

  function tell(cell, x, y) {
    const lines = content.describe(...cell);
    showTip(x, y, ...lines.map((line, i) => h(i ? "p" : "strong", {}, line)));
    return lines.join(", ");
  }

  canvas.addEventListener("mousemove", (event) => {
    const cell = box && cellAt(box, event.offsetX, event.offsetY);
    point(cell);
    if (cell) tell(cell, event.clientX, event.clientY);
    else hideTip();
    canvas.style.cursor = cell && content.onPick ? "pointer" : "default";
  });
  canvas.addEventListener("mouseleave", () => {
    point(null);
    hideTip();
  });
  canvas.addEventListener("blur", () => {
    point(null);
    hideTip();
  });
  canvas.addEventListener("click", (event) => {
    const cell = box && cellAt(box, event.offsetX, event.offsetY);
    if (cell && content.onPick) content.onPick(...cell);
  });
  canvas.addEventListener("keydown", (event) => {
    if (!box || !box.rows || !box.columns) return;
    if (event.key === "Enter" && at && content.onPick) {
      content.onPick(...at);
      return;
    }
    const moved = step(event.key, at ?? [0, box.columns - 1], !at, box);
    if (!moved) return;
    event.preventDefault();
    point(moved);
    const { x, y } = rectOf(box, ...moved);
    const frame = canvas.getBoundingClientRect();
    said.textContent = tell(moved, frame.x + x, frame.y + y);
  });

  return {
    element,
    /** Where a cell is in the canvas, for tests. */
    rectOf: (row, column) => rectOf(box, row, column),
    /** What is shown, for tests. */
    content: () => content,
    /**
     * @param {Object} next
     * @param {string[]} next.labels One per row.
     * @param {number[]} next.steps The epochs.
     * @param {Array<Array<number|null>>} next.values Rows of values.
     * @param {Object} next.scale See `color_scale.js`.
     * @param {function(number, number): string[]} next.describe Lines about
     *     a cell, the first one its title.
     * @param {function(number, number): boolean} [next.marks] Whether a cell
     *     has a ring.
     * @param {function(number, number): void} [next.onPick]
     * @param {number} [next.height] Of all rows; they share it.
     */
    set(next) {
      content = next;
      draw();
    },
  };
}

function step(key, [row, column], isFirst, { rows, columns }) {
  const moves = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
    PageUp: [-10, 0],
    PageDown: [10, 0],
    Home: [0, -columns],
    End: [0, columns],
  };
  if (!moves[key]) return null;
  const [down, right] = isFirst ? [0, 0] : moves[key];
  const clamp = (value, end) => Math.min(Math.max(value, 0), end - 1);
  return [clamp(row + down, rows), clamp(column + right, columns)];
}
