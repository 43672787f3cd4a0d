/* What a page shows that it should not: text that is cut, what must be scrolled sideways, what
 * sticks out of the window. Looks into shadow roots; gives plain texts, at most 40. */
() => {
  const found = new Set();
  const width = document.documentElement.clientWidth;
  const name = (element) => {
    const label = element.closest?.("[aria-label]")?.getAttribute("aria-label") ?? "";
    const text = (element.textContent ?? "").trim().replace(/\s+/g, " ").slice(0, 60);
    return `${element.tagName.toLowerCase()}.${String(element.className?.baseVal ?? element.className).split(" ")[0]} “${text}” ${label ? `in ${label}` : ""}`;
  };
  const own_text = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim() !== "");
  function walk(root, clip) {
    for (const element of root.children ?? []) {
      const style = getComputedStyle(element);
      if (style.display === "none" || style.visibility === "hidden" || element.hidden) {
        continue;
      }
      const box = element.getBoundingClientRect();
      const shown = box.width > 1 && box.height > 1;
      const scrolls = ["auto", "scroll"].includes(style.overflowX);
      const hides = ["hidden", "clip"].includes(style.overflowX);
      const canvas = element.tagName === "CANVAS" || element.tagName === "svg";
      const unseen = element.classList?.contains("md-hidden");
      if (shown && !canvas && !unseen) {
        if (scrolls && element.scrollWidth > element.clientWidth + 1) {
          found.add(`scrolls sideways: ${name(element)} (${element.scrollWidth} in ${element.clientWidth})`);
        }
        if (hides && own_text(element) && element.scrollWidth > element.clientWidth + 1) {
          found.add(`cut: ${name(element)}`);
        }
        if (hides && own_text(element) && style.webkitLineClamp !== "none" && !element.title && element.scrollHeight > element.clientHeight + 2) {
          found.add(`cut after lines: ${name(element)}`);
        }
        if (!clip && own_text(element) && (box.right > width + 1 || box.left < -1)) {
          found.add(`out of the window: ${name(element)} (${Math.round(box.left)} to ${Math.round(box.right)} of ${width})`);
        }
      }
      const inner = clip || scrolls || hides || unseen;
      walk(element, inner);
      if (element.shadowRoot) {
        walk(element.shadowRoot, inner);
      }
    }
  }
  walk(document.body, false);
  const scroller = document.scrollingElement;
  if (scroller.scrollWidth > scroller.clientWidth) {
    found.add(`the page scrolls sideways: ${scroller.scrollWidth} in ${scroller.clientWidth}`);
  }
  return [...found].slice(0, 40);
}
