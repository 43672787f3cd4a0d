/* Sizes, lengths of time, shares and instants in words, as the formatters of charts, tooltips
 * and tables call them. The rules are those of dask_memdash/text.py: a test runs both on the
 * same values. Loaded before BokehJS, on the page and in reports. No dependencies. */
"use strict";

window.memdash = (() => {
  const UNKNOWN = "–";
  const UNITS = [["PiB", 2 ** 50], ["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["kiB", 2 ** 10]];

  /** Share of a unit from which it is used: 0.9 GiB rather than 922 MiB. */
  const ENOUGH_OF_A_UNIT = 0.9;

  function known(value) {
    return typeof value === "number" && Number.isFinite(value);
  }

  /** Round half up to a number of places, as a count of the last one. */
  function steps(value, places) {
    return Math.floor(value * 10 ** places + 0.5);
  }

  function fixed(value, places) {
    return (steps(value, places) / 10 ** places).toFixed(places);
  }

  function trimmed(text) {
    return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
  }

  function unit_of(size) {
    return UNITS.find(([, factor]) => size >= factor * ENOUGH_OF_A_UNIT) ?? ["B", 1];
  }

  /** The places after the point that make three significant digits. */
  function places_of(value, factor) {
    if (factor === 1 || value >= 99.95) {
      return 0;
    }
    return value >= 9.995 ? 1 : 2;
  }

  /** Write a size in bytes, of either sign. */
  function bytes(value) {
    if (!known(value)) {
      return UNKNOWN;
    }
    const size = Math.abs(value);
    const [unit, factor] = unit_of(size);
    const text = trimmed(fixed(size / factor, places_of(size / factor, factor)));
    return `${value < 0 ? "−" : ""}${text} ${unit}`;
  }

  /** Write parts that are shown beside their sum so that they add up as shown.
   *
   * @param sizes  sizes in bytes, not negative, which sum to total
   * @returns      as many texts
   */
  function parts(sizes, total) {
    if (!known(total) || !sizes.every(known) || sizes.reduce((a, b) => a + b, 0) !== total) {
      return sizes.map(bytes);
    }
    const [unit, factor] = unit_of(total);
    const places = places_of(total / factor, factor);
    const step = factor / 10 ** places;
    const whole = sizes.map((size) => Math.floor(size / step));
    const left = steps(total / factor, places) - whole.reduce((a, b) => a + b, 0);
    const by_cut = sizes.map((size, i) => [size / step - whole[i], i]).sort((a, b) => a[0] - b[0]);
    for (const [, i] of left > 0 && left <= by_cut.length ? by_cut.slice(-left) : []) {
      whole[i] += 1;
    }
    return whole.map((count, i) => {
      if (count > 0) {
        return `${(count / 10 ** places).toFixed(places)} ${unit}`;
      }
      return sizes[i] > 0 ? `< ${(1 / 10 ** places).toFixed(places)} ${unit}` : "0 B";
    });
  }

  /** Write one part of a row of a chart's source; for tooltips that show the sum as well. */
  function part(source, row, names, name) {
    const at = (column) => source.data[column]?.[row];
    return parts(names.map(at), at("process"))[names.indexOf(name)];
  }

  /** Write a tick of an axis in bytes, in the unit of the axis's longest tick. Beneath an
   * axis sizes are drawn negative. */
  function tick(value, all) {
    if (value === 0) {
      return "0";
    }
    const [unit, factor] = unit_of(Math.max(...all.map(Math.abs)));
    return `${trimmed(fixed(Math.abs(value) / factor, factor === 1 ? 0 : 3))} ${unit}`;
  }

  /** Write an instant in milliseconds as local time of day. */
  function clock(milliseconds) {
    if (!known(milliseconds)) {
      return UNKNOWN;
    }
    const when = new Date(milliseconds);
    return [when.getHours(), when.getMinutes(), when.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
  }

  /** Write a length of time in seconds. */
  function duration(seconds) {
    if (!known(seconds)) {
      return UNKNOWN;
    }
    if (seconds < 0) {
      return `−${duration(-seconds)}`;
    }
    if (seconds < 59.5) {
      return `${fixed(seconds, seconds < 0.995 ? 2 : seconds < 9.95 ? 1 : 0)} s`;
    }
    const two = (number) => String(number).padStart(2, "0");
    const whole = steps(seconds, 0);
    if (whole < 3600) {
      return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
    }
    const minutes = steps(seconds / 60, 0);
    if (minutes < 48 * 60) {
      return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
    }
    return `${fixed(minutes / 60 / 24, 1)} days`;
  }

  /** Write a share, 0 to 1, in whole per cent. */
  function share(value) {
    if (!known(value)) {
      return UNKNOWN;
    }
    const percent = 100 * value;
    return percent > 0 && percent < 1 ? "< 1 %" : `${steps(percent, 0)} %`;
  }

  /** Write how many times as much something is. */
  function factor(value) {
    return known(value) ? `${fixed(value, value < 0.995 ? 2 : value < 9.95 ? 1 : 0)} ×` : UNKNOWN;
  }

  /** Pages on which bars in rows have little room beside them. */
  const NARROW = "(max-width: 600px)";

  /** Characters of a name beside a bar there. */
  const SHORT = 13;

  /** Return the label of a row from a column of a chart's source, shorter on a narrow page. */
  function label(source, column, row) {
    const text = source.data[column]?.[row] ?? "";
    if (!globalThis.matchMedia?.(NARROW).matches) {
      return text;
    }
    const close = text.trim().replace(/ {2,}/g, "  ");
    const letters = [...close];
    return column === "label" && letters.length > SHORT ? `${letters.slice(0, SHORT - 1).join("").replace(/[….]+$/, "")}…` : close;
  }

  /** The label beside a worker's strip, or beside the density of the rest. */
  function strip_label(strips, rest, tick) {
    const names = strips.data.short;
    if (tick < names.length && Number.isInteger(tick)) {
      return names[tick] ?? "";
    }
    const beneath = tick - names.length;
    if (!rest.data.rest.length || beneath < 0) {
      return "";
    }
    if (beneath < 1) {
      return "full";
    }
    return beneath < 3 ? `${rest.data.rest[0].toLocaleString("en")} more` : "empty";
  }

  /** What a cell of a strip says: 0 is nothing known, 1 is empty, 101 is the limit. */
  function strip_share(source, vars, value) {
    if (!(value > 0)) {
      return UNKNOWN;
    }
    const of = source.data.of[vars.image_index?.index ?? vars.index];
    const many = value > 100 ? "100 % or more" : `${value - 1} %`;
    return `${many} (about ${bytes((value - 1) / 100 * of)})`;
  }

  /** How full the workers are that a row of the density counts; its top row is full. */
  function strip_level(vars) {
    const level = 9 - (vars.image_index?.j ?? 0);
    return level === 9 ? "90 % of their limit or more" : `${10 * level} to ${10 * level + 10} % of their limit`;
  }

  return {NARROW, bytes, parts, part, tick, clock, duration, share, factor, label, strip_label, strip_share, strip_level};
})();
