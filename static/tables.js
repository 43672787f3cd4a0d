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

  class Table {
    /**
     * @param host  element that says with data-table which table it is
     * @param query what was asked of it: {sort, descending, search, page}
     * @param ask   called with a new query
     * @param write functions that write values: {size, seconds, instant, share, factor}
     */
    constructor(host, query, ask, write) {
      this.host = host;
      this.query = query;
      this.ask = ask;
      this.write = write;
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
      this.csv = make("a", {class: "md-button", download: `memdash-${this.name}.csv`, title: "All rows that match, as CSV"}, "Save CSV");
      bar.append(this.search, this.status, this.previous, this.next, this.csv);
      const scroll = make("div", {class: "md-scroll", tabindex: "0", role: "region", "aria-label": `Table of ${this.name}`});
      this.table = make("table");
      this.head = make("thead");
      this.body = make("tbody");
      this.table.append(this.head, this.body);
      scroll.append(this.table);
      this.empty = make("p", {class: "md-empty-text"}, this.host.dataset.empty);
      this.parts = [bar, scroll];
      for (const part of [...this.parts, this.empty]) {
        part.hidden = true;  // until it is known whether there is anything
      }
      this.host.replaceChildren(this.empty, bar, scroll);
      this.link_csv();
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

    /** Draw what the source holds. */
    draw(source) {
      if (!source.tags.length) {
        return;
      }
      const about = JSON.parse(source.tags[0]);
      const nothing = about.total === 0;
      for (const part of this.parts) {
        part.hidden = nothing;
      }
      this.empty.hidden = !about.empty || !this.host.dataset.empty;
      this.draw_head(about);
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
      if (!this.heads) {
        this.columns = about.columns;
        this.heads = new Map();
        const row = make("tr");
        for (const column of about.columns) {
          const cell = make("th", {scope: "col", class: NUMBERS.has(column.kind) ? "md-number" : ""});
          const button = make("button", {type: "button", title: column.words || `Sort by ${column.label}`}, column.label);
          button.addEventListener("click", () => this.sort(column));
          cell.append(button);
          row.append(cell);
          this.heads.set(column.name, cell);
        }
        if (about.columns.some((column) => column.group)) {
          this.head.append(this.groups(about.columns));
        }
        this.head.append(row);
      }
      for (const [name, cell] of this.heads) {
        const order = about.descending ? "descending" : "ascending";
        set_attribute(cell, "aria-sort", name === about.sort ? order : null);
      }
    }

    /** Make the row of heads above columns that belong together. */
    groups(columns) {
      const row = make("tr", {class: "md-groups"});
      for (let start = 0; start < columns.length;) {
        let end = start + 1;
        while (end < columns.length && columns[end].group === columns[start].group) {
          end += 1;
        }
        const {group} = columns[start];
        const span = {colspan: String(end - start)};
        row.append(group ? make("th", {scope: "colgroup", ...span}, group) : make("td", span));
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

    draw_rows(about, data) {
      const links = data._link;
      while (this.body.rows.length > links.length) {
        this.body.deleteRow(-1);
      }
      for (let i = 0; i < links.length; i += 1) {
        const row = this.body.rows[i] ?? this.add_row();
        const open = links[i] !== "" && links[i] === about.chosen;
        row.classList.toggle("md-open", open);
        this.columns.forEach((column, at) => {
          const cell = row.cells[at];
          const more = data[`_more_${column.name}`];
          this.draw_cell(cell, column, data[column.name][i], at === 0 ? links[i] : "", more ? more[i] : null, open);
        });
      }
    }

    add_row() {
      const row = this.body.insertRow();
      this.columns.forEach((column, at) => {
        const cell = at === 0 ? make("th", {scope: "row"}) : make("td");
        if (NUMBERS.has(column.kind)) {
          cell.className = "md-number";
        }
        const value = make(at === 0 ? "a" : "span");
        cell.append(value);
        row.append(cell);
      });
      return row;
    }

    draw_cell(cell, column, value, link, more, open) {
      const element = cell.firstChild;
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
      if (more !== null) {
        let second = cell.children[1];
        if (!second) {
          second = make("div", {class: "md-text"});
          cell.append(second);
        }
        set_text(second, more);
      }
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
