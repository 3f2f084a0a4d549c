// Legends in HTML: the keyboard reaches them, and no text is cut off.

import { h } from "../dom.js";

/**
 * A legend whose entries can be switched off.
 *
 * @param {function(): void} onToggle Called when one is.
 */
export function legend(onToggle) {
  const hidden = new Set();
  const element = h("div", { class: "legend" });
  return {
    element,
    /** Whether the entry of this name is shown. */
    shows: (name) => !hidden.has(name),
    /**
     * @param {Array} entries `{name, color, dashed?, filled?, onOpen?}`:
     *     one with `onOpen` calls it instead of being a switch.
     */
    set(entries) {
      const focused = [...element.children].indexOf(document.activeElement);
      element.replaceChildren(
        ...entries.map(({ name, color, dashed, filled, onOpen }) =>
          h(
            "button",
            {
              type: "button",
              "aria-pressed": onOpen ? null : String(!hidden.has(name)),
              on: {
                click: () => {
                  if (onOpen) return onOpen();
                  if (!hidden.delete(name)) hidden.add(name);
                  return onToggle();
                },
              },
            },
            h("i", {
              class: filled ? "swatch" : "stroke",
              style: filled
                ? { background: color }
                : { borderTop: `2px ${dashed ? "dashed" : "solid"} ${color}` },
            }),
            name,
          ),
        ),
      );
      element.children[focused]?.focus();
    },
  };
}
