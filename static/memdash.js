/* What the page does in the browser by itself: keeping the address (#workers, #incident-3)
 * and the server in step, pausing, saving charts, the help panel.  No dependencies but
 * formats.js and tables.js; the moment that is shown is time.js's. */
"use strict";

(() => {
  /** What an address begins with when it names one thing → the tab that shows it. */
  const KINDS = {worker: "workers", prefix: "tasks", other: "tasks", incident: "incidents", failure: "incidents", graph: "order", limit: "limits"};

  /** Other names of tabs, as people may write them. */
  const ALIASES = {failures: "incidents", prefixes: "tasks"};

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

  // --- what is shown ----------------------------------------------------------------

  const state = {tab: "overview", chosen: "", window: null, at: null, paused: false, hidden: document.hidden, follow: 0, zoom: 0, tables: {}};

  /** Tell the server what this browser shows. */
  function tell() {
    const input = model("memdash-state");
    const text = JSON.stringify(state);
    if (input && input.value !== text) {
      input.value = text;
    }
  }

  /** What a tab says once all of it is drawn; until then memdash.css shows its title alone. */
  const WHOLE = "wholly";

  /** Milliseconds after which a tab is shown even if it is not whole. */
  const LONGEST = 10_000;

  /** Whether the page is connected, and what its controls do. */
  let started = false;

  /** Say that the page is alive, once it is and a tab is shown whole. */
  function say_ready() {
    if (started && document.querySelector(`[data-drawn=${WHOLE}]`)) {
      document.querySelector(".md-first")?.remove();
      document.documentElement.dataset.memdash = "ready";
    }
  }

  /** Whether a view has all that the server sent for it, with its styles. */
  function complete(view) {
    if (view.el.isConnected && !view.el.checkVisibility()) {
      return true;  // it takes no room
    }
    const {child_models = [], child_views = []} = view;
    const styled = view.container?.style.visibility !== "hidden";  // Panel's, until then
    return styled && view.has_finished() && child_views.length === child_models.length && child_views.every(complete);
  }

  /** Show a tab once it is whole and two frames are of one height: what comes piece by
   * piece would push what stands below it. */
  function reveal(panel, since = window.performance.now(), height = null) {
    window.requestAnimationFrame(() => {
      if (panel.hidden) {
        delete panel.dataset.drawn;
        return;
      }
      const whole = started && !waits() && [...document.querySelectorAll("[data-root-id]")].every((place) => {
        const view = window.Bokeh.index.find_one_by_id(place.dataset.rootId);
        return !place.parentElement.checkVisibility() || (view && complete(view));
      });
      if ((whole && panel.scrollHeight === height) || window.performance.now() - since > LONGEST) {
        panel.dataset.drawn = WHOLE;
        show_waiting();
        say_ready();
      } else {
        reveal(panel, since, whole ? panel.scrollHeight : null);
      }
    });
  }

  /** What the server has drawn last, as its facts say. */
  let drawn = "";

  function waits() {
    return drawn !== `${state.tab} ${state.chosen.slice(0, 1000)}`;
  }

  /** Say that what was asked for is not here yet. */
  function show_waiting() {
    const name = state.chosen.replace(/^failure-/, "");
    for (const panel of document.querySelectorAll("[data-tab]")) {
      const shown = panel.dataset.tab === state.tab;
      const here = shown && (waits() || panel.dataset.drawn !== WHOLE);
      panel.toggleAttribute("data-waits", here);
      if (shown && panel.dataset.drawn === undefined) {
        panel.dataset.drawn = "partly";
        reveal(panel);
      }
      const what = panel.querySelector(".md-details .md-loading > span");
      if (what && here && state.chosen !== "") {
        what.textContent = `Loading ${state.kind} ${name.slice(0, 80)}…`;
      }
    }
  }

  /** Take the tab, and what is chosen on it, from the address. */
  function follow_address() {
    const hash = window.location.hash.slice(1);
    const [, kind, name] = /^([a-z]+)-(.+)$/.exec(hash) ?? [];
    const tabs = [...document.querySelectorAll("[data-tab]")].map((panel) => panel.dataset.tab);
    state.kind = kind in KINDS ? kind : "";
    if (kind in KINDS) {
      state.tab = KINDS[kind];
      try {
        state.chosen = decodeURIComponent(name);
      } catch {
        state.chosen = name;
      }
      if (kind === "failure") {
        state.chosen = `failure-${state.chosen}`;  // it shares its tab with incidents
      }
    } else {
      const tab = ALIASES[hash] ?? hash;
      state.tab = tabs.includes(tab) ? tab : "overview";
      state.chosen = "";
    }
    show_tab();
    show_waiting();
    tell();
  }

  /** Pages on which details are a drawer over their list; see memdash.css. */
  const DRAWER = "(max-width: 1199.9px)";

  /** The address that was shown before this one. */
  let left = window.location.hash.slice(1);

  /** Go where the address points. Details stand beside their list, which stays where it is;
   * where a tab has none, what is chosen stands at its top. */
  function go_to_address() {
    const [tab, chosen, from] = [state.tab, state.chosen, left];
    left = window.location.hash.slice(1);
    follow_address();
    const panel = document.querySelector(`[data-tab="${state.tab}"]`);
    const details = panel.querySelector(".md-details");
    if (state.tab !== tab) {
      window.scrollTo(0, 0);
    }
    if (state.chosen !== "") {
      if (details) {
        details.scrollTop = 0;
      } else {
        window.scrollTo(0, 0);
      }
      (details ?? panel).focus({preventScroll: true});
    } else if (chosen !== "" && state.tab === tab) {
      const opener = [...panel.querySelectorAll("[data-table] a[href]")].find((link) => link.hash === `#${from}`);
      (opener ?? panel).focus({preventScroll: true});
    }
  }

  /** Have texts change in place, once there is one. */
  function keep_texts() {
    for (const doc of window.Bokeh.documents) {
      for (const one of doc.all_models) {
        const view = one.type === "panel.models.markup.HTML" && window.Bokeh.index.find_one_by_id(one.id);
        if (view) {
          window.memdash_morph.adopt(view);
          return;
        }
      }
    }
  }

  /** Close what is chosen, unless the key belongs to a dialog or a field. */
  function close_chosen(event) {
    const typing = event.composedPath()[0] instanceof HTMLInputElement;
    if (event.key === "Escape" && !typing && !document.querySelector("dialog[open]") && state.chosen !== "") {
      window.location.hash = state.tab;
    }
  }

  function show_tab() {
    for (const panel of document.querySelectorAll("[data-tab]")) {
      panel.hidden = panel.dataset.tab !== state.tab;
    }
    for (const part of document.querySelectorAll("[data-needs=chosen]")) {
      part.hidden = state.chosen === "";
    }
    for (const link of document.querySelectorAll("[data-tab-link]")) {
      if (link.dataset.tabLink === state.tab) {
        link.setAttribute("aria-current", "page");
      } else {
        link.removeAttribute("aria-current");
      }
    }
  }

  /** For time.js, which chooses the moment that is shown. */
  window.memdash.page = {state, tell, model};

  // --- time ---------------------------------------------------------------------------

  function show_time() {
    for (const button of document.querySelectorAll("[data-window]")) {
      const window_of = button.dataset.window === "" ? null : Number(button.dataset.window);
      button.setAttribute("aria-pressed", String(window_of === state.window));
    }
    const pause = document.getElementById("pause");
    pause.setAttribute("aria-pressed", String(state.paused));
    pause.textContent = state.paused ? "Resume" : "Pause";
    document.getElementById("paused").hidden = !state.paused;
  }

  function connect_time() {
    for (const button of document.querySelectorAll("[data-window]")) {
      button.addEventListener("click", () => {
        state.window = button.dataset.window === "" ? null : Number(button.dataset.window);
        state.follow += 1;
        show_time();
        tell();
      });
    }
    document.getElementById("follow").addEventListener("click", () => {
      state.follow += 1;
      tell();
    });
    document.getElementById("pause").addEventListener("click", () => {
      state.paused = !state.paused;
      show_time();
      tell();
    });
    document.addEventListener("visibilitychange", () => {
      state.hidden = document.hidden;  // the server draws nothing that nobody sees
      tell();
    });
    show_time();
  }

  // --- connection -------------------------------------------------------------------

  /** Where a page that loads itself again leaves to itself what its address does not say. */
  const KEPT = "memdash-state";

  /** Milliseconds until the first look whether the server answers, and between two. */
  const SOON = 1000;
  const PATIENCE = 5000;

  function remember() {
    const {window: length, paused, tables} = state;
    try {
      window.sessionStorage.setItem(KEPT, JSON.stringify({window: length, paused, tables}));
    } catch {
      // Not allowed here: then the page begins anew.
    }
  }

  function recall() {
    try {
      Object.assign(state, JSON.parse(window.sessionStorage.getItem(KEPT) ?? "{}"));
      window.sessionStorage.removeItem(KEPT);
    } catch {
      // As above.
    }
  }

  function load_again() {
    remember();
    window.location.reload();
  }

  /** Say that the connection is lost, and load the page again once MemDash answers.
   *
   * BokehJS is told not to connect by itself: it would take the document anew, while
   * what is bound to the old one stands still; and the scheduler may be another one. */
  function keep_connected() {
    const look = async () => {
      try {
        const answer = await fetch("memdash/api/cluster", {cache: "no-store"});
        if (answer.ok && await answer.json()) {
          load_again();
          return;
        }
      } catch {
        // Still away, or something else answers.
      }
      window.setTimeout(look, PATIENCE);
    };
    model("memdash-facts").document?.on_event?.("connection_lost", () => {
      document.getElementById("lost").hidden = false;
      window.setTimeout(look, SOON);
    });
  }

  // --- facts, tables, help ------------------------------------------------------------

  /** Call a function now and whenever a source changes, at most once a frame. */
  function watch(source, draw) {
    let asked = false;
    const later = () => {
      if (!asked) {
        asked = true;
        window.requestAnimationFrame(() => {
          asked = false;
          draw(source);
        });
      }
    };
    for (const signal of [source.properties.data.change, source.properties.tags.change, source.patching, source.streaming]) {
      signal.connect(later);
    }
    draw(source);
  }

  function write_facts(source) {
    fit_charts();  // those of a tab are made when it is shown first
    offer_pictures();
    source.data.name.forEach((name, i) => {
      const text = source.data.text[i];
      for (const place of document.querySelectorAll(`[data-fact="${name}"]`)) {
        place.textContent = text;
      }
      if (name === "drawn") {
        drawn = text;
        show_waiting();
      }
      if (name === "zoomed") {
        document.getElementById("follow").hidden = text === "";
      }
      for (const part of document.querySelectorAll(`[data-needs="${name}"]`)) {
        part.hidden = text === "";
      }
      for (const part of document.querySelectorAll(`[data-without="${name}"]`)) {
        part.hidden = text !== "";
      }
    });
  }

  /** Where the browser keeps which columns its reader looks at: table → choice. */
  const COLUMNS = "memdash-columns";

  function kept_columns() {
    try {
      const kept = JSON.parse(window.localStorage.getItem(COLUMNS) ?? "{}");
      return kept !== null && typeof kept === "object" ? kept : {};
    } catch {
      return {};  // not allowed here, or nonsense: then as tables are made
    }
  }

  function keep_columns(columns) {
    try {
      window.localStorage.setItem(COLUMNS, JSON.stringify(columns));
    } catch {
      // Not allowed here: then until the page is left.
    }
  }

  function connect_tables() {
    const {bytes, duration, clock, share, factor} = window.memdash;
    const write = {size: bytes, seconds: duration, instant: clock, share, factor};
    const columns = kept_columns();
    for (const host of document.querySelectorAll("[data-table]")) {
      const name = host.dataset.table;
      const query = state.tables[name] ?? {sort: "", descending: false, search: "", page: 0};
      const table = new window.memdash_tables.Table(host, query, (asked) => {
        state.tables = {...state.tables, [name]: asked};
        tell();
      }, write, columns[name], (choice) => {
        columns[name] = choice;
        keep_columns(columns);
      });
      const [rows, total] = [model(`memdash-table-${name}`), model(`memdash-total-${name}`)];
      const draw = () => table.draw(rows, total);
      watch(rows, draw);
      watch(total, draw);
    }
  }

  /** Close an open menu with Escape, by a click elsewhere, or when something is chosen. */
  function connect_menus() {
    const menus = [...document.querySelectorAll("details.md-elsewhere, details.md-chooser")];
    document.addEventListener("click", (event) => {
      for (const menu of menus) {
        menu.open = menu.open && event.composedPath().includes(menu);
      }
    });
    for (const menu of menus) {
      menu.addEventListener("keydown", (event) => {
        if (event.key === "Escape" && menu.open) {
          menu.open = false;
          menu.querySelector("summary").focus();
          event.stopPropagation();
        }
      });
    }
  }

  function connect_help() {
    const help = document.getElementById("help");
    document.getElementById("help-open").addEventListener("click", () => help.showModal());
    document.getElementById("help-close").addEventListener("click", () => help.close());
    document.addEventListener("keydown", (event) => {
      const typing = event.composedPath()[0] instanceof HTMLInputElement;
      if (event.key === "?" && !typing && !help.open) {
        help.showModal();
      }
    });
  }

  /** Keep Panel from links inside its texts: it looks for what they name by a selector,
   * which the address of a worker is none of.  The page itself follows the address. */
  function connect_links() {
    document.addEventListener("click", (event) => {
      const link = event.composedPath().find((node) => node instanceof HTMLAnchorElement);
      const inside = link !== undefined && link.getRootNode() !== document;
      if (inside && link.getAttribute("href")?.startsWith("#")) {
        event.stopPropagation();
      }
    }, {capture: true});
  }

  /** What charts have on a wide page, by their id: room at both sides, ticks beneath. */
  const wide = new Map();

  /** Ticks beneath a chart on a narrow page; beneath bars, which names stand beside. */
  const FEW = 3;
  const FEWEST = 2;

  /** Charts that share the time axis on one page. */
  const TIME = ["history", "strips"];

  /** Give charts the room that the page has: on a narrow one fewer ticks, and no more
   * beside bars than their labels take. */
  function fit_charts() {
    const narrow = window.matchMedia(window.memdash.NARROW).matches;
    for (const {dataset: {chart}} of document.querySelectorAll("[data-chart]")) {
      const figure = model(`memdash-chart-${chart}`);
      const ticker = figure?.below[0]?.ticker;
      if (ticker?.desired_num_ticks === undefined) {
        continue;
      }
      if (!wide.has(figure.id)) {
        wide.set(figure.id, [figure.min_border_left, figure.min_border_right, ticker.desired_num_ticks]);
      }
      const [left, right, ticks] = wide.get(figure.id);
      const beside = Boolean(left || right);
      const kept = TIME.includes(chart) ? left : 0;  // they stand beneath each other exactly
      figure.setv({min_border_left: narrow ? kept : left, min_border_right: narrow ? 0 : right});
      ticker.desired_num_ticks = narrow ? Math.min(ticks, beside ? FEWEST : FEW) : ticks;
    }
  }

  // --- charts as pictures -------------------------------------------------------------

  /** Give a chart as a canvas on the card's ground, with its title above it. */
  function picture(name, title) {
    const figure = model(`memdash-chart-${name}`);
    const view = figure && window.Bokeh.index.find_one_by_id(figure.id);
    if (!view) {
      return null;
    }
    const drawn = view.export("png", true).canvas;
    const scale = window.devicePixelRatio || 1;
    const style = getComputedStyle(document.documentElement);
    const canvas = document.createElement("canvas");
    const [margin, head] = [12 * scale, 34 * scale];
    canvas.width = drawn.width + 2 * margin;
    canvas.height = drawn.height + head + margin;
    const ink = canvas.getContext("2d");
    ink.fillStyle = style.getPropertyValue("--md-card").trim();
    ink.fillRect(0, 0, canvas.width, canvas.height);
    ink.fillStyle = style.getPropertyValue("--md-ink").trim();
    ink.font = `600 ${15 * scale}px system-ui, sans-serif`;
    ink.fillText(title, margin, head - 12 * scale);
    ink.drawImage(drawn, margin, head);
    return canvas;
  }

  /** Save a chart that is drawn as a PNG. */
  function save(name, title) {
    const canvas = picture(name, title);
    canvas?.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `memdash-${name}.png`;
      link.click();
      window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    }, "image/png");
  }

  /** Offer to save a chart while it is there; a failure's details, for one, have none. */
  function offer_pictures() {
    for (const button of document.querySelectorAll(".md-png")) {
      const figure = model(`memdash-chart-${button.dataset.of}`);
      if (figure && button.followed !== figure.id) {
        const follow = () => {
          button.hidden = !figure.visible;
        };
        button.followed = figure.id;
        figure.properties.visible.change.connect(follow);
        follow();
      }
    }
  }

  function connect_charts() {
    for (const chart of document.querySelectorAll("[data-chart]")) {
      const card = chart.closest(".md-card");
      const before = [...card.querySelectorAll("h2, h3")].filter(
        (one) => one.compareDocumentPosition(chart) & Node.DOCUMENT_POSITION_FOLLOWING,
      );
      const title = before.pop()?.firstChild.textContent.trim() ?? card.getAttribute("aria-label");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "md-png";
      button.textContent = "Save PNG";
      button.title = "This chart as a picture";
      button.setAttribute("aria-label", `Save chart as PNG: ${title}`);
      button.addEventListener("click", () => save(chart.dataset.chart, title));
      button.dataset.of = chart.dataset.chart;
      button.hidden = true;
      if (card.matches(".md-details")) {
        chart.after(button);  // at the top stand the details' own buttons
      } else {
        chart.before(button);
      }
    }
    offer_pictures();
  }

  /** Milliseconds after which a page that BokehJS has no document for says so. */
  const LONG = 8000;

  /** Start once BokehJS has the document; the browser may be slower or faster. */
  function start() {
    const there = Boolean(model("memdash-state"));
    document.getElementById("waiting").hidden = there || window.performance.now() < LONG;
    if (!there) {
      window.setTimeout(start, 50);
      return;
    }
    recall();
    connect_time();
    connect_tables();
    connect_help();
    connect_menus();
    connect_links();
    connect_charts();
    keep_texts();
    watch(model("memdash-facts"), write_facts);
    follow_address();
    if (window.matchMedia(DRAWER).matches) {
      document.querySelector(".md-pair:not([hidden]) > .md-details:not([hidden])")?.focus({preventScroll: true});
    }
    keep_connected();
    window.matchMedia(window.memdash.NARROW).addEventListener("change", fit_charts);
    window.addEventListener("hashchange", go_to_address);
    document.addEventListener("keydown", close_chosen);
    window.memdash.started();
    started = true;
    say_ready();
  }

  follow_address();  // before the first paint
  // Once: Panel's shim of ES modules fires this event again.
  document.addEventListener("DOMContentLoaded", start, {once: true});
})();
