// What TensorBoard loads into the tab's frame.

/** Draw the tab. */
export async function render() {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("./style.css", import.meta.url).href;
  const loaded = new Promise((resolve) => {
    style.onload = style.onerror = resolve;
  });
  document.head.append(style);
  const [{ start }] = await Promise.all([import("./app.js"), loaded]);
  await start(document.body);
}
