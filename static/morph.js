/* Texts of the views change in place: what stays the same stays, with the keyboard's focus, what is
 * marked, how far it is scrolled and which details are open. No dependencies. */
"use strict";

window.memdash_morph = (() => {
  function same_kind(before, after) {
    return before.nodeType === after.nodeType && before.nodeName === after.nodeName;
  }

  function sync_attributes(before, after) {
    for (const {name} of [...before.attributes]) {
      const opened = name === "open" && before.nodeName === "DETAILS";  // by the reader
      if (!opened && !after.hasAttribute(name)) {
        before.removeAttribute(name);
      }
    }
    for (const {name, value} of after.attributes) {
      if (before.getAttribute(name) !== value) {
        before.setAttribute(name, value);
      }
    }
  }

  function sync_children(before, after) {
    const [old, fresh] = [[...before.childNodes], [...after.childNodes]];
    fresh.forEach((node, i) => {
      if (i >= old.length) {
        before.append(node);
      } else if (!same_kind(old[i], node)) {
        old[i].replaceWith(node);
      } else if (node instanceof Element) {
        sync_attributes(old[i], node);
        sync_children(old[i], node);
      } else if (old[i].data !== node.data) {
        old[i].data = node.data;
      }
    });
    for (const node of old.slice(fresh.length)) {
      node.remove();
    }
  }

  /** Make an element hold some HTML, which comes from our templates alone. */
  function morph(element, html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    sync_children(element, template.content);
  }

  /** Have views of a kind change their texts so: Panel's would write each anew. */
  function adopt(view) {
    const kind = Object.getPrototypeOf(view);
    if (!Object.hasOwn(kind, "memdash")) {
      kind.memdash = true;
      kind.set_html = function set_html(html) {
        if (html !== null && this.container) {
          morph(this.container, html);
        }
      };
    }
  }

  return {morph, adopt};
})();
