/* Tables of the page. The server sends one page of rows in the source of a table, cell by
 * cell as it changes; here they become an HTML table. Every cell is written as text.
 * Searching, sorting and paging are asked of the server. Knows nothing of Bokeh but that a
 * source has data, tags and signals. */
"use strict";

window.memdash_tables = (() => {
  const NUMBERS = new Set(["number", "size", "share", "factor", "seconds", "instant"]);
  const SEARCH_PAUSE = 200;

  /** Make an element with attributes and text. */
  function make(tag, attributes = {}, text = null) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      element.setAttribute(name, value);
    }
    if (text !== null) {
      element.textContent = text;
    }
    return element;
  }

  /** Write text; an address that has no room for all on one line breaks before its port. */
  function set_address(element, text) {
    const port = text.search(/:\d+$/);
    if (port < 1) {
      set_text(element, text);
    } else if (element.textContent !== text) {
      element.replaceChildren(text.slice(0, port), document.createElement("wbr"), text.slice(port));
    }
  }

  /** Set text only where it differs, so that nothing flickers and selections stay. */
  function set_text(element, text) {
    if (element.textContent !== text) {
      element.textContent = text;
    }
  }

  function set_attribute(element, name, value) {
    if (value === null) {
      element.removeAttribute(name);
    } else if (element.getAttribute(name) !== value) {
      element.setAttribute(name, value);
    }
  }

  /** A small line of numbers from 0 to 100, which come as text; empty ones are not drawn. */
  const CURVE = {width: 84, height: 22};

  function make_curve() {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "md-curve");
    svg.setAttribute("viewBox", `0 0 ${CURVE.width} ${CURVE.height}`);
    svg.setAttribute("aria-hidden", "true");  // the figures beside it say the same
    for (const name of ["md-curve-area", "md-curve-line"]) {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("class", name);
      svg.append(path);
    }
    return svg;
  }

  function draw_curve(svg, text) {
    const values = text ? text.split(",") : [];
    const step = CURVE.width / Math.max(1, values.length - 1);
    const points = values.flatMap((value, i) =>
      value === "" ? [] : [[(i * step).toFixed(1), (CURVE.height - 1 - Number(value) / 100 * (CURVE.height - 2)).toFixed(1)]]);
    const line = points.map(([x, y], i) => `${i ? "L" : "M"}${x} ${y}`).join("");
    const area = points.length ? `${line}L${points.at(-1)[0]} ${CURVE.height}L${points[0][0]} ${CURVE.height}Z` : "";
    set_attribute(svg.children[0], "d", area);
    set_attribute(svg.children[1], "d", line);
  }

  class Table {
    /**
     * @param host   element that says with data-table which table it is
     * @param query  what was asked of it: {sort, descending, search, page}
     * @param ask    called with a new query
     * @param write  functions that write values: {size, seconds, instant, share, factor}
     * @param choice which columns are shown: {set} or {columns}
     * @param keep   called with a new choice
     */
    constructor(host, query, ask, write, choice = {}, keep = () => {}) {
      this.host = host;
      this.query = query;
      this.ask = ask;
      this.write = write;
      this.choice = choice !== null && typeof choice === "object" ? choice : {};
      this.keep = keep;
      this.name = host.dataset.table;
      this.build();
    }

    build() {
      const bar = make("div", {class: "md-tablebar"});
      this.search = make("input", {type: "search", placeholder: "Search", "aria-label": `Search ${this.name}`, autocomplete: "off"});
      this.search.value = this.query.search;
      this.search.addEventListener("input", () => {
        window.clearTimeout(this.timer);
        this.timer = window.setTimeout(() => this.change({search: this.search.value, page: 0}), SEARCH_PAUSE);
      });
      this.status = make("span", {class: "md-dim", role: "status"});
      this.previous = make("button", {type: "button"}, "Previous");
      this.next = make("button", {type: "button"}, "Next");
      this.previous.addEventListener("click", () => this.change({page: Math.max(0, this.query.page - 1)}));
      this.next.addEventListener("click", () => this.change({page: this.query.page + 1}));
      this.csv = make("a", {class: "md-button md-csv", download: `memdash-${this.name}.csv`, title: "All rows that match, as CSV"}, "Save CSV");
      this.sorter = make("select", {class: "md-sorter", "aria-label": `Sort ${this.name}`});
      this.sorter.addEventListener("change", () => {
        const column = this.columns.find(({name}) => name === this.sorter.value);
        this.change({sort: this.sorter.value, descending: NUMBERS.has(column?.kind), page: 0});
      });
      this.sets = make("div", {class: "md-sets", role: "group", "aria-label": `Columns of ${this.name}`});
      this.chooser = make("details", {class: "md-chooser"});
      this.chooser.append(make("summary", {class: "md-button"}, "Columns"), make("div", {class: "md-choices"}));
      bar.append(this.search, this.sorter, this.status, this.previous, this.next, this.sets, this.chooser, this.csv);
      const scroll = make("div", {class: "md-scroll", tabindex: "0", role: "region", "aria-label": `Table of ${this.name}`});
      // Said outright: a narrow page lays rows out as blocks, which would end the table.
      this.table = make("table", {role: "table"});
      this.head = make("thead", {role: "rowgroup"});
      this.totals = make("tbody", {role: "rowgroup", class: "md-totals"});
      this.body = make("tbody", {role: "rowgroup", class: "md-rows"});
      this.body.addEventListener("click", (event) => this.open(event));
      this.table.append(this.head, this.totals, this.body);
      scroll.append(this.table);
      this.apart = make("button", {type: "button", class: "md-rows-apart", "aria-expanded": "false"});
      this.apart.hidden = true;
      this.apart.addEventListener("click", () => this.change({apart: !this.query.apart, page: 0}));
      this.empty = make("p", {class: "md-empty-text"}, this.host.dataset.empty);
      this.parts = [bar, scroll];
      for (const part of [...this.parts, this.empty]) {
        part.hidden = true;  // until it is known whether there is anything
      }
      this.host.replaceChildren(this.empty, bar, scroll, this.apart);
      this.link_csv();
    }

    /** Open what a row is about, wherever on it was clicked; marking text is no click. */
    open(event) {
      const {target} = event;
      const row = target.closest("tr");
      if (row?.dataset.link && !target.closest("a[href], button") && window.getSelection().toString() === "") {
        window.location.hash = row.dataset.link;
      }
    }

    change(changes) {
      this.query = {...this.query, ...changes};
      this.link_csv();
      this.ask(this.query);
    }

    link_csv() {
      const {sort, descending, search} = this.query;
      const asked = new URLSearchParams({sort, search, descending: descending ? "1" : ""});
      this.csv.href = `memdash/tables/${this.name}.csv?${asked}`;
    }

    // --- which columns ---------------------------------------------------------------

    /** Show other columns, and keep that. */
    choose(choice) {
      this.choice = choice;
      this.keep(choice);
      this.draw(this.source, this.total);
    }

    /** The names of the columns that are chosen, in the order of their set. */
    chosen(about) {
      const sets = Object.values(about.sets);
      const own = Array.isArray(this.choice.columns) ? this.choice.columns : null;
      return own ?? about.sets[this.choice.set] ?? sets[0] ?? about.columns.map(({name}) => name);
    }

    /** The columns that are shown: the first one, and those that are chosen. */
    visible(about) {
      const [first, ...rest] = about.columns;
      const found = new Map(rest.map((column) => [column.name, column]));
      return [first, ...this.chosen(about).map((name) => found.get(name)).filter(Boolean)];
    }

    draw_choice(about) {
      const names = Object.keys(about.sets);
      const asked = JSON.stringify([names, about.columns.map(({name}) => name), this.choice]);
      if (asked === this.offered) {
        return;
      }
      this.offered = asked;
      const current = Array.isArray(this.choice.columns) ? "" : about.sets[this.choice.set] ? this.choice.set : names[0];
      if (this.sets.children.length !== names.length) {
        this.sets.replaceChildren(...names.map((label) => {
          const button = make("button", {type: "button"}, label);
          button.addEventListener("click", () => this.choose({set: label}));
          return button;
        }));
      }
      for (const button of this.sets.children) {
        set_attribute(button, "aria-pressed", String(button.textContent === current));
      }
      this.sets.hidden = names.length < 2;
      this.chooser.hidden = names.length === 0;
      const shown = new Set(this.visible(about).map(({name}) => name));
      const [, choices] = this.chooser.children;
      if (choices.children.length !== about.columns.length) {
        choices.replaceChildren(...about.columns.slice(1).map((column) => this.make_choice(column)), this.make_reset());
      }
      for (const box of choices.querySelectorAll("input")) {
        box.checked = shown.has(box.value);
      }
    }

    make_choice(column) {
      const label = make("label", {title: column.words});
      const box = make("input", {type: "checkbox", value: column.name});
      box.addEventListener("change", () => {
        const boxes = [...this.chooser.querySelectorAll("input")];
        const kept = this.visible(this.about).slice(1).map(({name}) => name).filter((name) => name !== box.value);
        const added = boxes.filter((one) => one.checked && !kept.includes(one.value)).map((one) => one.value);
        this.choose({columns: [...kept, ...added]});
      });
      label.append(box, ` ${column.label}`);
      return label;
    }

    make_reset() {
      const button = make("button", {type: "button"}, "Usual columns");
      button.addEventListener("click", () => this.choose({}));
      return button;
    }

    // --- drawing ---------------------------------------------------------------------

    /** Draw what the source holds, beneath the row of totals. */
    draw(source, total) {
      this.source = source;
      this.total = total;
      if (!source?.tags.length) {
        return;
      }
      const about = JSON.parse(source.tags[0]);
      this.about = about;
      const nothing = about.total === 0;
      for (const part of this.parts) {
        part.hidden = nothing;
      }
      this.empty.hidden = !about.empty || !this.host.dataset.empty;
      this.apart.hidden = about.apart === "";
      set_text(this.apart, `${this.query.apart ? "Hide" : "Show"} ${about.apart}`);
      set_attribute(this.apart, "aria-expanded", String(Boolean(this.query.apart)));
      this.draw_choice(about);
      this.draw_head(about);
      this.draw_total(about, total);
      this.draw_rows(about, source.data);
      const last = about.first + about.shown;
      const found = about.matching < about.total ? ` of ${about.matching.toLocaleString("en")} that match` : "";
      const asked = about.sort !== "" || this.query.search !== "";
      const among = asked && about.total >= 500 && about.searched ? `, ${about.searched}` : "";
      set_text(this.status, about.shown === 0 ? "Nothing matches" :
        about.shown === about.total ? `${about.total.toLocaleString("en")}` :
        `${(about.first + 1).toLocaleString("en")} to ${last.toLocaleString("en")}${found} of ${about.total.toLocaleString("en")}${among}`);
      this.previous.disabled = about.first === 0;
      this.next.disabled = last >= about.matching;
      const paged = about.shown < about.matching;
      this.previous.hidden = this.next.hidden = !paged;
    }

    draw_head(about) {
      const columns = this.visible(about);
      const drawn = columns.map(({name}) => name).join(" ");
      if (this.drawn !== drawn) {
        this.drawn = drawn;
        this.columns = columns;
        this.heads = new Map();
        const row = make("tr", {role: "row"});
        columns.forEach((column, at) => {
          const cell = make("th", {scope: "col", role: "columnheader", class: this.class_of(column, at)});
          const button = make("button", {type: "button", title: column.words || `Sort by ${column.label}`}, column.label);
          button.addEventListener("click", () => this.sort(column));
          cell.append(column.kind === "curve" ? make("span", {title: column.words}, column.label) : button);
          row.append(cell);
          this.heads.set(column.name, cell);
        });
        const several = new Set(columns.map((column) => column.group)).size > 1;
        const sortable = columns.filter(({kind}) => kind !== "curve");
        this.head.replaceChildren(...several ? [this.groups(columns)] : [], row);
        this.body.replaceChildren();
        this.totals.replaceChildren();
        this.sorter.replaceChildren(
          make("option", {value: ""}, "Sort by"),
          ...sortable.map((column) => make("option", {value: column.name}, column.label)));
      }
      for (const [name, cell] of this.heads) {
        const order = about.descending ? "descending" : "ascending";
        set_attribute(cell, "aria-sort", name === about.sort ? order : null);
      }
      this.sorter.value = this.heads.has(about.sort) ? about.sort : "";
    }

    /** Classes of a column's cells: how it is written, and which of the columns it is. */
    class_of(column, at) {
      return `${NUMBERS.has(column.kind) ? "md-number" : ""} md-column-${Math.min(at, 9)}`.trim();
    }

    /** Make the row of heads above columns that belong together. */
    groups(columns) {
      const row = make("tr", {role: "row", class: "md-groups"});
      for (let start = 0; start < columns.length;) {
        let end = start + 1;
        while (end < columns.length && columns[end].group === columns[start].group) {
          end += 1;
        }
        const {group} = columns[start];
        const span = {colspan: String(end - start)};
        row.append(group ? make("th", {scope: "colgroup", role: "columnheader", ...span}, group) : make("td", {role: "cell", ...span}));
        start = end;
      }
      return row;
    }

    /** Sort by a column: numbers largest first; again turns it round, again ends it. */
    sort(column) {
      const first = NUMBERS.has(column.kind);
      if (this.query.sort !== column.name) {
        this.change({sort: column.name, descending: first, page: 0});
      } else if (this.query.descending === first) {
        this.change({descending: !first, page: 0});
      } else {
        this.change({sort: "", descending: false, page: 0});
      }
    }

    draw_total(about, total) {
      const [{name}] = this.columns;
      const known = about.totals && Boolean(total?.data[name]?.[0]);
      this.totals.hidden = !known;
      if (known) {
        const row = this.totals.rows[0] ?? this.add_row(this.totals);
        this.draw_row(row, total.data, 0, "", false);
      }
    }

    draw_rows(about, data) {
      const links = data._link;
      while (this.body.rows.length > links.length) {
        this.body.deleteRow(-1);
      }
      for (let i = 0; i < links.length; i += 1) {
        const row = this.body.rows[i] ?? this.add_row(this.body);
        const open = links[i] !== "" && links[i] === about.chosen;
        row.classList.toggle("md-open", open);
        row.classList.toggle("md-faint", Boolean(data._faint?.[i]));
        set_attribute(row, "data-link", links[i] || null);
        this.draw_row(row, data, i, links[i], open);
      }
    }

    draw_row(row, data, i, link, open) {
      this.columns.forEach((column, at) => {
        const more = data[`_more_${column.name}`];
        const links = at === 0 ? link : data[`_link_${column.name}`]?.[i] ?? "";
        this.draw_cell(row.cells[at], column, data[column.name]?.[i], links, more?.[i] ?? "", at === 0 && open);
      });
    }

    add_row(body) {
      const row = body.insertRow();
      row.setAttribute("role", "row");
      this.columns.forEach((column, at) => {
        const cell = at === 0 ? make("th", {scope: "row", role: "rowheader"}) : make("td", {role: "cell", "data-label": column.label, "data-kind": column.kind});
        cell.className = this.class_of(column, at);
        if (column.kind === "curve") {
          cell.append(make_curve());
        } else if (column.kind === "names") {
          cell.append(make("span", {class: "md-names"}));
        } else {
          cell.append(make("a"));
        }
        row.append(cell);
      });
      return row;
    }

    draw_cell(cell, column, value, link, more, open) {
      const element = cell.firstChild;
      const unknown = value === null || value === undefined || value === "";
      set_attribute(cell, "data-unknown", unknown ? "" : null);
      if (column.kind === "curve") {
        draw_curve(element, value);
        return;
      }
      if (column.kind === "names" && value) {
        this.draw_names(element, value.split("\n"), link.split("\n"));
        return;
      }
      set_text(element, this.text(column.kind, value));
      if (element.tagName === "A") {
        set_attribute(element, "href", link === "" ? null : `#${link}`);
        set_attribute(element, "aria-current", open ? "true" : null);
      }
      if (column.kind === "state") {
        cell.dataset.value = value ?? "";
      }
      if (column.kind === "share") {
        cell.classList.add("md-share");
        cell.style.setProperty("--md-share", `${Math.min(100, 100 * (value ?? 0)).toFixed(1)}%`);
      }
      let second = cell.children[1];
      if (more !== "" && !second) {
        second = make("div", {class: "md-text"});
        cell.append(second);
      }
      if (second) {
        set_address(second, more);
        set_attribute(second, "title", more.length > 40 ? more : null);  // two lines of it are shown
      }
    }

    /** Write names as links, a comma between two. */
    draw_names(element, names, links) {
      const told = JSON.stringify([names, links]);
      if (element.told === told) {
        return;
      }
      element.told = told;
      const parts = names.flatMap((name, i) => {
        const one = links[i] ? make("a", {href: `#${links[i]}`}, name) : document.createTextNode(name);
        return i === 0 ? [one] : [document.createTextNode(", "), one];
      });
      element.replaceChildren(...parts);
    }

    text(kind, value) {
      if (value === null || value === undefined || value === "" || Number.isNaN(value)) {
        return "–";
      }
      switch (kind) {
        case "size": return this.write.size(value);
        case "seconds": return this.write.seconds(value);
        case "instant": return this.write.instant(value * 1000);
        case "share": return this.write.share(value);
        case "factor": return this.write.factor(value);
        case "number": return value.toLocaleString("en");
        default: return String(value);
      }
    }
  }

  return {Table};
})();
