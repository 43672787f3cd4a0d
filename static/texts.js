/* What the page does with the texts that its views write: lines to copy, and the keyboard's
 * place when a text is written anew.  The texts live in shadow roots.  No dependencies. */
"use strict";

(() => {
  /** Milliseconds for which a button says that it has copied. */
  const SAID = 2000;

  /** Copy a text; pages without TLS have no clipboard but the old way. */
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const field = document.createElement("textarea");
      field.value = text;
      field.setAttribute("aria-hidden", "true");
      field.style.cssText = "position: fixed; opacity: 0";
      document.body.append(field);
      field.select();
      const done = document.execCommand("copy");
      field.remove();
      return done;
    }
  }

  async function copy_line(event) {
    const button = event.composedPath().find((node) => node instanceof HTMLButtonElement && node.dataset.copy !== undefined);
    if (button === undefined) {
      return;
    }
    const label = button.textContent;
    const done = await copy(button.dataset.copy);
    button.focus();
    button.textContent = done ? "Copied" : "Select it";
    document.getElementById("said").textContent = done ? "Copied." : "The browser does not allow it: select the line instead.";
    window.setTimeout(() => {
      button.textContent = label;
      document.getElementById("said").textContent = "";
    }, SAID);
  }

  /** What names a link or a button in its text, so that it is found again in a new one. */
  function name_of(node) {
    return node.getAttribute?.("href") ?? node.dataset?.copy;
  }

  /** Give the keyboard its place back: a text that is written anew has new links. */
  function keep_focus() {
    let kept = null;
    document.addEventListener("focusin", (event) => {
      const [node] = event.composedPath();
      const root = node.getRootNode?.();
      const name = root instanceof ShadowRoot ? name_of(node) : undefined;
      kept?.observer.disconnect();
      kept = null;
      if (name === undefined) {
        return;
      }
      const observer = new MutationObserver(() => {
        const lost = kept !== null && !kept.node.isConnected && document.activeElement === document.body;
        const again = lost && [...root.querySelectorAll("a[href], button[data-copy]")].find((one) => name_of(one) === name);
        if (again) {
          again.focus({preventScroll: true});
        }
      });
      kept = {node, observer};
      observer.observe(root, {childList: true, subtree: true});
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.addEventListener("click", copy_line);
    keep_focus();
  }, {once: true});
})();
