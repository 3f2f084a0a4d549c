// A heat map on a canvas: a picture of one pixel per cell is enlarged, so that
// 60 x 300 cells cost no more than 3 x 12.

import { colorOf } from "./color_scale.js";
import { ink } from "../theme.js";
import { niceStep } from "../ticks.js";

const TOP = 6;
const AXIS = 40;
const LABEL = 13;
const FONT = "11px system-ui, -apple-system, Segoe UI, Roboto, sans-serif";

function rowHeight(rows) {
  if (rows <= 14) return 24;
  if (rows <= 30) return 18;
  return rows <= 80 ? 13 : 5;
}

/** Draw everything; where the cells are. */
export function paint(canvas, content) {
  const { labels, steps, values } = content;
  const width = canvas.parentElement.clientWidth;
  const inner = content.height ?? rowHeight(labels.length) * labels.length;
  const context = canvas.getContext("2d");
  context.font = FONT;
  const widest = Math.max(0, ...labels.map((l) => context.measureText(l).width));
  const left = Math.ceil(Math.min(widest, width * 0.28)) + 12;
  const box = {
    left,
    top: TOP,
    width: Math.max(width - left - 8, 1),
    height: inner,
    rows: labels.length,
    columns: steps.length,
  };
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round((inner + AXIS) * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${inner + AXIS}px`;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, inner + AXIS);
  if (!box.rows || !box.columns) return box;
  const picture = pixels(values, box, content.scale, inner * ratio);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, box.left, box.top, box.width, box.height);
  drawGaps(context, box);
  drawMarks(context, box, content.marks);
  drawLabels(context, box, labels, steps);
  return box;
}

/** The cells as a picture; rows that share a pixel are averaged. */
function pixels(values, box, scale, most) {
  const rows = Math.min(box.rows, Math.max(Math.floor(most), 1));
  const picture = document.createElement("canvas");
  picture.width = box.columns;
  picture.height = rows;
  const context = picture.getContext("2d");
  const image = context.createImageData(box.columns, rows);
  for (let y = 0; y < rows; y += 1) {
    const from = Math.floor((y * box.rows) / rows);
    const to = Math.max(Math.floor(((y + 1) * box.rows) / rows), from + 1);
    for (let x = 0; x < box.columns; x += 1) {
      const color = colorOf(scale, meanOf(values, from, to, x));
      image.data.set([...color, 255], 4 * (y * box.columns + x));
    }
  }
  context.putImageData(image, 0, 0);
  return picture;
}

function meanOf(values, from, to, column) {
  if (to - from === 1) return values[from][column];
  let sum = 0;
  let known = 0;
  for (let row = from; row < to; row += 1) {
    const value = values[row][column];
    if (value !== null && value !== undefined) {
      sum += value;
      known += 1;
    }
  }
  return known ? sum / known : null;
}

function drawGaps(context, box) {
  const [across, down] = [box.width / box.columns, box.height / box.rows];
  context.fillStyle = ink().card;
  if (across >= 10) {
    for (let i = 1; i < box.columns; i += 1) {
      context.fillRect(box.left + i * across - 0.5, box.top, 1, box.height);
    }
  }
  if (down >= 16) {
    for (let i = 1; i < box.rows; i += 1) {
      context.fillRect(box.left, box.top + i * down - 0.5, box.width, 1);
    }
  }
}

function drawMarks(context, box, marks) {
  if (!marks) return;
  const [across, down] = [box.width / box.columns, box.height / box.rows];
  const radius = Math.min(4, down / 2 - 2);
  for (let row = 0; row < box.rows; row += 1) {
    for (let column = 0; column < box.columns; column += 1) {
      if (!marks(row, column)) continue;
      const { x, y, width, height } = rectOf(box, row, column);
      if (across < 11 || radius < 2) {
        // No room for rings: a line below.
        context.fillStyle = ink().ring;
        context.fillRect(x, y + height - 2, width + 0.5, 2);
        continue;
      }
      for (const [color, line] of [["#ffffff", 4], [ink().ring, 2]]) {
        context.beginPath();
        context.arc(x + width / 2, y + height / 2, radius, 0, 2 * Math.PI);
        context.strokeStyle = color;
        context.lineWidth = line;
        context.stroke();
      }
    }
  }
}

function drawLabels(context, box, labels, steps) {
  context.font = FONT;
  context.fillStyle = ink().muted;
  context.textBaseline = "middle";
  context.textAlign = "right";
  const down = box.height / box.rows;
  const skip = niceStep(Math.ceil(LABEL / down));
  for (let row = 0; row < box.rows; row += skip) {
    const text = shorten(context, labels[row], box.left - 12);
    context.fillText(text, box.left - 8, box.top + (row + 0.5) * down);
  }
  context.textAlign = "center";
  const across = box.width / box.columns;
  const wide = context.measureText(String(steps.at(-1))).width + 14;
  const every = niceStep(Math.ceil(wide / across));
  const y = box.top + box.height + 11;
  for (let column = 0; column < box.columns; column += every) {
    const x = box.left + (column + 0.5) * across;
    context.fillText(String(steps[column]), x, y);
  }
  context.fillText("epoch", box.left + box.width / 2, y + 15);
}

/** A text that fits, without its middle if need be. */
function shorten(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let kept = text.length - 1;
  let short = text;
  while (kept > 4 && context.measureText(short).width > width) {
    kept -= 1;
    const head = Math.floor(kept / 3);
    short = `${text.slice(0, head)}…${text.slice(text.length - (kept - head))}`;
  }
  return short;
}

/** Where a cell is. */
export function rectOf(box, row, column) {
  const [across, down] = [box.width / box.columns, box.height / box.rows];
  return {
    x: box.left + column * across,
    y: box.top + row * down,
    width: across,
    height: down,
  };
}

/** The cell at a point, or `null`. */
export function cellAt(box, x, y) {
  const column = Math.floor(((x - box.left) / box.width) * box.columns);
  const row = Math.floor(((y - box.top) / box.height) * box.rows);
  const isInside =
    row >= 0 && row < box.rows && column >= 0 && column < box.columns;
  return isInside ? [row, column] : null;
}
