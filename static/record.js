/* The slider of a recorded run: moves the instant that the page shows, and plays the record.
 * Needs time.js, which keeps the instant. */
"use strict";

(() => {
  /** Milliseconds between two steps of a record that plays, and steps of a whole one. */
  const STEP = 500;
  const STEPS = 120;

  /** Milliseconds between two instants that are asked for while the slider is dragged. */
  const SOON = 120;

  /** How near to the end counts as the end, in seconds. */
  const NEAR = 0.01;

  const banner = document.getElementById("record");
  const slider = document.getElementById("record-at");
  const shown = document.getElementById("record-shown");
  const play = document.getElementById("record-play");
  const first = Number(banner.dataset.first);
  const last = Number(banner.dataset.last);
  const marks = [...banner.querySelectorAll("[data-mark]")].map((mark) => Number(mark.dataset.mark));

  let asked = null;
  let playing = null;

  function at_end() {
    return Number(slider.value) >= last - NEAR;
  }

  /** Write an instant as local date and time of day. */
  function clock(time) {
    const local = new Date(1000 * (time - 60 * new Date(1000 * time).getTimezoneOffset()));
    return local.toISOString().slice(0, 19).replace("T", " ");
  }

  function tell() {
    asked = null;
    const time = Number(Number(slider.value).toFixed(3));
    window.memdash.choose(at_end() ? null : [time, time], {replace: true});
  }

  /** Follow what was chosen elsewhere: on a chart, by the keyboard or the address. */
  function follow() {
    const at = window.memdash.at();
    if (asked === null && Math.abs((at?.[1] ?? last) - Number(slider.value)) > NEAR) {
      stop();
      slider.value = String(at?.[1] ?? last);
      show();
    }
  }

  function show() {
    const time = Number(slider.value);
    shown.textContent = clock(time);
    slider.setAttribute("aria-valuetext", clock(time));
  }

  /** Look at an instant; while one is dragged to, not each on the way is asked for. */
  function go(time) {
    slider.value = String(Math.min(last, Math.max(first, time)));
    moved();
  }

  function moved() {
    show();
    if (asked === null) {
      asked = window.setTimeout(tell, SOON);
    }
  }

  function stop() {
    window.clearInterval(playing);
    playing = null;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
  }

  function start() {
    if (at_end()) {
      go(first);
    }
    play.textContent = "Stop";
    play.setAttribute("aria-pressed", "true");
    playing = window.setInterval(() => {
      go(Number(slider.value) + Math.max(1, (last - first) / STEPS));
      if (at_end()) {
        stop();
      }
    }, STEP);
  }

  function toggle() {
    if (playing === null) {
      start();
    } else {
      stop();
    }
  }

  function previous() {
    stop();
    go(marks.findLast((mark) => mark < Number(slider.value) - 1) ?? first);
  }

  function next() {
    stop();
    go((marks.find((mark) => mark > Number(slider.value)) ?? last) + 0.5);
  }

  document.addEventListener("memdash-at", follow);
  play.addEventListener("click", toggle);
  slider.addEventListener("input", moved);
  slider.addEventListener("pointerdown", stop);
  document.getElementById("record-previous").addEventListener("click", previous);
  document.getElementById("record-next").addEventListener("click", next);
  document.getElementById("record-end").addEventListener("click", () => {
    stop();
    go(last);
  });
  for (const mark of banner.querySelectorAll("[data-mark]")) {
    mark.addEventListener("click", () => {
      stop();
      go(Number(mark.dataset.mark) + 0.5);
    });
  }
  // Steps of the keyboard: a hundredth of the record, and a tenth.
  slider.addEventListener("keydown", (event) => {
    const step = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10}[event.key];
    if (step !== undefined) {
      event.preventDefault();
      stop();
      go(Number(slider.value) + step * Math.max(1, (last - first) / 100));
    } else if (event.key === " ") {
      event.preventDefault();
      toggle();
    }
  });
  document.addEventListener("keydown", (event) => {
    const target = event.composedPath()[0];
    const typing = target instanceof HTMLInputElement && target !== slider;
    if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) {
      return;
    }
    if (event.key === "[") {
      previous();
    } else if (event.key === "]") {
      next();
    } else if (event.key === " " && target === document.body) {
      event.preventDefault();
      toggle();
    }
  });
  // What is saved is of the instant that is shown.
  document.addEventListener("click", (event) => {
    const link = event.composedPath().find((part) => part instanceof HTMLAnchorElement);
    if (link?.hasAttribute("download") && /^memdash\/(report|tables)/.test(link.getAttribute("href"))) {
      const address = new URL(link.href);
      address.searchParams.delete("at");
      const at = new URL(window.location.href).searchParams.get("at");
      if (at !== null) {
        address.searchParams.set("at", at);
      }
      link.href = `memdash/${address.href.split("/memdash/").pop()}`;
    }
  }, {capture: true});

  document.getElementById("pause").hidden = true;
  show();
})();
