// Elements, built by one function; and what many parts need of the document.

// An element: "tag.class.class", attributes, listeners ("onclick"), properties (".value") and children, of which null and false are left out.
export function h(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith(".")) element[name.slice(1)] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...present(children));
  return element;
}

// What there is of children, which may be lists of them.
export function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined);
}

// Whether keys typed at an element are text.
export function takesText(element) {
  return element.closest("input:not([type=checkbox]), textarea, select, .editor") !== null;
}

export const phone = matchMedia("(max-width: 719px)");
export const coarse = matchMedia("(pointer: coarse)");

// Runs the latest of many calls, `ms` after the last one.
export function settled(ms, work) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, ms);
  };
}

// What was kept in this browser's `area`, which may be closed to us.
export function recall(area, key) {
  try {
    return area.getItem(key);
  } catch {
    return null;
  }
}

export function keep(area, key, value) {
  try {
    if (value === null) area.removeItem(key);
    else area.setItem(key, value);
  } catch {
    // it is full, or closed: nothing depends on it
  }
}

// Arrow keys among the elements of a group, of which one is in the order of tabbing.
export function roving(event, elements, forward, back) {
  const at = elements.indexOf(document.activeElement);
  const to = { [forward]: at + 1, [back]: at - 1, Home: 0, End: elements.length - 1 }[event.key];
  if (to === undefined || !elements.length) return;
  event.preventDefault();
  event.stopPropagation();
  elements[(to + elements.length) % elements.length].focus();
}
