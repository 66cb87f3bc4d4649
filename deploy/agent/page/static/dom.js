// The page is made of text nodes alone: what comes from streams and peers is never read as markup.

/** An element. `about`: attributes; `class`, `data` and `on` as one would think; the rest are children or texts. */
export function h(tag, about = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (name === "class") made.className = value;
    else if (name === "data") Object.assign(made.dataset, value);
    else if (name === "on") for (const [event, heard] of Object.entries(value)) made.addEventListener(event, heard);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

export const find = (id) => document.getElementById(id);

/** Write only what has changed: selections, focus and screen readers are left alone. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, name, value) {
  if (value === undefined || value === null || value === "") {
    if (name in element.dataset) delete element.dataset[name];
  } else if (element.dataset[name] !== value) element.dataset[name] = value;
}

export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** Keep the children of `parent` in step with `rows`: `make(row)` gives {element, update(row)} for a new key. */
export class Keyed {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.known = new Map();
  }

  update(rows, keyOf) {
    const keys = new Set();
    let before = null;
    for (const row of rows) {
      const key = keyOf(row);
      if (keys.has(key)) continue;
      keys.add(key);
      let one = this.known.get(key);
      if (!one) this.known.set(key, (one = this.make(row)));
      const place = before === null ? this.parent.firstChild : before.nextSibling;
      if (place !== one.element) this.parent.insertBefore(one.element, place);
      one.update(row);
      before = one.element;
    }
    for (const [key, one] of this.known) {
      if (keys.has(key)) continue;
      one.element.remove();
      one.gone?.();
      this.known.delete(key);
    }
  }
}
