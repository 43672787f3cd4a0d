/* The list of recorded runs: searched while one types, kept up to date, with keys.
 * The server writes the list; what has changed of it is asked for and put in its place. */
"use strict";

(() => {
  /** Milliseconds between two looks, and from a key to a search. */
  const EACH = 5000;
  const SOON = 150;

  const list = document.getElementById("runs-list");
  const search = document.getElementById("runs-search");
  const lost = document.getElementById("runs-lost");
  let last = null;
  let number = 0;
  let typed = null;

  /** The address of the list as it is asked for now. */
  function address() {
    const found = new URL(window.location.href);
    found.hash = "";
    found.searchParams.delete("part");
    if (search.value) {
      found.searchParams.set("q", search.value);
    } else {
      found.searchParams.delete("q");
    }
    return found;
  }

  function links() {
    return [...list.querySelectorAll("tbody th a")];
  }

  /** What is focused in the list: run and which of its links; it is a new one soon. */
  function focused() {
    const row = document.activeElement?.closest?.("[data-run]");
    return row && list.contains(row)
      ? [row.dataset.run, [...row.querySelectorAll("a")].indexOf(document.activeElement)]
      : null;
  }

  async function look() {
    const mine = ++number;
    const part = address();
    part.searchParams.set("part", "rows");
    try {
      const answer = await fetch(part, {cache: "no-store"});
      if (!answer.ok) {
        throw new Error(answer.status);
      }
      const text = await answer.text();
      if (mine !== number) {
        return;  // another question was asked since
      }
      lost.hidden = true;
      if (text !== last) {
        last = text;
        const kept = focused();
        // The server escapes whatever a run says; nothing in it is a script's.
        list.innerHTML = text;
        if (kept) {
          const row = [...list.querySelectorAll("[data-run]")].find((one) => one.dataset.run === kept[0]);
          row?.querySelectorAll("a")[kept[1]]?.focus({preventScroll: true});
        }
      }
      document.documentElement.dataset.memdash = "ready";
    } catch {
      lost.hidden = mine !== number;
    }
  }

  function searched() {
    window.clearTimeout(typed);
    typed = window.setTimeout(() => {
      window.history.replaceState(null, "", address());
      look();
    }, SOON);
  }

  search.addEventListener("input", searched);
  search.form.addEventListener("submit", (event) => {
    event.preventDefault();
    searched();
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const typing = event.target === search;
    if (event.key === "/" && !typing) {
      event.preventDefault();
      search.focus();
      search.select();
    } else if (event.key === "Escape" && typing) {
      search.value = "";
      searched();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const rows = links();
      const at = rows.indexOf(document.activeElement);
      const next = event.key === "ArrowDown" ? at + 1 : at - 1;
      if (rows.length && (event.key === "ArrowDown" || at >= 0)) {
        event.preventDefault();
        (next < 0 ? search : rows[Math.min(next, rows.length - 1)]).focus();
      }
    } else if (event.key === "Home" || event.key === "End") {
      const rows = links();
      if (!typing && rows.includes(document.activeElement)) {
        event.preventDefault();
        rows.at(event.key === "Home" ? 0 : -1).focus();
      }
    } else if (event.key === "Enter" && typing && links().length === 1) {
      event.preventDefault();
      links()[0].click();
    }
  });

  window.setInterval(() => {
    if (!document.hidden) {
      look();
    }
  }, EACH);
  document.addEventListener("visibilitychange", () => document.hidden || look());
  look();
})();
