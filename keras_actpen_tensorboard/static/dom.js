// Elements without markup: a name of a layer can never become one.

/**
 * Make an element.
 *
 * @param {string} tag
 * @param {Object} [properties] `class`, `on` (listeners by event), `data`
 *     (dataset), `style`; everything else is an attribute. `null` and `false`
 *     leave one out.
 * @param {...(Node|string|null|Array)} children Strings become text.
 */
export function h(tag, properties = {}, ...children) {
  return furnish(document.createElement(tag), properties, children);
}

/** Make an SVG element. */
export function svg(tag, properties = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return furnish(element, properties, children);
}

function furnish(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.setAttribute("class", value);
    else if (name === "on") {
      for (const [event, listener] of Object.entries(value)) {
        element.addEventListener(event, listener);
      }
    } else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

/** A choice among a few, as a row of buttons. */
export function segments(label, options, chosen, onChoose) {
  return h(
    "div",
    { class: "segments", role: "group", "aria-label": label },
    options.map(([value, text]) =>
      h(
        "button",
        {
          type: "button",
          "aria-pressed": String(value === chosen),
          on: { click: () => onChoose(value) },
        },
        text,
      ),
    ),
  );
}

/**
 * A choice among many. Options are `[value, text]`, or `[group, [options]]`.
 */
export function select(label, options, chosen, onChoose) {
  const option = ([value, text]) =>
    Array.isArray(text)
      ? h("optgroup", { label: value }, text.map(option))
      : h("option", { value, selected: value === chosen }, text);
  const element = h(
    "select",
    { "aria-label": label, on: { change: () => onChoose(element.value) } },
    options.map(option),
  );
  return element;
}

/** A field that filters while one types. */
export function filterField(label, value, onFilter) {
  const element = h("input", {
    type: "search",
    class: "filter",
    placeholder: label,
    "aria-label": label,
    value,
    on: { input: () => onFilter(element.value) },
  });
  return element;
}

/** A titled part of a page. */
export function panel(title, { note = "", tools = [], body = [], wide = 12 }) {
  return h(
    "section",
    { class: `panel span-${wide}`, "aria-label": title },
    h(
      "header",
      {},
      h("h2", {}, title),
      note instanceof Node ? note : h("p", { class: "note" }, note),
      h("div", { class: "tools" }, tools),
    ),
    body,
  );
}

const tip = h("div", { class: "tip", hidden: true });

/** Show the tooltip beside a point of the window. */
export function showTip(x, y, ...content) {
  if (!tip.isConnected) document.body.append(tip);
  tip.replaceChildren(...content);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const right = document.documentElement.clientWidth;
  const bottom = document.documentElement.clientHeight;
  tip.style.left = `${x + 16 + width > right ? Math.max(x - width - 12, 4) : x + 16}px`;
  tip.style.top = `${Math.max(Math.min(y + 12, bottom - height - 4), 4)}px`;
}

/** Hide the tooltip. */
export function hideTip() {
  tip.hidden = true;
}
