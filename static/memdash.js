/* What the page does in the browser by itself: writing sizes and times in charts, and
 * keeping the address (#incident-3) and the open tables in step with the server.
 * No dependencies; loaded before BokehJS, whose formatters call it. */
"use strict";

window.memdash = (() => {
  const UNITS = [["PiB", 2 ** 50], ["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["kiB", 2 ** 10]];

  /** Write bytes as Dask does; beneath the axis sizes are drawn negative. */
  function bytes(value, digits = 2) {
    if (value === null || value === undefined || Number.isNaN(value)) {
      return "–";
    }
    const size = Math.abs(value);
    for (const [unit, factor] of UNITS) {
      if (size >= factor * 0.9) {
        return `${(size / factor).toFixed(digits)} ${unit}`;
      }
    }
    return `${Math.round(size)} B`;
  }

  /** Write a tick of an axis in bytes, without digits that say nothing. */
  function ticks(value) {
    return value === 0 ? "0" : bytes(value, 2).replace(/\.?0+ /, " ");
  }

  /** Write an instant in milliseconds as local time of day. */
  function clock(milliseconds) {
    return new Date(milliseconds).toLocaleTimeString([], {hour12: false});
  }

  /** Give the text of a row from a column of a chart's source. */
  function label(source, column, row) {
    return source.data[column]?.[row] ?? "";
  }

  /** Find a model of the page by its name, once the page is there. */
  function model(name) {
    for (const doc of window.Bokeh?.documents ?? []) {
      const found = doc.get_model_by_name(name);
      if (found) {
        return found;
      }
    }
    return null;
  }

  /** Tell the server something through one of the page's hidden inputs. */
  function tell(name, value) {
    const input = model(name);
    if (input && input.value !== value) {
      input.value = value;
    }
  }

  function follow_address() {
    const match = /^#incident-(.{1,40})$/.exec(window.location.hash);
    tell("memdash-incident", match ? decodeURIComponent(match[1]) : "");
  }

  function follow_tables() {
    const open = [...document.querySelectorAll("details[data-table][open]")];
    tell("memdash-tables", open.map((details) => details.dataset.table).join(" "));
  }

  /** Start once BokehJS has the document; the browser may be slower or faster. */
  function start() {
    if (!model("memdash-incident")) {
      window.setTimeout(start, 50);
      return;
    }
    document.documentElement.dataset.memdash = "ready";
    follow_address();
    follow_tables();
    window.addEventListener("hashchange", follow_address);
    for (const details of document.querySelectorAll("details[data-table]")) {
      details.addEventListener("toggle", follow_tables);
    }
  }

  document.addEventListener("DOMContentLoaded", start);
  return {bytes, ticks, clock, label};
})();
