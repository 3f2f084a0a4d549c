// The frame of all pages: choices on top, the page below, live.

import { h, hideTip, select } from "./dom.js";
import { count } from "./format.js";
import * as state from "./state.js";
import { Store } from "./store.js";
import * as theme from "./theme.js";
import * as layer from "./pages/layer.js";
import * as layers from "./pages/layers.js";
import * as overview from "./pages/overview.js";
import * as trainings from "./pages/trainings.js";
import { emptyLog } from "./pages/empty.js";

const PAGES = {
  overview: ["Overview", overview],
  layers: ["Layers", layers],
  layer: ["One layer", layer],
  trainings: ["Trainings", trainings],
};
const POLL_MILLISECONDS = 5000;

/** Draw the tab, and keep it up to date. */
export async function start(body) {
  const store = new Store();
  const bar = h("header", { class: "bar" });
  const banners = h("div", { class: "banners", "aria-live": "polite" });
  const main = h("main", {});
  const status = h("span", { class: "status" });
  let page = null;
  let pageName = null;
  let turn = 0;
  let drawnBar = "";

  const app = {
    store,
    state,
    /** The trainings that are shown, with their models. */
    shown: [],
    /** What cannot be shown, in words. */
    problems: [],
    /** What each training has; one that cannot be read is left out. */
    async load(load) {
      const loaded = await Promise.allSettled(app.shown.map(load));
      loaded.forEach(({ reason }, i) => {
        if (reason) app.problems.push(`${app.shown[i].name} cannot be shown. ${reason.message}`);
      });
      return loaded.flatMap(({ status: how, value }) => (how === "fulfilled" ? [value] : []));
    },
    /** Draw parts of a page; one that cannot be drawn keeps none back. */
    draw(...parts) {
      for (const part of parts) {
        try {
          part();
        } catch (error) {
          app.problems.push(`A part of this page cannot be shown. ${error.message}`);
        }
      }
    },
    go(changes, isNewPage = false) {
      state.set(changes, isNewPage);
      hideTip();
      if (isNewPage) window.scrollTo(0, 0);
      return refresh();
    },
    link(changes, ...content) {
      return h(
        "a",
        {
          href: state.address(changes),
          target: "_top",
          on: {
            click: (event) => {
              if (event.ctrlKey || event.metaKey || event.shiftKey) return;
              event.preventDefault();
              app.go(changes, true);
            },
          },
        },
        ...content,
      );
    },
  };

  function chosenRuns() {
    const latest = store.trainings.reduce(
      (best, one) => (best && best.time >= one.time ? best : one),
      null,
    );
    const first = store.find(state.get("run")) ?? latest;
    const second = store.find(state.get("with"));
    return [first, second].filter(
      (one, i, all) => one && all.indexOf(one) === i,
    );
  }

  function drawBar(runs) {
    const name = currentPage();
    const key = JSON.stringify([store.trainings.map((t) => [t.run, t.name]), runs.map((r) => r.run), name]);
    if (key === drawnBar) return;
    drawnBar = key;
    const focused = document.activeElement?.dataset?.control;
    const options = store.trainings.map((t) => [t.run, t.name]);
    const control = (id, element) => {
      element.dataset.control = id;
      return element;
    };
    bar.replaceChildren(
      h(
        "nav",
        { "aria-label": "Pages" },
        Object.entries(PAGES).map(([id, [title]]) => {
          const link = control(id, app.link({ page: id }, title));
          if (id === name) link.setAttribute("aria-current", "page");
          return link;
        }),
      ),
      runs.length
        ? h("label", {}, "Training ", control("run", select("Training", options, runs[0].run,
            (run) => app.go({ run, with: state.get("with") === run ? null : state.get("with") }, true))))
        : "",
      store.trainings.length > 1
        ? h("label", {}, "Compare with ", control("with", select(
            "Compare with",
            [["", "none"], ...options.filter(([run]) => run !== runs[0].run)],
            runs[1]?.run ?? "",
            (run) => app.go({ with: run }, true),
          )))
        : "",
      status,
    );
    if (focused) bar.querySelector(`[data-control="${focused}"]`)?.focus();
  }

  function currentPage() {
    return state.get("page") in PAGES ? state.get("page") : "overview";
  }

  async function loadShown(runs) {
    const shown = [];
    app.problems = [];
    for (const training of runs) {
      try {
        shown.push({ ...training, model: await store.training(training.run) });
      } catch (error) {
        app.problems.push(`${training.name} cannot be shown. ${error.message}`);
      }
    }
    return shown;
  }

  async function refresh() {
    const mine = (turn += 1);
    const runs = chosenRuns();
    drawBar(runs);
    if (!runs.length) {
      pageName = null;
      main.replaceChildren(emptyLog());
      banners.replaceChildren();
      return;
    }
    const shown = await loadShown(runs);
    if (mine !== turn) return;
    app.shown = shown;
    const key = `${currentPage()} ${shown.length ? "" : "none"}`;
    if (pageName !== key) {
      pageName = key;
      page = shown.length ? PAGES[currentPage()][1].create(app) : null;
      main.replaceChildren(
        h("p", { class: "loading" }, page ? "Reading the log …" : ""),
        ...(page ? [page.element] : []),
      );
    }
    try {
      await page?.update();
    } catch (error) {
      app.problems.push(`This page cannot be shown. ${error.message}`);
    }
    if (mine !== turn) return;
    main.querySelector(".loading")?.remove();
    banners.replaceChildren(
      ...app.problems.map((text) => h("p", { class: "warning" }, text)),
    );
  }

  async function poll() {
    if (isHidden()) return;
    try {
      const isNew = await store.poll();
      status.className = "status live";
      status.textContent = count(store.trainings.length, "training");
      if (isNew || !pageName) await refresh();
    } catch (error) {
      status.className = "status lost";
      status.textContent = `no answer: ${error.message}`;
    }
  }

  theme.adopt();
  theme.watch(refresh);
  state.listen(refresh);
  body.replaceChildren(bar, banners, main);
  await poll();
  setInterval(poll, POLL_MILLISECONDS);
  watchFrame(poll);
}

/** Whether nobody can see the tab; its frame stays alive behind others. */
function isHidden() {
  if (document.hidden) return true;
  return window.frameElement?.style.visibility === "hidden";
}

/** Call back when TensorBoard shows or hides the tab. */
function watchFrame(onChange) {
  if (!window.frameElement) return;
  new MutationObserver(onChange).observe(window.frameElement, {
    attributeFilter: ["style"],
  });
}
