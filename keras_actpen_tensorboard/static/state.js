// What is shown, kept in the address: every view is a link.

const PREFIX = "p.keras_actpen.";
const PLUGIN = "keras_actpen";

let current = {};

function host() {
  try {
    // Reading it throws where the frame is of another origin.
    window.parent.location.hash.length;
    return window.parent;
  } catch {
    return window;
  }
}

function parts() {
  return host().location.hash.replace(/^#/, "").split("&").filter(Boolean);
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Take over the address; whether anything has changed. */
function adopt() {
  const [plugin, ...rest] = parts();
  if (plugin !== undefined && plugin !== PLUGIN) return false;
  const found = {};
  for (const part of rest) {
    const [key, ...value] = part.split("=");
    if (key.startsWith(PREFIX)) {
      found[key.slice(PREFIX.length)] = decode(value.join("="));
    }
  }
  if (!Object.keys(found).length && Object.keys(current).length) {
    // Back from another tab, whose address has nothing of ours.
    write(false);
    return false;
  }
  const isNew = JSON.stringify(found) !== JSON.stringify(current);
  current = found;
  return isNew;
}

function write(isNewPage) {
  const [plugin] = parts();
  if (plugin !== undefined && plugin !== PLUGIN) return;
  const { history } = host();
  if (isNewPage) history.pushState(history.state, "", address());
  else history.replaceState(history.state, "", address());
}

function changed(changes) {
  const next = { ...current };
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === "") delete next[key];
    else next[key] = String(value);
  }
  return next;
}

/** The address of what would be shown after some changes. */
export function address(changes = {}) {
  const others = parts()
    .slice(1)
    .filter((part) => !part.startsWith(PREFIX));
  const ours = Object.entries(changed(changes)).map(
    ([key, value]) => `${PREFIX}${key}=${encodeURIComponent(value)}`,
  );
  const url = new URL(host().location.href);
  url.hash = [PLUGIN, ...others, ...ours].join("&");
  return url.href;
}

/** Read the address, and call back whenever it changes. */
export function listen(onChange) {
  adopt();
  for (const event of ["hashchange", "popstate"]) {
    host().addEventListener(event, () => adopt() && onChange());
  }
}

/** What a key is set to. */
export function get(key, otherwise = "") {
  return current[key] ?? otherwise;
}

/**
 * Set keys; `null` and `""` forget one.
 *
 * @param {Object} changes
 * @param {boolean} isNewPage Whether Back leads to what was before.
 */
export function set(changes, isNewPage = false) {
  current = changed(changes);
  write(isNewPage);
}
