/* The moment that the page shows: now, an earlier instant, or the most of a span. A click on
 * a chart over time chooses an instant, a drag a span; the arrow keys move it, Escape goes
 * back to now. The address carries it (?at=…), so Back works. Needs memdash.js. */
"use strict";

(() => {
  const {state, tell, model} = window.memdash.page;

  /** Steps of the arrow keys in the time that is shown, and of those with Shift in one. */
  const STEPS = 150;
  const LEAP = 10;

  /** Least step in seconds: readings come no faster. */
  const LEAST = 0.5;

  /** A drag over less of the chart than this is a click. */
  const CLICK = 1 / 400;

  /** Milliseconds in which all that a click hit is told. */
  const SAME = 20;

  const bar = document.getElementById("at");
  const said = document.getElementById("at-said");
  const zoom = document.getElementById("at-zoom");

  function parse(text) {
    const [start, end = start] = (text ?? "").split("..").map(Number);
    const known = text && Number.isFinite(start) && Number.isFinite(end) && start >= 0 && end >= start;
    return known ? [start, end] : null;
  }

  function write([start, end]) {
    return start === end ? start.toFixed(3) : `${start.toFixed(3)}..${end.toFixed(3)}`;
  }

  function words([start, end]) {
    const {clock, duration} = window.memdash;
    if (start === end) {
      return `Showing ${clock(start * 1000)}.`;
    }
    return `Showing the most from ${clock(start * 1000)} to ${clock(end * 1000)} (${duration(end - start)}). Each row is at its own most.`;
  }

  function show() {
    const {at} = state;
    bar.hidden = at === null;
    document.documentElement.toggleAttribute("data-at", at !== null);
    said.textContent = at === null ? "" : words(at);
    zoom.hidden = at === null || at[0] === at[1];
  }

  /** Show another moment, null for now; `replace` makes it no step of the history. */
  function choose(at, {replace = false} = {}) {
    if (String(at) === String(state.at)) {
      return;
    }
    state.at = at;
    const address = new URL(window.location.href);
    if (at === null) {
      address.searchParams.delete("at");
    } else {
      address.searchParams.set("at", write(at));
    }
    window.history[replace ? "replaceState" : "pushState"](window.history.state, "", address);
    show();
    tell();
    document.dispatchEvent(new CustomEvent("memdash-at"));
  }

  function follow_address() {
    const at = parse(new URL(window.location.href).searchParams.get("at"));
    if (String(at) !== String(state.at)) {
      state.at = at;
      show();
      tell();
      document.dispatchEvent(new CustomEvent("memdash-at"));
    }
  }

  // --- charts -------------------------------------------------------------------------

  /** What a click hit, told by several tools of a chart one after another. */
  let hit = null;

  function note(what) {
    if (hit === null) {
      hit = {};
      window.setTimeout(answer, SAME);
    }
    Object.assign(hit, what);
  }

  /** Open what was clicked upon: a mark before the row that it lies on. A row opens at the
   * moment that was clicked, and so does a mark on it; elsewhere the moment is chosen. */
  function answer() {
    const {mark, row, time} = hit;
    hit = null;
    const link = mark ?? row;
    if (link !== undefined) {
      window.location.hash = link;
    }
    if (time !== undefined && (row !== undefined || link === undefined)) {
      choose([time, time], {replace: link !== undefined});
    }
  }

  /** Note what was clicked upon, whose addresses a source has: a row, or a mark or bar. */
  function go(source, is_row) {
    const [index] = source.selected.indices;
    source.selected.indices = [];
    const link = source.data.link[index];
    if (link) {
      note(is_row ? {row: link} : {mark: link});
    }
  }

  function tapped(time, range) {
    if (time >= range.start && time <= range.end) {
      note({time: time / 1000});
    }
  }

  function dragged(geometry, range) {
    if (geometry.type !== "rect") {
      return;
    }
    const [start, end] = [geometry.x0, geometry.x1].sort((a, b) => a - b).map((x) => Math.min(range.end, Math.max(range.start, x)) / 1000);
    const short = (end - start) * 1000 < (range.end - range.start) * CLICK;
    choose(short ? [start, start] : [start, end]);
  }

  // --- keyboard -----------------------------------------------------------------------

  /** Whether a key belongs to what has the focus. */
  function taken(event) {
    const target = event.composedPath()[0];
    const other = event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]");
    return other || event.defaultPrevented || (target instanceof Element && target.closest("input, select, textarea, .md-scroll") !== null);
  }

  function on_chart() {
    return document.activeElement?.dataset?.time !== undefined;
  }

  function move(event) {
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    const range = model("memdash-chart-history")?.x_range;
    if (by === undefined || !range || (state.at === null && !on_chart())) {
      return;
    }
    event.preventDefault();
    const step = by * Math.max(LEAST, (range.end - range.start) / 1000 / STEPS) * (event.shiftKey ? LEAP : 1);
    const [start, end] = state.at ?? [range.end / 1000, range.end / 1000];
    choose([Math.max(0, start + step), Math.max(0, end + step)], {replace: state.at !== null});
  }

  document.addEventListener("keydown", (event) => {
    if (taken(event)) {
      return;
    }
    if (event.key === "Escape" && state.at !== null && state.chosen === "") {
      choose(null);
    } else {
      move(event);
    }
  });

  document.getElementById("at-now").addEventListener("click", () => choose(null));
  zoom.addEventListener("click", () => {
    state.zoom += 1;
    tell();
  });
  window.addEventListener("popstate", follow_address);
  for (const chart of document.querySelectorAll("[data-chart=history], [data-chart=strips]")) {
    chart.tabIndex = 0;
    chart.dataset.time = "";
  }

  /** Keep the line at the pointer in this browser: else each move of it would be sent. */
  function started() {
    const place = model("memdash-cursor")?.properties?.location;
    if (place) {
      place.internal = true;
    }
  }

  state.at = parse(new URL(window.location.href).searchParams.get("at"));
  show();
  Object.assign(window.memdash, {choose, started, go, tapped, dragged, at: () => state.at});
})();
