// Colors, light and dark; all can be told apart by the color-blind.

// Okabe and Ito (2008), "Color Universal Design", and two more.
const CATEGORIES = {
  light: [
    "#0072b2", "#d98200", "#009e73", "#c4619b",
    "#3d9fdb", "#d55e00", "#7a5ea8", "#7d7d00",
  ],
  dark: [
    "#56b4e9", "#f2b24a", "#3fc79a", "#e39ac4",
    "#a5d6f7", "#ff8b4a", "#b9a0e6", "#cfcf5c",
  ],
};
const INK = {
  light: {
    text: "#1f2328",
    muted: "#5b626c",
    line: "#e4e6ea",
    axis: "#c5c9d0",
    card: "#ffffff",
    rest: "#e9ebee",
    other: "#9aa1ab",
    missing: "#eef0f2",
    bad: "#ff2d78",
    ring: "#d6004b",
  },
  dark: {
    text: "#eceef1",
    muted: "#a9b0ba",
    line: "#474747",
    axis: "#666666",
    card: "#383838",
    rest: "#4b4b4b",
    other: "#8a9099",
    missing: "#444444",
    bad: "#ff5c97",
    ring: "#ff5c8d",
  },
};
// Viridis (Smith, van der Walt 2015) at equal distances.
const VIRIDIS = [
  "#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c",
  "#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725",
];
const DIVERGING = {
  light: ["#1b5a9c", "#6ea6d0", "#f4f4f4", "#eda06c", "#a8440a"],
  dark: ["#7cc0f2", "#3f78a8", "#454545", "#b0683a", "#ffac70"],
};

let name = "light";

/** Take over whether TensorBoard is dark; whether that has changed. */
export function adopt() {
  let body = document.body;
  try {
    body = window.parent.document.body;
  } catch {
    // Another origin: stay as we are.
  }
  const before = name;
  name = body.classList.contains("dark-mode") ? "dark" : "light";
  document.documentElement.dataset.theme = name;
  return name !== before;
}

/** Call back whenever TensorBoard turns dark or light. */
export function watch(onChange) {
  try {
    new MutationObserver(() => adopt() && onChange()).observe(
      window.parent.document.body,
      { attributeFilter: ["class"] },
    );
  } catch {
    // Another origin.
  }
}

/** Colors of text, lines and cells. */
export function ink() {
  return INK[name];
}

/** The color of a category by its number. */
export function category(index) {
  const colors = CATEGORIES[name];
  return colors[index % colors.length];
}

/** A color with an opacity from 0 to 1. */
export function faint(color, opacity) {
  const [r, g, b] = rgb(color);
  return `rgba(${r},${g},${b},${opacity})`;
}

/** Color of a position from 0 to 1, as `[r, g, b]`. */
export function sequential(position) {
  return between(VIRIDIS, position);
}

/** Color of a position from 0 to 1, 0.5 being none, as `[r, g, b]`. */
export function diverging(position) {
  return between(DIVERGING[name], position);
}

/** `[r, g, b]` of a color with six digits. */
export function rgb(color) {
  return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
}

function between(stops, position) {
  const at = Math.min(Math.max(position, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  const [from, to] = [rgb(stops[low]), rgb(stops[low + 1])];
  return from.map((c, i) => Math.round(c + (to[i] - c) * (at - low)));
}
