/* Sizes, times and labels in words, as the formatters of charts and tables call them. Loaded
 * before BokehJS, on the page and in reports. No dependencies. */
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

  /** Write bytes with their sign. */
  function signed(value) {
    return value < 0 ? `−${bytes(value)}` : bytes(value);
  }

  /** Write a tick of an axis in bytes, without digits that say nothing. */
  function ticks(value) {
    return value === 0 ? "0" : bytes(value, 2).replace(/\.?0+ /, " ");
  }

  /** Write an instant in milliseconds as local time of day. */
  function clock(milliseconds) {
    return new Date(milliseconds).toLocaleTimeString([], {hour12: false});
  }

  /** Write a length of time in seconds. */
  function duration(seconds) {
    if (seconds < 120) {
      return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
    }
    return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  }

  /** Give the text of a row from a column of a chart's source. */
  function label(source, column, row) {
    return source.data[column]?.[row] ?? "";
  }

  return {bytes, signed, ticks, clock, duration, label};
})();
